"""What the models of edge accelerators need to know of a network: a few sizes, and of what kind it is where that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TAGS = ("attention", "dense", "depthwise", "inception", "resnet", "text")
"""Kinds of networks that operators tell apart: attention; an output as large as the input image; depthwise convolutions;
concatenations of several branches; sums of a branch and its input; attention without an image."""

_UNITS = {"pixels": 2e5, "layers": 60.0, "params": 1e7}
"""Sizes of a middling network, so that coefficients are seconds of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network, one sample a call.

    Attributes:
        flop: of one inference, a multiply-add = 2.
        pixels: height times width of the input; a clip's or a stereo pair's are summed; ``None`` when not stated.
        params: number of weights; ``None`` when not stated.
        layers: convolutions and matrix products; ``None`` when not known.
        tags: kind of :data:`TAGS` → 1 or 0 (of microcontrollers also ``vectors``: products of matrices with single vectors);
            what is left out is not known.
    """

    flop: float
    pixels: float | None = None
    params: float | None = None
    layers: float | None = None
    tags: Mapping[str, float] = field(default_factory=dict)

    @property
    def bare(self) -> bool:
        """Whether its kind is not known, so that it is predicted from its sizes alone."""
        return not self.tags


def sizes(networks: Sequence[Network], unstated: Mapping[str, Any]) -> dict[str, Floats]:
    """``pixels``, ``layers``, ``params`` (each ``[n]``, in units of a middling network) and ``flop``.

    Args:
        networks: ``[n]``.
        unstated: size → ``[a, b]``: what is not stated is taken as ``exp(a + b · ln flop)``, fitted to those that state it.
    """
    flop = np.array([network.flop for network in networks], dtype=np.float64)
    found = {"flop": flop}
    for name, unit in _UNITS.items():
        stated = np.array([_or_nan(getattr(network, name)) for network in networks], dtype=np.float64)
        a, b = unstated[name]
        found[name] = np.where(np.isnan(stated), np.exp(a + b * np.log(flop)), stated) / unit
    return found


def typical(networks: Sequence[Network]) -> dict[str, list[float]]:
    """``unstated`` of :func:`sizes`, from networks that state their sizes; the middling one where none does."""
    return {name: _line(networks, name, unit) for name, unit in _UNITS.items()}


def _line(networks: Sequence[Network], name: str, unit: float) -> list[float]:
    stated = [network for network in networks if getattr(network, name) is not None]
    logs = np.log([network.flop for network in stated])
    if len(set(logs)) < 2:
        return [float(np.log(unit)), 0.0]
    slope, start = np.polyfit(logs, np.log([getattr(network, name) for network in stated]), 1)
    return [round(float(start), 5), round(float(slope), 5)]


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
