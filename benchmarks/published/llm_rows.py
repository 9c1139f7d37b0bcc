"""What rows about language models say of storage and arithmetic, in the product's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dovetail.core.device import Device
from dovetail.core.transformer import Transformer
from dovetail.predict.llm_asked import Asked, regimes
from dovetail.predict.spread import conformal
from published.table import Floats

WEIGHT_BYTES = {"": 2.0, "fp16": 2.0, "fp8": 1.0, "fp8_block": 1.0, "nvfp4": 4.5 / 8, "int4_wo": 4.5 / 8}
"""Quantisation → bytes of one weight, scales included (one of 8 bits for 16 weights, one of 16 bits for 32)."""


def multiplied_in(device: Device, quantisation: str) -> str:
    """Type that weights are multiplied in: 4-bit floats only where a device has units for them, 4-bit integers in 16 bits."""
    peaks = device.peak_flop_per_s
    native = "int4" in peaks and "fp8" in peaks and peaks["int4"].value > 1.5 * peaks["fp8"].value
    if quantisation == "nvfp4" and native:
        return "int4"
    return "fp8" if quantisation.startswith("fp8") else "fp16"


def stored(quantisations: Sequence[str]) -> tuple[Floats, Floats]:
    """Bytes of a weight and of a key or value: caches of quantised models hold 8 bits."""
    weights = np.array([WEIGHT_BYTES[name] for name in quantisations])
    return weights, np.where(weights == 2.0, 2.0, 1.0)


def mixtures(models: Sequence[Transformer]) -> NDArray[np.bool_]:
    """Which models have experts."""
    return np.array([model.experts > 0 for model in models], dtype=bool)


class Errors:
    """Logarithmic errors on rows that were not fitted, by quantity and by how far the row is from the fitted ones."""

    def __init__(self, quantities: Sequence[str]) -> None:
        self._found: dict[str, dict[str, list[tuple[str, float]]]] = {name: {} for name in quantities}

    def add(self, quantity: str, effects: Mapping[str, Mapping[str, float]], asked: Asked, errors: Floats) -> None:
        """Errors of one quantity, ``[n]``, of the questions that they were made on."""
        keys = asked.keys()
        groups = {"model": keys["model"], "device": keys["device"]}
        for index, (kind, error) in enumerate(zip(regimes(effects, keys), errors, strict=True)):
            group = groups.get(str(kind), keys["cell"])[index]
            self._found[quantity].setdefault(str(kind), []).append((group, float(error)))

    def spreads(self) -> dict[str, dict[str, dict[str, float]]]:
        """Quantity → regime → spread. What no inner split left out takes the errors of unknown models and devices together."""
        return {quantity: _spreads(found) for quantity, found in self._found.items()}


def _spreads(found: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, dict[str, float]]:
    model, device = list(found.get("model", [])), list(found.get("device", []))
    far = model + device + list(found.get("both", []))
    errors = {
        "run": found.get("run", []),
        "cell": [*found.get("cell", []), *far],
        "model": model,
        "device": device,
        "both": far,
    }
    return {regime: spread_of(list(some) or far) for regime, some in errors.items()}


def spread_of(errors: Sequence[tuple[str, float]], coverage: float = 0.9) -> dict[str, float]:
    """Spread of errors that come in groups (of one model, of one device), each given with its group.

    The rows of a group err alike, so that the number of groups, not of rows, says how well the spread is known: its ends are
    moved out by Student's quantile for the groups over that of the normal distribution.
    """
    spread = conformal(np.array([error for _, error in errors]), coverage)
    groups = max(len({group for group, _ in errors}), 2)
    tail = (1 + coverage) / 2
    wider = float(stats.t.ppf(tail, groups - 1) / stats.norm.ppf(tail))
    return {"low": spread.low**wider, "high": spread.high**wider}
