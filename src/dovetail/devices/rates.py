"""What memory, disk and image input of this machine deliver, measured: a few seconds in a process of its own."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

_ARRAY_BYTES = 1 << 26
"""Of each array: several times a usual cache, so that copies go through memory."""
_FILE_BYTES = 1 << 27
_CHUNK_BYTES = 1 << 22
_SECONDS = 0.4
_PICTURE = (480, 640, 3)
"""Height, width and channels of the image that is decoded."""


def memory_bytes_per_s(threads: int) -> float:
    """Bytes read and written a second by copies of large arrays, one pair of arrays a thread; the best of the passes.

    Counted as STREAM does (McCalpin, https://www.cs.virginia.edu/stream/ref.html): both arrays, and not the line that a store
    may load first.
    """
    pairs = [(np.ones(_ARRAY_BYTES // 8), np.zeros(_ARRAY_BYTES // 8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))

        return 2.0 * _ARRAY_BYTES * threads / _best(copy)


def disk_bytes_per_s(folder: Path) -> dict[str, float]:
    """Bytes a second written to the disk and read back from it, past the system's cache where it lets go of it.

    Raises:
        OSError: the folder cannot be written.
    """
    chunk = np.random.default_rng(0).bytes(_CHUNK_BYTES)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(_FILE_BYTES // _CHUNK_BYTES):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        written_s = time.perf_counter() - start
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        start = time.perf_counter()
        for _ in iter(partial(file.read, _CHUNK_BYTES), b""):
            pass
        read_s = time.perf_counter() - start
    return {"disk_write_bytes_per_s": _FILE_BYTES / written_s, "disk_read_bytes_per_s": _FILE_BYTES / read_s}


def input_bytes_per_s() -> dict[str, float]:
    """Bytes of pixels a second that one thread decodes from JPEG, and turns into normalised floats; the latter without Pillow.

    The picture is a smooth gradient with noise: decoding takes longer the more detail there is, so that this is a typical case
    and no bound.
    """
    height, width, channels = _PICTURE
    slope = np.linspace(0, 200, height * width * channels).reshape(_PICTURE)
    pixels = (slope + np.random.default_rng(0).normal(25, 12, _PICTURE)).clip(0, 255).astype(np.uint8)

    def normalize() -> None:
        np.multiply(np.subtract(pixels, 118.0, dtype=np.float32), 0.017, dtype=np.float32).transpose(2, 0, 1).copy()

    found = {"normalize_bytes_per_s": pixels.nbytes / _best(normalize)}
    try:
        from PIL import Image
    except ImportError:
        return found
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", quality=85)

    def decode() -> None:
        Image.open(io.BytesIO(stored.getvalue())).load()

    return {**found, "decode_bytes_per_s": pixels.nbytes / _best(decode)}


def _best(action: Callable[[], None]) -> float:
    """Least seconds of a repetition within a fixed time, at least three."""
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)
