"""How much goes: the parameters that channels, heads and neurons share, and the choice that they lead to."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from dovetail.compress import settings
from dovetail.compress.graph import files
from dovetail.compress.prune import cost, importance, selection
from dovetail.compress.prune.coupling import Coupling, Group, Kind
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array, PassContext

LEAST_WEIGHT = 0.05
"""A group whose half brought no measurable time still counts a little, so that noise alone cannot bar it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much goes, from where, and by which importance. One of the first five says how much.

    Attributes:
        ratio: share of units to take, 0 to below 1.
        ratios: shares by layer, ``LAYER=SHARE``; alone, layers that are not named stay, with ``ratio`` they take it.
        cost: share of the cost to keep, 0 to 1: of seconds as measured where the framework can, else as counted.
        latency_s: seconds per call to reach, as measured.
        flop: arithmetic per call to reach in layers with weights, multiply-add = 2.
        scope: whether ``ratio`` holds in every layer or over all of them.
        importance: how units are ranked.
        align: channels that a step takes; the width of the widest register by default.
        dtype: the type that the network will compute in, which decides that width.
        exclude: layers to leave alone.
        across_layer_norm: takes channels that a layer normalisation averages over too, which changes all others a little.
        probes: groups at most whose time is measured before the choice.
        reconstruct: fits the weights that remain to calibration samples, where there are any (:mod:`.reconstruct`).
    """

    ratio: float | None = None
    ratios: tuple[str, ...] = ()
    cost: float | None = None
    latency_s: float | None = None
    flop: float | None = None
    scope: Literal["local", "global"] = "local"
    importance: Literal["l2", "l1", "magnitude", "normalized", "batch_norm"] = "l2"
    align: int | None = None
    dtype: Literal["float32", "int8"] = "float32"
    exclude: tuple[str, ...] = ()
    across_layer_norm: bool = False
    probes: int = 24
    reconstruct: bool = True

    def __post_init__(self) -> None:
        given = [name for name in ("ratio", "ratios", "cost", "latency_s", "flop") if getattr(self, name) not in (None, ())]
        settings.require(bool(given), "nothing says how much to prune: give ratio, ratios, cost, latency_s or flop", "prune")
        clash = len(given) > 1 and set(given) != {"ratio", "ratios"}
        settings.require(not clash, f"{' and '.join(given)} contradict each other: give one of them", "prune")
        for name in ("cost", "latency_s", "flop"):
            value = getattr(self, name)
            settings.require(value is None or value > 0, f"{value} is not above 0", f"prune.{name}")
        settings.require(self.cost is None or self.cost < 1, f"{self.cost} is not below 1", "prune.cost")
        settings.require(self.align is None or self.align >= 1, f"{self.align} is less than 1", "prune.align")
        settings.require(self.probes >= 0, f"{self.probes} is negative", "prune.probes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The choice of units of one graph.

    Attributes:
        prepared: the graph, which stays as it is.
        coupling: its groups.
        amount: how much goes.
        kinds: what may go.
        gradients: constant's name → gradient of the loss; given, importance is |w · g|.
        ctx: the pass's context.
    """

    prepared: ir.Model
    coupling: Coupling
    amount: Amount
    kinds: tuple[Kind, ...]
    ctx: PassContext
    gradients: Mapping[str, Array] | None = None

    def units(self) -> list[int]:
        """Units to take.

        Raises:
            InputError: a layer that is not there or cannot be pruned; a share that takes every channel.
            ModelError: nothing can be pruned, or not enough.
        """
        groups = self.groups()
        method = "taylor" if self.gradients is not None else self.amount.importance
        by_unit = importance.of_units(self.coupling, method, self.gradients)
        scores = [importance.of_group(by_unit, group) for group in groups]
        chosen = self._chosen(groups, scores)
        if not chosen:
            raise ModelError("these settings prune nothing", hint=f"ask for more, or take a smaller align than {self._align}")
        return chosen

    def groups(self) -> list[Group]:
        """What may go.

        Raises:
            ModelError: nothing may; the message says why of the first few.
            InputError: ``exclude`` names no layer.
        """
        excluded = {group.name for name in self.amount.exclude for group in self.coupling.groups_of(name)}
        of_kind = [group for group in self.coupling.groups if group.kind in self.kinds]
        found = [g for g in of_kind if g.name not in excluded and self._reason(g) is None and len(g) > 1]
        if not found:
            reasons = [f"{g.name}: {self._reason(g) or 'excluded'}" for g in of_kind[:3]]
            what = "no " + " or ".join(self.kinds) + " can be pruned"
            raise ModelError("; ".join([what, *reasons]), hint="remove whole blocks, or quantise instead")
        return found

    def _reason(self, group: Group) -> str | None:
        if group.averaged and not self.amount.across_layer_norm and group.reason is None:
            return "a layer normalisation averages over them (across_layer_norm permits it)"
        return group.reason

    @property
    def _align(self) -> int:
        return self.amount.align or selection.lanes(self.ctx.environment, self.amount.dtype)

    def _chosen(self, groups: Sequence[Group], scores: Sequence[Array]) -> list[int]:
        amount = self.amount
        if amount.ratio is None and not amount.ratios:
            return self._by_cost(groups, scores)
        if amount.scope == "global" and amount.ratio is not None and not amount.ratios:
            return selection.by_rank(groups, scores, amount.ratio, self._align)
        named = self._named(groups)
        return selection.by_ratio(groups, scores, [named.get(g.name, amount.ratio or 0.0) for g in groups], self._align)

    def _named(self, groups: Sequence[Group]) -> dict[str, float]:
        """Shares of the groups that ``ratios`` names by any of their layers."""
        found: dict[str, float] = {}
        for name, share in selection.parse_ratios(self.amount.ratios, "prune.ratios").items():
            meant = self.coupling.groups_of(name)
            may = [group for group in meant if group in groups]
            if not may:
                raise InputError(f"{name!r} cannot be pruned: {self._reason(meant[0]) or 'excluded'}", where="prune.ratios")
            found |= {group.name: share for group in may}
        return found

    # -- by cost ---------------------------------------------------------------------------------------------------------

    def _by_cost(self, groups: Sequence[Group], scores: Sequence[Array]) -> list[int]:
        costs = cost.of(self.coupling, groups, self._lengths())
        amount, measured = self.amount, self.ctx.cost
        if amount.flop is not None:
            steps = selection.greedy(groups, scores, costs.flops, self._align)
            after, target, unit = lambda count: costs.flops(_left(costs, steps, count)), amount.flop, "FLOP"
        elif measured is not None:
            weights = self._weights(groups, scores, costs)
            steps = selection.greedy(groups, scores, costs.seconds, self._align, weights)
            memory: dict[int, float] = {}

            def after(count: int) -> float:
                if count not in memory:
                    memory[count] = self._measured([unit for step in steps[:count] for unit in step.units])
                return memory[count]

            target = amount.latency_s if amount.latency_s is not None else (amount.cost or 1.0) * after(0)
            unit = "s"
        elif amount.latency_s is not None:
            raise InputError("latency_s needs a machine to measure on", where="prune", hint="give cost or flop instead")
        else:
            steps = selection.greedy(groups, scores, costs.seconds, self._align)
            after, unit = (lambda count: costs.seconds(_left(costs, steps, count)) / costs.seconds(costs.full)), "of the cost"
            target = amount.cost or 1.0
        count = selection.shortest(steps, after, target, unit)
        return [taken for step in steps[:count] for taken in step.units]

    def _weights(self, groups: Sequence[Group], scores: Sequence[Array], costs: cost.Costs) -> list[float]:
        """Measured over counted saving of each group's half; the median of those for groups beyond ``probes``."""
        halves = [selection.by_ratio([g], [s], [0.5], self._align) for g, s in zip(groups, scores, strict=True)]
        counted = []
        for index, half in enumerate(halves):
            left = costs.full.copy()
            left[index] -= len(half)
            counted.append(costs.seconds(costs.full) - costs.seconds(left))
        probed = [i for i in np.argsort(counted)[::-1].tolist() if halves[i] and counted[i] > 0][: self.amount.probes]
        base = self._measured([]) if probed else 0.0
        found: dict[int, float] = {}
        for done, index in enumerate(probed):
            self.ctx.progress(0.8 * done / len(probed), f"measuring {groups[index].name}")
            found[index] = (base - self._measured(halves[index])) / counted[index]
        typical = statistics.median(found.values()) if found else 1.0
        least = LEAST_WEIGHT * typical if typical > 0 else 1e-3
        return [max(found.get(index, typical), least) for index in range(len(groups))]

    def _measured(self, units: Sequence[int]) -> float:
        assert self.ctx.cost is not None
        folder = self.ctx.workdir / "trial"
        folder.mkdir(exist_ok=True)
        trial = self.prepared.clone()
        if units:
            Coupling(trial).remove(units)
        model = files.save(trial, folder)
        try:
            return self.ctx.cost(model)
        finally:
            for path in model.files():
                path.unlink(missing_ok=True)
            folder.rmdir()

    def _lengths(self) -> dict[str, int]:
        """Symbolic dimension of an input → its size in the samples or the workload."""
        shapes = dict(self.ctx.workload.input_shapes) if self.ctx.workload is not None else {}
        if not shapes and self.ctx.calibration is not None and len(self.ctx.calibration):
            shapes = {name: array.shape for name, array in self.ctx.calibration.sample(0).feeds.items()}
        return {
            str(dim.value): size
            for value in self.prepared.graph.inputs
            if value.name in shapes and value.shape is not None
            for dim, size in zip(value.shape, shapes[value.name], strict=False)
            if not isinstance(dim, int) and dim.value is not None
        }


def _left(costs: cost.Costs, steps: Sequence[selection.Step], count: int) -> Array:
    return steps[count - 1].left if count else costs.full
