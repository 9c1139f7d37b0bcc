"""Microcontrollers and their small accelerators, as MLPerf Tiny v1.2 measured them.

An inference takes the sum of a call, its operations and its weights, each at a number of clock cycles that depends on the core,
on whether it computes in float, and on the library. Energy is that time at the power of the kind of core. Fitted by
``benchmarks/published`` to few rows: the intervals are wide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dovetail.predict.edge.additive import Additive, Design, encode
from dovetail.predict.edge.network import Network, sizes
from dovetail.predict.edge.timed import Timed, timed

TERMS = ("call", "flop", "params")
_MHZ = 1e6

_CORES = (
    (r"syntiant", "neural core"),
    (r"npu|ethos|accelerator|nexu|tensor", "accelerator"),
    (r"m0\+?", "Cortex-M0+"),
    (r"m33", "Cortex-M33"),
    (r"m85|m55", "Cortex-M with vectors"),
    (r"m4", "Cortex-M4"),
    (r"m7", "Cortex-M7"),
    (r"risc", "RISC-V"),
    (r"rh850", "RH850"),
)
_USUAL = ("X-CUBE-AI", "HALE")
_MAX_FLOP_PER_CYCLE = 1e4
"""No part of this class makes more; only a floor under what is predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mcu:
    """A part and how it is programmed.

    Attributes:
        core: its kind, of those that :func:`core` tells.
        clock_hz: of the core.
        floats: whether it computes in float32 and not in int8.
        library: that runs the network; ``None`` when not known, which counts as the mean of the two that were measured most.
        tuned: for speed, at the cost of memory.
    """

    core: str
    clock_hz: float
    floats: bool = False
    library: str | None = None
    tuned: bool = False

    def conditions(self) -> dict[str, float]:
        """On what it runs."""
        found = {self.core: 1.0, "float": float(self.floats), "tuned": float(self.tuned)}
        if self.library is None:
            return found | (dict.fromkeys(_USUAL, 1 / len(_USUAL)) if "Cortex" in self.core else {})
        return found | {self.library: 1.0}


def core(text: str) -> str:
    """Kind of core that a description names, ``other`` when it names none."""
    return next((kind for pattern, kind in _CORES if re.search(pattern, text.lower())), "other")


class McuModel:
    """Predicts inferences on microcontrollers.

    Args:
        parameters: as ``benchmarks/published`` fitted them.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self.times = Additive.of_json(parameters["times"])
        self.power = Additive.of_json(parameters["power"])

    def predict(self, networks: Sequence[Network], parts: Sequence[Mcu]) -> Timed:
        """Seconds an inference of ``n`` networks, each on the part of its place."""
        known = design(networks, parts, self.times)
        shares = self.times.shares(known)
        floor_s = [network.flop / part.clock_hz / _MAX_FLOP_PER_CYCLE for network, part in zip(networks, parts, strict=True)]
        return timed(
            self.times.log_seconds(known),
            np.array(floor_s),
            {name: shares[:, j] for j, name in enumerate(TERMS)},
            self.parameters["spreads"],
            bare=np.zeros(len(networks), dtype=bool),
            new=np.array([part.core not in self.times.conditions for part in parts]),
        )

    def energy(self, networks: Sequence[Network], parts: Sequence[Mcu]) -> Timed:
        """Joules an inference, in the fields of seconds."""
        log_s = self.times.log_seconds(design(networks, parts, self.times))
        known = power_design(np.exp(log_s), parts, self.power)
        return timed(
            self.power.log_seconds(known),
            np.zeros(len(networks)),
            {},
            self.parameters["energy spreads"],
            bare=np.zeros(len(networks), dtype=bool),
            new=np.array([part.core not in self.power.conditions for part in parts]),
        )


def design(networks: Sequence[Network], parts: Sequence[Mcu], names: Additive) -> Design:
    """What the time depends on: sizes over the clock."""
    found = sizes(networks, {"pixels": [0.0, 0.0], "layers": [0.0, 0.0], "params": [0.0, 0.0]})
    clocks = np.array([part.clock_hz for part in parts]) / (100 * _MHZ)
    columns = [np.ones(len(networks)) / clocks, found["flop"] / 1e7 / clocks, found["params"] * 100 / clocks]
    return Design(
        sizes=np.stack(columns, axis=1),
        conditions=encode(names.conditions, [part.conditions() for part in parts]),
        tags=encode(names.tags, [network.tags for network in networks], absent=np.nan),
        groups=np.zeros((len(networks), 0)),
    )


def power_design(seconds: Any, parts: Sequence[Mcu], names: Additive) -> Design:
    """What the energy depends on: the time, and the kind of core."""
    return Design(
        sizes=np.asarray(seconds, dtype=np.float64)[:, None],
        conditions=encode(names.conditions, [part.conditions() for part in parts]),
        tags=np.zeros((len(parts), 0)),
        groups=np.zeros((len(parts), 0)),
    )
