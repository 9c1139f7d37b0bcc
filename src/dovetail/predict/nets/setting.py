"""How and on what networks run, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to run networks in PyTorch.

    Attributes:
        device: as the catalogue writes it.
        cpu: whether that is a processor; otherwise it is a GPU.
        peak_flop_per_s: in the type that products compute in.
        bandwidth_bytes_per_s: of its memory.
        training: a step forward, back and of the optimiser; otherwise forward alone.
        compiled: by ``torch.compile``.
        precision: ``fp32``, ``bf16``, or ``amp`` and ``amp_bf16`` (automatic mixed precision).
        channels_last: memory layout of activations.
        torch: version, ``2.4``.
        clock: share of the clock that the peak stands for which the power limit leaves
            (:func:`~dovetail.predict.clock.attainable_clock`); all times grow by its inverse.
    """

    device: str
    cpu: bool
    peak_flop_per_s: float
    bandwidth_bytes_per_s: float
    training: bool
    compiled: bool
    precision: str
    channels_last: bool
    torch: float
    clock: float = 1.0

    @property
    def way(self) -> str:
        """Settings of one way are alike but for the sizes of their devices."""
        words = ("cpu" if self.cpu else "gpu", "training" if self.training else "", "compiled" if self.compiled else "eager")
        return " ".join(filter(None, words))

    @property
    def key(self) -> str:
        """Names the setting, device included."""
        layout = "nhwc" if self.channels_last else "nchw"
        return f"{self.device}, {self.way}, {self.precision}, {layout}, torch {self.torch:g}"

    @property
    def element_bytes(self) -> float:
        """Of most activations."""
        return 4.0 if self.precision == "fp32" else 2.0

    def likeness(self, other: Setting) -> int:
        """How much alike two settings of one way and device are: type, then layout, then version."""
        same_layout = self.channels_last == other.channels_last
        return 4 * (self.precision == other.precision) + 2 * same_layout + (self.torch == other.torch)

    def flags(self) -> list[float]:
        """What trees are asked about a setting; nothing that names a device."""
        return [
            float(self.compiled), float(self.training), float(self.cpu), float(self.channels_last), self.torch,
            float(self.precision == "bf16"), float(self.precision == "amp_bf16"),
        ]  # fmt: skip
