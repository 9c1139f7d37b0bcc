"""One measurement at a time on a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
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
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    on_wait("another measurement runs on this machine; waiting for it to end")
                    told = True
                time.sleep(0.2)
        yield
    finally:
        os.close(handle)
