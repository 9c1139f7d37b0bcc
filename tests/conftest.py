"""Fixtures shared by all tests."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
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
    """Runs the command line in a process of its own, in the folder ``here``; its final measurement takes two short rounds."""
    here = tmp_path / "here"
    here.mkdir()

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = dovetail_command(arguments, rounds=2)
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


def dovetail_command(arguments: Iterable[object], *, rounds: int | None = None) -> list[str]:
    """The command line with short blocks in the final measurement, for tests that its precision does not concern."""
    shorter = f"finals.ROUNDS, finals.BLOCKS, finals.BLOCK_S, finals.START_S = {rounds}, 3, 0.02, 0.3"
    prelude = f"from dovetail.pipeline import finals; {shorter}; " if rounds else ""
    return [sys.executable, "-c", f"{prelude}from dovetail.cli import main; main()", *map(str, arguments)]


def private_environment(folder: Path) -> dict[str, str]:
    """Cache and temporary files, and with them the measurement lock, under a folder."""
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    private = {"DOVETAIL_CACHE": str(folder / "cache"), "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return {**os.environ, **private}


WATCH = """
import os, sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        with open(os.environ["SOCKET_LOG"], "a") as log:
            log.write(f"{event} {arguments[1:]}\\n")

sys.addaudithook(hook)
open(os.environ["SOCKET_LOG"], "a").write(f"watching {os.getpid()}\\n")
"""


def socket_watch(log: Path) -> dict[str, str]:
    """Environment in which every Python process, children included, notes in a file which sockets it opens."""
    site = log.parent / "watch"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WATCH)
    return {"PYTHONPATH": str(site), "SOCKET_LOG": str(log)}
