"""Fixtures shared by all tests."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
    """Runs the command line in a process of its own, in an empty folder."""
    here = tmp_path / "here"
    here.mkdir()

    def run(*arguments: object, cwd: Path = here) -> subprocess.CompletedProcess[str]:
        return run_dovetail(arguments, cwd, environment)

    return run


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """The digits example fitted once on ONNX Runtime: the folder that ``dovetail optimize`` wrote. Do not change it."""
    home = tmp_path_factory.getbasetemp()
    home = home.parent / "shared-fit" if "PYTEST_XDIST_WORKER" in os.environ else home / "shared-fit"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "fit" / "manifest.json").exists():
            wishes = ["--metric", "accuracy", "--max-drop", "3pp", "--runtime", "onnxruntime", "--budget", "25s"]
            arguments = [digits / "digits.onnx", "--data", digits / "digits.npz", *wishes, "--out", "fit", "--json"]
            done = run_dovetail(["optimize", *arguments], home, private_environment(home))
            assert done.returncode == 0, done.stderr
            (home / "result.json").write_text(done.stdout)
    return home / "fit"


def private_environment(folder: Path) -> dict[str, str]:
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    private = {"DOVETAIL_CACHE": str(folder / "cache"), "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return {**os.environ, **private}


def run_dovetail(arguments: object, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    code = "from dovetail.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
