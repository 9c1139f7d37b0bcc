"""One measurement at a time on a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from dovetail.core.errors import StorageError

LOCK = Path("/tmp/dovetail-measure.lock")
"""The same for all users and whatever their ``TMPDIR``, so that it locks the machine."""


@contextlib.contextmanager
def measuring(on_wait: Callable[[str], None] = lambda text: None, path: Path | None = None) -> Iterator[None]:
    """Holds the machine-wide measurement lock; waits while another process holds it, and says so once.

    Args:
        on_wait: told why nothing happens.
        path: the lock file, by default ``$DOVETAIL_LOCK``, else :data:`LOCK`.

    Raises:
        StorageError: the lock file cannot be opened.
    """
    path = path or Path(os.environ.get("DOVETAIL_LOCK") or LOCK)
    try:
        handle = _open(path)
    except OSError as exc:
        raise StorageError(f"cannot open the measurement lock: {exc.strerror}", where=str(path)) from exc
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait("another measurement runs on this machine; waiting for it to end")
            # The kernel serves those who wait in turn; who polls loses to all of them.
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    """Opens the file, which may be another user's, or makes it.

    Locking takes no right to write. Opening another's file in a sticky folder with ``O_CREAT`` is refused where the kernel
    protects such files (``fs.protected_regular``), so only what is not there is opened so.
    """
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY)
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.fchmod(handle, 0o644)
        return handle
    return os.open(path, os.O_RDONLY)
