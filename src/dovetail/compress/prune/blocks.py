"""Structured pruning in depth: whole residual blocks, or whole layers of a transformer, are left out.

Depth is what counts where the overhead of operators and not arithmetic sets the time, as in small networks.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dovetail.compress import settings
from dovetail.compress.calibration import sweep
from dovetail.compress.graph import files
from dovetail.compress.prune import report
from dovetail.compress.prune.graph import finish, interface, prepare
from dovetail.compress.prune.importance import least
from dovetail.compress.prune.residual import Block, residual_blocks, transformer_layers
from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.protocols import Array, Dataset, Model, Pass, PassContext

Judge = Callable[[Collection[int]], float]
"""What it costs to go without some blocks, by place."""
Remover = Callable[[ir.Graph, Collection[int]], None]
"""Takes blocks out of a graph, by place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Which blocks go. One of the first two says so.

    Attributes:
        count: how many: the least important.
        blocks: names, or places in execution order from 0.
        importance: ``score`` is the drop of quality without the block, ``output`` the mean of ‖y' - y‖ / ‖y‖ over calibration
            samples, y' what the model answers without it; both are looked at anew once others have gone. ``change`` is the mean
            of ‖f(x) - x‖ / ‖x‖, f the block, in one run. ``auto`` is ``score`` where the framework can score models, else
            ``output``.
        samples: calibration samples for ``output`` and ``change``.
    """

    count: int | None = None
    blocks: tuple[str, ...] = ()
    importance: Literal["auto", "score", "output", "change"] = "auto"
    samples: int = 16

    def __post_init__(self) -> None:
        settings.require((self.count is None) == bool(self.blocks), "give count or blocks, and one of them", "prune_blocks")
        settings.require(self.count is None or self.count >= 1, f"{self.count} is less than 1", "prune_blocks.count")
        settings.require(self.samples >= 1, f"{self.samples} is less than 1", "prune_blocks.samples")


class PruneBlocks(Pass):
    """Removes whole residual blocks x + f(x); what comes in goes on."""

    name: ClassVar[str] = "prune_blocks"
    what: ClassVar[str] = "residual blocks"
    needs_calibration: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx`` and ``pruned.json``; parameters as in :class:`Config`.

        Raises:
            InputError: a parameter is wrong, or names no block.
            DataError: importance has to be measured, and there is nothing to measure it on.
            ModelError: the model cannot be read or is quantised, or has fewer blocks.
        """
        config = settings.read(Config, ctx.config, self.name)
        prepared = prepare(model, self.name)
        losses: list[float | None]
        before, blocks = interface(prepared), self.find(prepared.graph)
        if not blocks:
            raise ModelError(f"has no {self.what} that can be left out", where=str(model.path), hint="prune channels instead")
        if config.blocks:
            losses, gone = [None] * len(blocks), self._named(blocks, config.blocks)
        else:
            losses, gone = self._least(prepared, blocks, config, ctx)
        self.remover(prepared, config, ctx)(prepared.graph, gone)
        RemoveUnusedNodesPass()(prepared)
        rows = [{"layer": blocks[i].name, "importance": losses[i], "removed": i in gone} for i in range(len(blocks))]
        report.write(ctx.workdir, self.what, config.importance, rows, config=dataclasses.asdict(config))
        ctx.note(f"keeps {len(blocks) - len(gone)} of {len(blocks)} {self.what}")
        ctx.progress(1.0, "pruned")
        return finish(prepared, before, ctx)

    def find(self, graph: ir.Graph) -> list[Block]:
        """What may go, in execution order."""
        return residual_blocks(graph)

    def most(self, blocks: int) -> int:
        """How many of so many may go."""
        return blocks

    def remover(self, prepared: ir.Model, config: Config, ctx: PassContext) -> Remover:
        """What takes blocks out of a graph: of ``prepared``, or of a copy of it."""

        def remove(graph: ir.Graph, gone: Collection[int]) -> None:
            blocks = self.find(graph)
            for index in sorted(gone, reverse=True):
                blocks[index].remove()

        return remove

    def _named(self, blocks: Sequence[Block], names: Sequence[str]) -> set[int]:
        places = {block.name: index for index, block in enumerate(blocks)} | {str(i): i for i in range(len(blocks))}
        unknown = [name for name in names if name not in places]
        if unknown:
            raise InputError(
                f"{', '.join(map(repr, unknown))} is none of the {self.what}", where=f"{self.name}.blocks",
                hint=f"they are 0 to {len(blocks) - 1}: {', '.join(block.name for block in blocks)}",
            )  # fmt: skip
        chosen = {places[name] for name in names}
        self._allow(len(chosen), len(blocks))
        return chosen

    def _least(
        self, prepared: ir.Model, blocks: Sequence[Block], config: Config, ctx: PassContext
    ) -> tuple[list[float | None], set[int]]:
        """Importance of every block as last looked at, and the least important."""
        count = config.count or 0
        self._allow(count, len(blocks))
        method = config.importance
        if method == "auto":
            method = "output" if ctx.score is None else "score"
        if method == "change":
            changes = _changes(prepared, blocks, config.samples, ctx, self.name)
            return list(changes), set(least(changes, count))
        make = self._score_judge if method == "score" else self._output_judge
        return _greedy(make(prepared, config, ctx), len(blocks), count, ctx)

    def _allow(self, count: int, there: int) -> None:
        if count > self.most(there):
            what = f"{count} {self.what} are to go; {self.most(there)} of {there} can"
            raise InputError(what, where=self.name, hint="ask for fewer")

    def _without(self, prepared: ir.Model, gone: Collection[int], remove: Remover) -> ir.Model:
        """A copy of the graph without some blocks."""
        trial = prepared.clone()
        remove(trial.graph, gone)
        RemoveUnusedNodesPass()(trial)
        return trial

    def _score_judge(self, prepared: ir.Model, config: Config, ctx: PassContext) -> Judge:
        score, folder, remove = ctx.score, ctx.workdir / "trial", self.remover(prepared, config, ctx)
        if score is None:
            raise DataError("nothing to score the model on", where=self.name, hint="give data, or use importance=output")

        def judge(gone: Collection[int]) -> float:
            folder.mkdir(exist_ok=True)
            model = files.save(self._without(prepared, gone, remove), folder)
            try:
                return score(model)
            finally:
                shutil.rmtree(folder)

        return judge

    def _output_judge(self, prepared: ir.Model, config: Config, ctx: PassContext) -> Judge:
        samples, remove = samples_of(ctx, self.name), self.remover(prepared, config, ctx)
        names = [str(value.name) for value in prepared.graph.outputs]
        reference = list(sweep(ir.to_proto(prepared), names, samples, config.samples))

        def judge(gone: Collection[int]) -> float:
            found = sweep(ir.to_proto(self._without(prepared, gone, remove)), names, samples, config.samples)
            changes = [_relative(r[n], f[n]) for r, f in zip(reference, found, strict=True) for n in names]
            return float(np.mean(changes))

        return judge


class PruneLayers(PruneBlocks):
    """Removes whole layers of a transformer: attention with the feed-forward block behind it."""

    name: ClassVar[str] = "prune_layers"
    what: ClassVar[str] = "transformer layers"

    def find(self, graph: ir.Graph) -> list[Block]:
        """What may go, in execution order."""
        return transformer_layers(graph)

    def most(self, blocks: int) -> int:
        """All but one."""
        return blocks - 1


def _greedy(judge: Judge, there: int, count: int, ctx: PassContext) -> tuple[list[float | None], set[int]]:
    """Takes the block that costs least together with those gone before, ``count`` times.

    What a block costs grows as others go, mostly. So only the one that looked cheapest is looked at again, until it still is
    (Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978).
    """
    losses = []
    for index in range(there):
        losses.append(judge({index}))
        ctx.progress(0.5 * (index + 1) / there, f"without block {index + 1} of {there}")
    gone: set[int] = set()
    while len(gone) < count:
        fresh: set[int] = set(range(there)) if not gone else set()
        while (best := min((i for i in range(there) if i not in gone), key=lambda i: losses[i])) not in fresh:
            losses[best] = judge(gone | {best})
            fresh.add(best)
        gone.add(best)
        ctx.progress(0.5 + 0.5 * len(gone) / count, f"{len(gone)} of {count} blocks gone")
    return list(losses), gone


def samples_of(ctx: PassContext, where: str) -> Dataset:
    """Calibration samples.

    Raises:
        DataError: there are none.
    """
    if ctx.calibration is None:
        raise DataError("needs calibration samples", where=where, hint="give data; prune_blocks can name its blocks instead")
    return ctx.calibration


def _changes(prepared: ir.Model, blocks: Sequence[Block], samples: int, ctx: PassContext, where: str) -> list[float]:
    """Mean over samples of ‖f(x) - x‖ / ‖x‖ of each block."""
    names = [(str(block.entry.name), str(block.exit.name)) for block in blocks]
    inputs = {str(value.name) for value in prepared.graph.inputs}
    wanted = [name for pair in names for name in pair if name not in inputs]
    total, count = np.zeros(len(blocks)), 0
    for values in sweep(ir.to_proto(prepared), wanted, samples_of(ctx, where), samples, ctx.progress):
        total += [_relative(values[entry], values[out]) if entry in values else np.inf for entry, out in names]
        count += 1
    return [float(change) for change in total / max(count, 1)]


def _relative(x: Array, y: Array) -> float:
    """‖y - x‖ / ‖x‖; 0 or 1 where x is all zeros."""
    before, after = np.asarray(x, np.float64), np.asarray(y, np.float64)
    size = float(np.linalg.norm(before))
    return float(np.linalg.norm(after - before)) / size if size > 0 else float(np.linalg.norm(after) > 0)
