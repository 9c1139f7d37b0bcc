"""A child process with time and memory limits, spoken to in JSON lines.

The child sleeps on its standard input between commands, so that only one of several is ever awake. It answers on a pipe of its
own, because runtimes print to standard output. Address-space limits break the runtimes, so the resident set of the whole
process tree is watched instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from dovetail.core.outcome import Infeasible

PROGRESS = b'{"progress"'
"""How a line starts that is no answer yet: it says that long work goes on."""
_POLL_S = 0.1
_DETAIL_CHARS = 1500
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
    "PYTHONUNBUFFERED": "1",
}


class ChildFailure(Exception):
    """A command failed; ``outcome`` says at which stage and why, for the record."""

    def __init__(self, outcome: Infeasible) -> None:
        self.outcome = outcome
        super().__init__(f"{outcome.stage}: {outcome.reason}")


class Child:
    """One worker process. Use as a context manager, or :meth:`close` it.

    Args:
        log: file that collects what the child prints.
        memory_limit_bytes: resident set of the process tree above which it is killed; ``None`` for no limit.
    """

    def __init__(self, log: Path, *, memory_limit_bytes: float | None = None) -> None:
        self._log_path = log
        self._limit = memory_limit_bytes
        self._buffer = b""
        self._requests: dict[str, dict[str, Any]] = {}
        self.peak_memory_bytes = 0.0
        log.parent.mkdir(parents=True, exist_ok=True)
        reply_read, reply_write = os.pipe()
        self._reply = reply_read
        with log.open("ab") as sink:
            self._log_start = sink.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dovetail.worker", str(reply_write), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                pass_fds=(reply_write,),
                start_new_session=True,
                env={**os.environ, **QUIET},
            )
        os.close(reply_write)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def call(
        self, op: str, *, timeout_s: float = 600.0, on_progress: Callable[..., None] = lambda *told: None, **arguments: Any
    ) -> dict[str, Any]:
        """Sends one command and waits for its answer.

        Args:
            op: command name of :mod:`dovetail.worker`; also the stage named in a failure.
            timeout_s: the child is killed when it has neither answered nor reported progress for so long.
            on_progress: called with what the child reports meanwhile.
            arguments: JSON values.

        Raises:
            ChildFailure: the command failed, the child died, or a limit was passed. After the last two the child is gone.
        """
        self._requests[op] = {"op": op, **arguments}
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(self._requests[op]).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self.failure(op, self._death()) from None
        watcher = _Watcher(self._process.pid, self._limit)
        try:
            line = self._read_answer(timeout_s, on_progress)
        finally:
            self.peak_memory_bytes = max(self.peak_memory_bytes, watcher.stop())
        if watcher.exceeded:
            self.close()
            raise self.failure(op, f"used more than the {self._limit or 0:.3g} bytes of memory allowed")
        if line is None:
            self.close()
            raise self.failure(op, f"no answer within {timeout_s:.0f} s")
        if not line:
            raise self.failure(op, self._death())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise self.failure(str(reply.get("stage", op)), str(reply["error"]), str(reply.get("detail", "")))
        return reply

    def dismiss(self) -> None:
        """Tells the process that no command follows, and does not wait for its end."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def close(self) -> None:
        """Ends the process and all it started; calling it twice is harmless."""
        if self._reply < 0:
            return
        self.dismiss()
        try:
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(OSError):
            os.close(self._reply)
        self._reply = -1

    def failure(self, stage: str, reason: str, detail: str = "") -> ChildFailure:
        """A failure of this process, with the end of what it printed and a command that repeats what it was asked."""
        if not detail and self._log_path.exists():
            detail = self._log_path.read_bytes()[self._log_start :].decode(errors="replace")
        again = reproduce_command(self._requests.values())
        return ChildFailure(Infeasible(stage=stage, reason=reason, detail=detail[-_DETAIL_CHARS:], reproduce=again))

    def _read_answer(self, timeout_s: float, on_progress: Callable[..., None]) -> bytes | None:
        """The next line that is no report of progress, as :meth:`_read_line` gives it."""
        while (line := self._read_line(timeout_s)) is not None and line.startswith(PROGRESS):
            on_progress(*json.loads(line)["progress"])
        return line

    def _read_line(self, timeout_s: float) -> bytes | None:
        """One answer; empty when the child died, ``None`` at the time limit."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            ready, _, _ = select.select([self._reply], [], [], left)
            if not ready:
                return None
            chunk = os.read(self._reply, 1 << 20)
            if not chunk:
                return b""
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _death(self) -> str:
        try:
            code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return "the process stopped answering"
        if code < 0:
            return f"the process was ended by {signal.Signals(-code).name}"
        return f"the process ended with exit code {code}"


def reproduce_command(requests: Iterable[Mapping[str, Any]]) -> str:
    """A shell command that repeats worker commands, in order, in a process of their own."""
    lines = " ".join(shlex.quote(json.dumps(request)) for request in requests)
    return f"printf '%s\\n' {lines} | {shlex.quote(sys.executable)} -m dovetail.worker 1"


class _Watcher:
    """Follows the resident set of a process tree while a command runs, and ends it above the limit."""

    def __init__(self, pid: int, limit_bytes: float | None) -> None:
        self.exceeded = False
        self._peak = 0.0
        self._pid, self._limit = pid, limit_bytes
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if limit_bytes is not None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def stop(self) -> float:
        """Ends the watch; returns the highest resident set seen, in bytes."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_S):
            self._peak = max(self._peak, resident_bytes(self._pid))
            if self._limit is not None and self._peak > self._limit:
                self.exceeded = True
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._pid, signal.SIGKILL)
                return


def resident_bytes(pid: int) -> float:
    """Resident set of a process and its descendants, in bytes; 0 when it is gone."""
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0.0
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total
