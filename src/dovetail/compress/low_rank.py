"""Low-rank factorisation: layers become two or three smaller ones where that costs less.

Without training it loses more than quantisation does for the same speed; with calibration samples the loss is taken where the
activations feel it least, and some retraining or distillation brings most of the rest back.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from dovetail.compress import settings
from dovetail.compress.quantize_static import MAX_SAMPLES, calibration_data
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array, Model, Pass, PassContext

if TYPE_CHECKING:
    import onnx_ir as ir

    from dovetail.compress.splits import Choice, Split

Chosen = dict[str, tuple["Split", "Choice"]]
"""Layer name → how it is split."""

LANES = {"avx512f": 16, "avx2": 8}
"""Float32 numbers per vector register; 4 elsewhere (SSE, NEON)."""
OPTIONS = 4
"""Ranks per layer that ``time`` weighs against each other, evenly spread."""
MULTIPLIERS = np.geomspace(1e-6, 1e6, 241)
"""Lagrange multipliers that ``time`` tries: energy per share of the whole cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Parameters of low-rank factorisation.

    Attributes:
        rank: what decides the rank of a layer: the ``energy`` it keeps; a ``ratio`` of its arithmetic; or ``time``, the ratio
            of the whole model's seconds, or where these cannot be told of the arithmetic of all layers that may be factorised,
            at the least loss of energy.
        energy: share of the squared norm of each layer's weights to keep, 0 to 1; of its output where samples are used.
        ratio: cost to reach, as a share of the original's, between 0 and 1.
        convolution: ``tucker`` (1×1, k×k, 1×1), ``spatial`` (k×1, 1×k), ``channel`` (k×k to few, 1×1), the best of them for
            each layer (``auto``), or ``keep``.
        linear: also factorises matrix products.
        weighting: ``activations`` weighs errors by what layers read, which takes calibration samples; ``auto`` does so where
            there are some; ``none`` never does.
        samples: calibration samples used, 1 to 512.
        align: ranks are multiples of this; 0 takes the vector width of the instruction set.
        layers: names of the only operators to factorise; empty for all.
        exclude: names of operators to leave.
    """

    rank: Literal["energy", "ratio", "time"] = "energy"
    energy: float = 0.95
    ratio: float = 0.5
    convolution: Literal["auto", "tucker", "spatial", "channel", "keep"] = "auto"
    linear: bool = True
    weighting: Literal["auto", "activations", "none"] = "auto"
    samples: int = 64
    align: int = 0
    layers: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check = settings.require
        check(0 < self.energy <= 1, f"{self.energy} lies outside 0 to 1", "low_rank.energy")
        check(0 < self.ratio < 1, f"{self.ratio} lies outside 0 to 1", "low_rank.ratio")
        check(1 <= self.samples <= MAX_SAMPLES, f"{self.samples} lies outside 1 to {MAX_SAMPLES}", "low_rank.samples")
        check(self.align >= 0, f"{self.align} is negative", "low_rank.align")


class LowRank(Pass):
    """Fewer multiply-adds by factorised weights; parameters are those of :class:`Config`."""

    name: ClassVar[str] = "low_rank"
    needs_calibration: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx``, and ``ranks.json`` with every layer's choice.

        Raises:
            InputError: a parameter is wrong, or names no operator.
            DataError: calibration samples are needed, and there are none or they do not fit the model.
            ModelError: the model cannot be read, or no layer becomes cheaper.
        """
        from onnx_ir.passes.common import NameFixPass, ShapeInferencePass

        from dovetail.compress import splits
        from dovetail.compress.graph import files

        config = settings.read(Config, ctx.config, self.name)
        graph_model = files.load(model)
        NameFixPass()(graph_model)
        ShapeInferencePass()(graph_model)
        found = _all_splits(graph_model, config, ctx)
        if not found:
            what = "it has no layer with constant weights that could be factorised"
            raise ModelError(what, where=str(model.path), hint="grouped convolutions and weights that layers share stay")
        search = _Search(graph_model=graph_model, found=found, config=config, ctx=ctx)
        chosen = search.chosen()
        if not chosen:
            how = "with less energy to keep" if config.rank == "energy" else "with another ratio"
            how = f"{how}, or align=1" if search.lanes > 1 else how
            raise ModelError("no layer becomes cheaper", where=str(model.path), hint=f"try {how}")
        splits.apply(graph_model, chosen)
        shutil.rmtree(search.folder, ignore_errors=True)
        _tell(ctx, chosen, len(found))
        return files.save(graph_model, ctx.workdir)


def _all_splits(graph_model: ir.Model, config: Config, ctx: PassContext) -> dict[str, list[Split]]:
    """Layer name → the ways to split it."""
    from dovetail.compress import splits

    nodes = list(graph_model.graph)
    names = {node.name for node in nodes}
    for key, asked in (("layers", config.layers), ("exclude", config.exclude)):
        if missing := sorted(set(asked) - names):
            what = f"no operator is named {', '.join(map(repr, missing))}"
            raise InputError(what, where=f"low_rank.{key}", hint="see `dovetail analyze`")
    kinds = ("Conv", "MatMul", "Gemm") if config.linear else ("Conv",)
    chosen = set(config.layers or names) - set(config.exclude)
    nodes = [n for n in nodes if n.name in chosen and n.op_type in kinds and splits.splits(n, config.convolution, None)]
    shared = [n for n in nodes if n.inputs[1] is not None and len(n.inputs[1].uses()) > 1]
    if shared:
        ctx.note(f"{len(shared)} layers share their weights with others and stay as they are")
    nodes = [n for n in nodes if n not in shared]
    moments = _moments(graph_model, nodes, config, ctx)
    return {str(n.name): splits.splits(n, config.convolution, moments.get(str(n.name))) for n in nodes}


def _moments(graph_model: ir.Model, nodes: Sequence[ir.Node], config: Config, ctx: PassContext) -> dict[str, Array]:
    from dovetail.compress.moments import second_moments

    if config.weighting == "none" or (config.weighting == "auto" and ctx.calibration is None):
        return {}
    data = calibration_data(ctx, "low_rank")
    return {name: m[0] for name, m in second_moments(graph_model, nodes, data, config.samples, ctx.progress).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """One choice of ranks."""

    graph_model: ir.Model
    found: Mapping[str, list[Split]]
    config: Config
    ctx: PassContext

    @property
    def lanes(self) -> int:
        """What ranks are multiples of."""
        isa = self.ctx.environment.isa
        return self.config.align or next((n for flag, n in LANES.items() if flag in isa), 4)

    @property
    def folder(self) -> Path:
        """Where models lie whose seconds are asked for."""
        return self.ctx.workdir / "trial"

    def chosen(self) -> Chosen:
        """The layers to factorise."""
        if self.config.rank == "time":
            return self._by_time()
        chosen = {}
        for name, ways in self.found.items():
            if best := self._best(self._cheaper(ways)):
                chosen[name] = best
        return chosen if self.ctx.cost is None else self._really_faster(chosen, self.ctx.cost)

    def _cheaper(self, ways: Sequence[Split]) -> list[tuple[Split, Choice]]:
        """All choices with fewer multiply-adds than the layer."""
        return [(way, choice) for way in ways for choice in way.choices(self.lanes) if choice.macs < way.macs]

    def _best(self, pairs: Sequence[tuple[Split, Choice]]) -> tuple[Split, Choice] | None:
        """The cheapest that keeps the energy, or the one that keeps the most energy within the ratio."""
        if self.config.rank == "energy":
            enough = [pair for pair in pairs if pair[1].kept >= self.config.energy]
            return min(enough, key=lambda pair: pair[1].macs, default=None)
        enough = [pair for pair in pairs if pair[1].macs <= self.config.ratio * pair[0].macs]
        return max(enough, key=lambda pair: pair[1].kept, default=None)

    def _really_faster(self, chosen: Chosen, cost: Callable[[Model], float]) -> Chosen:
        """Those that save seconds each on its own."""
        base_s, faster = cost(self._trial({})), {}
        for index, (name, pair) in enumerate(chosen.items()):
            if cost(self._trial({name: pair})) < base_s:
                faster[name] = pair
            self.ctx.progress((index + 1) / len(chosen), f"layer {index + 1}/{len(chosen)}")
        return faster

    def _by_time(self) -> Chosen:
        """Least energy lost over all layers at the ratio of the whole cost: each layer's best at one Lagrange multiplier.

        (Everett, "Generalized Lagrange multiplier method", Operations Research 11, 1963.)
        """
        options, whole = self._priced()
        target = (1 - self.config.ratio) * whole
        best: Chosen = {}
        for multiplier in MULTIPLIERS:
            best, saved = {}, 0.0
            for name, priced in options.items():
                gain, saving, pair = max(
                    ((multiplier * s / whole - (1 - pair[1].kept), s, pair) for pair, s in priced), key=lambda found: found[0]
                )
                if gain > 0 and saving > 0:
                    best[name] = pair
                    saved += saving
            if saved >= target:
                return best
        self.ctx.note(f"the ratio {self.config.ratio:g} is out of reach: every layer has its least rank")
        return best

    def _priced(self) -> tuple[dict[str, list[tuple[tuple[Split, Choice], float]]], float]:
        """Layer → some of its choices with what each saves per call, and the whole cost in the same unit.

        Seconds of the model where they can be told, else multiply-adds of all layers that may be factorised.
        """
        spread = {name: _spread(self._cheaper(ways)) for name, ways in self.found.items()}
        spread = {name: pairs for name, pairs in spread.items() if pairs}
        if self.ctx.cost is None:
            places = {name: self._places(name) for name in self.found}
            whole = sum(ways[0].macs * places[name] for name, ways in self.found.items())
            return {n: [(p, (p[0].macs - p[1].macs) * places[n]) for p in pairs] for n, pairs in spread.items()}, whole
        cost, base_s = self.ctx.cost, self.ctx.cost(self._trial({}))
        saved = {}
        for index, (name, pairs) in enumerate(spread.items()):
            saved[name] = [(pair, base_s - cost(self._trial({name: pair}))) for pair in pairs]
            self.ctx.progress((index + 1) / len(spread), f"layer {index + 1}/{len(spread)}")
        return saved, base_s

    def _places(self, name: str) -> float:
        """How often a layer's weights are applied in a call; 1 where shapes are unknown."""
        from dovetail.compress.graph.edit import dims

        known = {op.name: op.flop for op in self.ctx.workload.ops} if self.ctx.workload is not None else {}
        flop = known.get(name)
        if flop:
            return flop / (2 * self.found[name][0].macs)
        node = self.found[name][0].node
        shape = dims(node.outputs[0]) or ()
        sizes = shape[2:] if node.op_type == "Conv" else shape[1:-1]
        return float(np.prod([size or 1 for size in sizes]))

    def _trial(self, chosen: Chosen) -> Model:
        """A model file with some layers factorised."""
        from dovetail.compress import splits
        from dovetail.compress.graph import files

        self.folder.mkdir(exist_ok=True)
        copy = self.graph_model.clone()
        splits.apply(copy, chosen)
        return files.save(copy, self.folder)


def _spread(pairs: Sequence[tuple[Split, Choice]]) -> list[tuple[Split, Choice]]:
    """A few choices none of which another beats in both energy and arithmetic, from cheap to dear."""
    front: list[tuple[Split, Choice]] = []
    for pair in sorted(pairs, key=lambda pair: (pair[1].macs, -pair[1].kept)):
        if not front or pair[1].kept > front[-1][1].kept:
            front.append(pair)
    steps = min(OPTIONS, len(front))
    places = sorted({round(i * (len(front) - 1) / max(1, steps - 1)) for i in range(steps)})
    return [front[i] for i in places]


def _tell(ctx: PassContext, chosen: Chosen, layers: int) -> None:
    """Notes the ranks, and writes them down with what each keeps."""
    rows: list[dict[str, Any]] = [
        {
            "layer": name,
            "kind": choice.kind,
            "ranks": list(choice.ranks),
            "energy": choice.kept,
            "arithmetic": choice.macs / split.macs,
        }
        for name, (split, choice) in chosen.items()
    ]
    (ctx.workdir / "ranks.json").write_text(json.dumps({"layers": rows}, indent=1) + "\n", encoding="utf-8")
    shown = ", ".join(f"{name} {choice}" for name, (_, choice) in chosen.items())
    ctx.note(f"{len(chosen)} of {layers} layers factorised: {shown}")
