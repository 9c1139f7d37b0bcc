"""One measurement at a time on a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from dovetail.core.errors import StorageError

_PATH = Path(tempfile.gettempdir()) / "dovetail-measure.lock"


@contextlib.contextmanager
def measuring(on_wait: Callable[[str], None] = lambda text: None, path: Path = _PATH) -> Iterator[None]:
    """Holds the machine-wide measurement lock; waits while another process holds it, and says so once.

    Raises:
        StorageError: the lock file cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as exc:
        raise StorageError(f"cannot open the measurement lock: {exc.strerror}", where=str(path)) from exc
    try:
        with contextlib.suppress(OSError):
            os.chmod(path, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait("another measurement runs on this machine; waiting for it to end")
            # The kernel serves those who wait in turn; who polls loses to all of them.
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
