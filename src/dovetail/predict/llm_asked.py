"""Questions about language models on devices, and answers with intervals, one element each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import Device
from dovetail.core.transformer import Transformer
from dovetail.predict.llm_setting import Setting

Floats = NDArray[np.float64]

REGIMES = ("run", "cell", "model", "device", "both")
"""How far a question is from what was fitted: another run of a known combination; an unknown combination of a known model and a
known device; an unknown model; an unknown device; neither known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be predicted, ``[n]`` of each.

    Attributes:
        models: that are served.
        devices: that they are served on.
        dtypes: of :data:`dovetail.core.device.DTYPES`: what weights are multiplied in.
        backends: ``vllm``, ``sglang``, ``trtllm`` or another.
        precisions: what a precision is called; runs of one name share a correction.
        setting: of server and requests.
    """

    models: Sequence[Transformer]
    devices: Sequence[Device]
    dtypes: Sequence[str]
    backends: Sequence[str]
    precisions: Sequence[str]
    setting: Setting

    def keys(self) -> dict[str, list[str]]:
        """Level → key of each question, from what most runs share to what few do."""
        models = [model.name for model in self.models]
        devices = [device.name for device in self.devices]
        cells = [" | ".join(part) for part in zip(self.backends, devices, models, self.precisions, strict=True)]
        return {
            "device": devices,
            "backend on device": [" | ".join(part) for part in zip(self.backends, devices, strict=True)],
            "model": models,
            "cell": cells,
            "cut": [f"{cell} | {count:g}" for cell, count in zip(cells, self.setting.devices, strict=True)],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """Values and the ends of their intervals, each ``[n]``."""

    value: Floats
    low: Floats
    high: Floats


def regimes(effects: Mapping[str, Mapping[str, float]], keys: Mapping[str, Sequence[str]]) -> NDArray[np.str_]:
    """Which of :data:`REGIMES` each question belongs to, ``[n]``."""
    known = {
        level: np.array([key in effects.get(level, {}) for key in keys[level]], dtype=bool)
        for level in ("device", "model", "cell")
    }
    choices = (known["cell"], known["model"] & known["device"], known["device"], known["model"])
    return np.select(choices, ("run", "cell", "model", "device"), "both")


def bounded(value: Floats, spreads: Mapping[str, Mapping[str, float]], regime: NDArray[np.str_]) -> Bounded:
    """Ends of the intervals: the factors of each question's regime.

    Args:
        value: ``[n]`` above zero.
        spreads: regime → ``low`` and ``high``, as :class:`dovetail.predict.spread.Spread` has them.
        regime: ``[n]``.
    """
    ends = {end: np.array([spreads[name][end] for name in regime]) for end in ("low", "high")}
    return Bounded(value=value, low=value * ends["low"], high=value * ends["high"])
