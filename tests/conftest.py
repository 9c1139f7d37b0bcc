"""Fixtures shared by all tests."""

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import dovetail_command, private_environment, socket_watch

ROOT = Path(__file__).resolve().parents[1]
Dovetail = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public models and data; tests that need it skip where it is absent."""
    root = Path(os.environ.get("DOVETAIL_SHARED", ROOT.parent / "shared"))
    data = root / "data"
    if not data.is_dir():
        pytest.skip(f"no shared data at {data}; set DOVETAIL_SHARED")
    return data


@pytest.fixture(scope="session")
def digits() -> Path:
    """Folder of the digits example: ``digits.onnx`` and ``digits.npz``."""
    return ROOT / "examples" / "digits"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment of a process that shares neither cache nor measurement lock with anybody."""
    return private_environment(tmp_path)


@pytest.fixture
def dovetail(tmp_path: Path, environment: dict[str, str]) -> Dovetail:
    """Runs the command line in a process of its own, in the folder ``here``; its final measurement takes one short round."""
    here = tmp_path / "here"
    here.mkdir()

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = dovetail_command(arguments, rounds=1)
        return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """Folder with the digits example fitted once on ONNX Runtime. Look at it, and change nothing in it.

    ``fit/`` is what ``dovetail optimize`` wrote, ``result.json`` what it printed, ``sockets`` what it and its children opened.
    """
    home = tmp_path_factory.getbasetemp()
    home = (home.parent if "PYTEST_XDIST_WORKER" in os.environ else home) / "fitted"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "result.json").exists():
            wishes = ["--metric", "accuracy", "--max-drop", "3pp", "--runtime", "onnxruntime", "--budget", "20s"]
            files = [digits / "digits.onnx", "--data", digits / "digits.npz"]
            command = dovetail_command(["optimize", *files, *wishes, "--out", "fit", "--json"], rounds=6)
            environment = {**private_environment(home), **socket_watch(home / "sockets")}
            done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
            (home / "progress").write_text(done.stderr)
            (home / "result.json").write_text(done.stdout)
    return home
