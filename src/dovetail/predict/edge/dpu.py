"""Deep-learning processors (DPU) in the logic of Xilinx boards, as the Vitis AI model zoos measured them, end to end.

A frame takes the sum of a call, its operations at the peak of the cores it can use, its pixels (the host resizes and copies
them), its layers, its weights from DRAM, and where the output is as large as the input the host's work on that. With several
threads all cores work and the host's work overlaps. Fitted by ``benchmarks/published``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dovetail.predict.edge.additive import Additive, Design, encode
from dovetail.predict.edge.network import Network, sizes
from dovetail.predict.edge.timed import Timed, timed

TERMS = ("call", "flop", "pixels", "layers", "params", "dense pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dpu:
    """How a board is configured.

    Attributes:
        board: its short name.
        core: kind of DPU core (``DPUCZDX8G``).
        kernels: cores.
        peak_flop_per_s: of all of them.
        variant: what else tells configurations apart.
    """

    board: str
    core: str
    kernels: int
    peak_flop_per_s: float
    variant: str = ""

    @property
    def name(self) -> str:
        """Unique among the fitted ones."""
        return f"{self.board} {self.kernels}x{self.core}{self.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A configuration and whether several threads feed it."""

    dpu: Dpu
    multi: bool

    @property
    def peak_flop_per_s(self) -> float:
        """Of the cores that are used."""
        return self.dpu.peak_flop_per_s / (1 if self.multi else self.dpu.kernels)

    def conditions(self) -> dict[str, float]:
        """On what it runs."""
        found = {"log kernels": math.log(self.dpu.kernels if self.multi else 1)}
        names = [f"core {self.dpu.core}", self.dpu.name]
        names += ["several threads", f"{self.dpu.name}, several threads"] if self.multi else []
        return found | dict.fromkeys(names, 1.0)


class DpuModel:
    """Predicts frames on DPUs.

    Args:
        parameters: as ``benchmarks/published`` fitted them.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self.times = Additive.of_json(parameters["times"])

    def predict(self, networks: Sequence[Network], runs: Sequence[Run]) -> Timed:
        """Seconds a frame of ``n`` networks, each on the run of its place."""
        known = design(networks, runs, self.times, self.parameters["unstated"])
        floor_s = np.array([network.flop / run.dpu.peak_flop_per_s for network, run in zip(networks, runs, strict=True)])
        shares = self.times.shares(known)
        return timed(
            self.times.log_seconds(known),
            floor_s,
            {name: shares[:, j] for j, name in enumerate(TERMS)},
            self.parameters["spreads"],
            bare=np.array([network.bare for network in networks]),
            new=np.array([run.dpu.name not in self.times.conditions for run in runs]),
        )


def design(networks: Sequence[Network], runs: Sequence[Run], names: Additive, unstated: Mapping[str, Any]) -> Design:
    """What the time depends on, in the order of ``names``."""
    found = sizes(networks, unstated)
    peaks = np.array([run.peak_flop_per_s for run in runs])
    dense = np.array([network.tags.get("dense", 0.0) for network in networks])
    columns = {
        "call": np.ones(len(networks)),
        "flop": found["flop"] / peaks,
        "dense pixels": found["pixels"] * dense,
        **{name: found[name] for name in ("pixels", "layers", "params")},
    }
    return Design(
        sizes=np.stack([columns[name] for name in TERMS], axis=1),
        conditions=encode(names.conditions, [run.conditions() for run in runs]),
        tags=encode(names.tags, [network.tags for network in networks], absent=np.nan),
        groups=encode(names.groups, [{run.dpu.core: 1.0} for run in runs]),
    )


_CONFIGURATIONS = (
    (r"(?P<n>\d+) \* B(?P<each>\d+)\w* *@ *(?P<mhz>\d+)MHz", "DPUCZDX8G", 1),
    (r"(?P<each>\d+) *AIEs running at (?P<mhz>\d+) *MHz", "DPUCVDX8G", 256),
    (r"(?P<core>DPUCVDX8H)(?P<variant>\S*) running at (?P<n>\d)PE@(?P<mhz>\d+)", "", 28571),
    (r"(?P<n>\d+) (?P<core>DPUCAHX8[HL])(?P<variant>\S*) kernels running at (?P<mhz>\d+)MHz", "", 4096),
    (r"(?P<n>\d+) (?P<core>DPUCADF8H) kernels running at (?P<mhz>\d+)MHz", "", 20480),
    (r"(?P<n>\d+) (?P<core>DPUCADX8G) kernels running at (?P<mhz>\d+)MHz", "", 12288),
    (r"C(?P<each>\d+)B(?P<batch>\d+)CU(?P<n>\d+)@(?P<mhz>\d+)MHz", "DPUCV2DX8G", 4 * 512),
)
"""How configurations are written, their core, and operations a cycle of one of the units that they count. By its name for
DPUCZDX8G (PG338); 256 for an AIE (PG389) and 512 for an AIE-ML tile (AM020); 10 TOPS at 350 MHz for DPUCVDX8H (UG1354 2.5).
Assumed, as read nowhere: DPUCAHX8H and L, DPUCADF8H, DPUCADX8G, and AIE-ML clocks of four times the logic's in C20B14. A wrong
one is taken up by the fitted coefficients of its core, and matters only for the floor under a time."""


def configuration(board: str, text: str) -> Dpu | None:
    """Reads how a zoo writes a configuration, such as ``3 * B4096  @ 281MHz``; ``None`` when it is written otherwise."""
    for pattern, core, flop_per_cycle in _CONFIGURATIONS:
        if found := re.search(pattern, text, re.IGNORECASE):
            named = found.groupdict()
            units = math.prod(int(named.get(name) or 1) for name in ("n", "each", "batch"))
            return Dpu(
                board=board,
                core=core or named["core"],
                kernels=int(named.get("n") or 1),
                peak_flop_per_s=units * flop_per_cycle * float(named["mhz"]) * 1e6,
                variant=named.get("variant") or "",
            )
    return None
