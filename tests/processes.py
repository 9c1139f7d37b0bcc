"""Runs the command line in processes of its own."""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)


def dovetail_command(arguments: Iterable[object], *, rounds: int | None = None) -> list[str]:
    """The command line with short blocks in the final measurement, for tests that its precision does not concern."""
    shorter = f"finals.ROUNDS, finals.BLOCKS, finals.BLOCK_S, finals.START_S = {rounds}, 3, 0.02, 0.3"
    prelude = f"from dovetail.pipeline import finals; {shorter}; " if rounds else ""
    return [sys.executable, "-c", f"{prelude}from dovetail.cli import main; main()", *map(str, arguments)]


def private_environment(folder: Path) -> dict[str, str]:
    """Cache, temporary files and measurement lock under a folder."""
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    places = {
        "DOVETAIL_CACHE": folder / "cache",
        "DOVETAIL_CONFIG": folder / "config",
        "DOVETAIL_LOCK": scratch / "measure.lock",
        "TMPDIR": scratch,
    }
    private = {name: str(place) for name, place in places.items()}
    return {**os.environ, **private, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def without_privileges() -> None:
    """To be called in a child before it starts its program: permissions of files hold for root too (Linux)."""
    if os.geteuid() == 0:
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if _LIBC.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
                raise OSError(ctypes.get_errno(), "the capability cannot be dropped")


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
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "SOCKET_LOG": str(log)}
