"""Checkpoints: what a training needs to go on after a kill as if nothing had happened.

Tensors lie in a safetensors file, everything else in ``checkpoint.json``, which names that file and is replaced at last. So a
kill at any moment leaves the former checkpoint or the new one. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from dovetail.core.errors import StorageError

SCHEMA = 1
_HEADER = "checkpoint.json"
_WRITING_SHARE = 0.02
"""Most of the time that writing may take: large models are written less often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint that was read.

    Attributes:
        tensors: name → tensor.
        values: plain JSON.
    """

    tensors: Mapping[str, Any]
    values: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: of this training alone.
        identity: hash of everything that decides its course; a checkpoint of another identity counts as absent.
        every_s: seconds between checkpoints.
    """

    def __init__(self, folder: Path, identity: str, every_s: float = 20.0) -> None:
        self.folder, self._identity, self._every_s = folder, identity, every_s
        self._next = time.monotonic() + every_s

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._next

    def write(self, step: int, tensors: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Replaces the checkpoint.

        Raises:
            StorageError: nothing can be written there.
        """
        started = time.monotonic()
        name = f"step-{step}-{os.getpid()}-{time.time_ns()}.safetensors"
        header = {"schema": SCHEMA, "identity": self._identity, "step": step, "tensors": name, "values": dict(values)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _replace(self.folder / name, save({key: tensor.detach().contiguous() for key, tensor in tensors.items()}))
            _replace(self.folder / _HEADER, json.dumps(header).encode())
            for other in self.folder.glob("step-*"):
                if other.name != name:
                    other.unlink(missing_ok=True)
        except OSError as error:
            what = f"cannot write a checkpoint: {error.strerror or error}"
            raise StorageError(what, where=str(self.folder), hint="free space there, or choose another --out") from error
        took = time.monotonic() - started
        self._next = time.monotonic() + max(self._every_s, took / _WRITING_SHARE)

    def read(self) -> Saved | None:
        """The last checkpoint of this training; ``None`` where there is none, or one that cannot be used."""
        try:
            header = json.loads((self.folder / _HEADER).read_text())
            if header["schema"] != SCHEMA or header["identity"] != self._identity:
                return None
            return Saved(tensors=load_file(self.folder / header["tensors"]), values=header["values"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None


def _replace(path: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
