"""Runs the command line in processes of its own."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path


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
