"""Dataflow chips that keep a whole network on chip where it fits (Hailo), as the Hailo model zoo measured them.

A network that fits streams through: a frame takes the sum of a call, its operations, pixels and layers. One that does not is
cut into contexts, and the chip is loaded anew for each, once a batch: that costs its weights, layers and what is carried from
context to context, over the batch. Whether
it fits is the compiler's doing; a logistic model of its sizes says how likely it is. Fitted by ``benchmarks/published``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.edge.additive import Additive, Design, encode
from dovetail.predict.edge.network import Network, sizes
from dovetail.predict.edge.timed import Timed, timed

Floats = NDArray[np.float64]

TERMS = ("call", "flop", "pixels", "layers", "dense pixels")
SWAPS = ("swapped params", "swapped layers", "swapped pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A chip and the frames that it is given at a time.

    Attributes:
        name: as the model zoo writes it (``HAILO8``).
        peak_flop_per_s: int8.
        dram: whether it has memory of its own beside what is on chip.
        batch: frames between two changes of context.
    """

    name: str
    peak_flop_per_s: float
    dram: bool
    batch: int = 1

    @property
    def family(self) -> str:
        """Chips of a family treat kinds of networks alike."""
        return "with DRAM" if self.dram else "without DRAM"

    def conditions(self) -> dict[str, float]:
        """On what it runs."""
        return self.kind() | {self.name: 1.0}

    def kind(self) -> dict[str, float]:
        """What is known of a chip that no row was fitted to."""
        return {"log peak": float(np.log(self.peak_flop_per_s / 2e13)), self.family: 1.0}


KINDS = ("log peak", "with DRAM", "without DRAM")
_SHARPER = 2.0
"""The time lies between the two ways to run by the odds of each to this power: 1 would be their mean, ever more the likelier.
Chosen by errors on left-out networks."""


class NpuModel:
    """Predicts frames on dataflow chips.

    Args:
        parameters: as ``benchmarks/published`` fitted them.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self.parameters = parameters
        self.whole = Additive.of_json(parameters["whole"])
        self.swapped = Additive.of_json(parameters["swapped"])

    def chance(self, networks: Sequence[Network], chips: Sequence[Chip]) -> Floats:
        """``[n]`` probability that a network fits the chip as a whole."""
        design = whole_design(networks, chips, self.whole, self.parameters["unstated"])
        features = gate_features(networks, chips, design, self.whole, self.parameters)
        odds = np.clip(features @ np.asarray(self.parameters["gate"]), -30, 30)
        chance: Floats = 1 / (1 + np.exp(-odds))
        return chance

    def predict(self, networks: Sequence[Network], chips: Sequence[Chip]) -> Timed:
        """Seconds a frame of ``n`` networks, each on the chip of its place."""
        unstated = self.parameters["unstated"]
        streams = whole_design(networks, chips, self.whole, unstated)
        swaps = swapped_design(networks, chips, self.swapped, unstated)
        chance = self.chance(networks, chips)
        weight = 1 / (1 + ((1 - chance) / chance) ** _SHARPER)
        as_whole, shares = _padded(self.whole.shares(streams), len(SWAPS)), self.swapped.shares(swaps)
        shares = weight[:, None] * as_whole + (1 - weight[:, None]) * shares
        return timed(
            weight * self.whole.log_seconds(streams) + (1 - weight) * self.swapped.log_seconds(swaps),
            np.array([network.flop / chip.peak_flop_per_s for network, chip in zip(networks, chips, strict=True)]),
            {name: shares[:, j] for j, name in enumerate(TERMS + SWAPS)},
            self.parameters["spreads"],
            bare=np.array([network.bare for network in networks]),
            new=np.array([chip.name not in self.whole.conditions for chip in chips]),
        )


def _padded(shares: Floats, n: int) -> Floats:
    return np.pad(shares, ((0, 0), (0, n)))


def whole_design(networks: Sequence[Network], chips: Sequence[Chip], names: Additive, unstated: Mapping[str, Any]) -> Design:
    """What the time of a network that fits depends on."""
    found = sizes(networks, unstated)
    dense = np.array([network.tags.get("dense", 0.0) for network in networks])
    columns = {
        "call": np.ones(len(networks)),
        "flop": found["flop"] / np.array([chip.peak_flop_per_s for chip in chips]),
        "pixels": found["pixels"],
        "layers": found["layers"],
        "dense pixels": found["pixels"] * dense,
    }
    return Design(
        sizes=np.stack([columns[name] for name in TERMS], axis=1),
        conditions=encode(names.conditions, [chip.conditions() for chip in chips]),
        tags=encode(names.tags, [network.tags for network in networks], absent=np.nan),
        groups=encode(names.groups, [{chip.family: 1.0} for chip in chips]),
    )


def swapped_design(networks: Sequence[Network], chips: Sequence[Chip], names: Additive, unstated: Mapping[str, Any]) -> Design:
    """What the time of a network in several contexts depends on."""
    base = whole_design(networks, chips, names, unstated)
    found = sizes(networks, unstated)
    batch = np.array([chip.batch for chip in chips], dtype=np.float64)
    loaded = np.stack([found[name.removeprefix("swapped ")] / batch for name in SWAPS], axis=1)
    return Design(sizes=np.hstack([base.sizes, loaded]), conditions=base.conditions, tags=base.tags, groups=base.groups)


def gate_features(
    networks: Sequence[Network], chips: Sequence[Chip], design: Design, names: Additive, known: Mapping[str, Any]
) -> Floats:
    """``[n, F]`` what decides whether a network fits: its sizes and their interplay, the kind of chip, the kind of network.

    Args:
        networks: ``[n]``.
        chips: ``[n]``.
        design: of the whole networks.
        names: the model that the design is for.
        known: ``unstated`` of :func:`~dovetail.predict.edge.network.sizes`; ``middle``, means over the fitted rows of the
            logarithms of operations over peak, params, pixels and layers.
    """
    found = sizes(networks, known["unstated"])
    flop = np.log(np.maximum(design.sizes[:, TERMS.index("flop")], 1e-12))
    others = [np.log(found[name]) for name in ("params", "pixels", "layers")]
    logs = np.stack([flop, *others], axis=1) - np.asarray(known["middle"])
    params, layers = logs[:, 1], logs[:, 3]
    curved = 0.3 * np.stack([params**2, layers**2, params * layers], axis=1)
    kinds = encode(KINDS, [chip.kind() for chip in chips])
    tags = np.where(np.isnan(design.tags), 0.0, design.tags - names.centre)
    by_kind = (kinds[:, :, None] * logs[:, None, :]).reshape(len(networks), -1)
    return np.hstack([logs, curved, kinds, tags, by_kind, np.ones((len(networks), 1))])
