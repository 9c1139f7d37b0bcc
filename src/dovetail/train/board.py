"""Training curves for TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from dovetail.core.training import Epoch


class Board:
    """Writes one point per epoch and curve; does nothing without a folder or without TensorBoard.

    Args:
        folder: of the event files; ``None`` for none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is not None and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder))

    def add(self, row: Epoch) -> None:
        """A point on each curve at the row's step."""
        if self._writer is None:
            return
        for name, value in (("loss", row.loss), ("score", row.score), ("learning_rate", row.learning_rate)):
            if value is not None:
                self._writer.add_scalar(name, value, row.step)

    def close(self) -> None:
        """Finishes the file."""
        if self._writer is not None:
            self._writer.close()
