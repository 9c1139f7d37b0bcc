"""The recipes worth trying for one model on one machine.

A *chain* is a sequence of passes; it is tried in every runtime that takes its format, first with the runtime's usual options
and then, where it shows promise, with the other options. The machine's instruction set and the data decide which chains exist.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dovetail.core.measurement import Environment
from dovetail.core.protocols import Knob
from dovetail.core.recipe import PassSpec, Recipe, Scalar, freeze

INT8_DOT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
EMULATED_GAIN = (0.2, 1.0)
"""Assumed: of quantised models in runtimes that compute them in float, rounding in between."""
LITERT_GAIN = 6.0
"""Assumed: LiteRT costs a small network up to this much less than a general runtime (a call and an operator cost it least)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What the model and its data allow.

    Attributes:
        kinds: operator types in the graph.
        quantised: the graph holds quantise/dequantise pairs already.
        free_dims: symbolic dimension → its size in every call; empty when one varies, nobody tells it, or none is symbolic.
        has_calibration: there are calibration samples.
        lossless_only: no quality can be judged, so outputs must not change.
        fixed_sizes: every call has the same input shapes.
        native: the model's own format, where that is not ONNX; empty where it is.
        product_share: share of the model that matrix products are, convolutions apart: of its FLOP or of its weights, whichever
            is more. What speeds up these alone gains no more than that allows (Amdahl 1967).
        margin: permitted quality drop in the metric's unit, for passes that aim at it; ``None`` when it is not known.
    """

    kinds: frozenset[str]
    quantised: bool
    free_dims: Mapping[str, int]
    has_calibration: bool
    lossless_only: bool
    fixed_sizes: bool = False
    native: str = ""
    product_share: float = 1.0
    margin: float | None = None

    @property
    def transformer(self) -> bool:
        """Attention-like."""
        return transformer(self.kinds)


def transformer(kinds: frozenset[str]) -> bool:
    """Whether operators look like those of a transformer: softmax, with its normalisation or activation."""
    return "Softmax" in kinds and bool(kinds & {"LayerNormalization", "Attention", "Erf", "Gelu"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Passes in order with what is known of them beforehand.

    Attributes:
        label: short name for tables.
        format: of the model file that comes out.
        gain: assumed range of the speed-up over the original in the same runtime; it orders the search and never decides.
        reach: how much faster than other runtimes its runtime is assumed to be at best, where it does not run the original.
        lossless: outputs are equal within rounding.
        like: label of a chain that gives the same graph with other constants, so the same speed, in the same format; empty
            for none.
        form: of the model that comes out: ``float``, ``int8`` or ``int8-dynamic``.
    """

    label: str
    passes: tuple[PassSpec, ...]
    format: str = "onnx"
    gain: tuple[float, float] = (0.9, 1.5)
    reach: float = 1.0
    lossless: bool = False
    like: str = ""
    form: str = "float"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A recipe with its place in the search.

    Attributes:
        baseline: the unchanged model with nothing but threads and precision chosen.
        family: proposals that share chain and runtime.
        twin: family of the same speed (:attr:`Chain.like`); empty for none.
        quality_key: recipes that share it give the same outputs.
        gain: of its chain, with ``reach`` (:class:`Chain`).
    """

    recipe: Recipe
    label: str
    baseline: bool
    family: str
    twin: str
    quality_key: str
    gain: tuple[float, float]
    lossless: bool
    reach: float = 1.0


def spec(name: str, **params: object) -> PassSpec:
    """A pass by name with its parameters."""
    return PassSpec(name=name, params=freeze(params))


def chains(traits: Traits, environment: Environment) -> Iterator[Chain]:
    """Every chain that makes sense here, the original first; ONNX graphs of fixed sizes are lowered to LiteRT as well."""
    for chain in _chains(traits, environment):
        yield chain
        if traits.native and not chain.passes:
            yield replace(chain, format=traits.native)
        if traits.fixed_sizes and chain.format == "onnx" and chain.passes and chain.label not in _NOT_LOWERED:
            yield _lowered(chain, traits)


_NOT_LOWERED = frozenset({"static shapes", "int8 matrix products", "int8 weights", "int4 weights"})
"""Lowering fixes shapes itself; it takes whole chains of integers, not single products between floats; and weights in blocks
have an operator of ONNX Runtime's own."""


def _lowered(chain: Chain, traits: Traits) -> Chain:
    sizes = [f"{name}={size}" for name, size in sorted(traits.free_dims.items())]
    return replace(
        chain,
        passes=(*chain.passes, spec("lower_litert", dims=sizes)),
        format="litert",
        reach=LITERT_GAIN,
        lossless=chain.lossless and not traits.quantised,
    )


def _chains(traits: Traits, environment: Environment) -> Iterator[Chain]:
    yield Chain(label="original", passes=(), gain=(1.0, 1.2), lossless=True)
    clean = (spec("clean"),)
    yield Chain(label="clean", passes=clean, lossless=True)
    if traits.free_dims:
        sizes = [f"{name}={size}" for name, size in sorted(traits.free_dims.items())]
        yield Chain(label="static shapes", passes=(*clean, spec("static_shapes", dims=sizes)), lossless=True)
    if traits.lossless_only or traits.quantised:
        return
    if traits.has_calibration:
        yield from _static_int8(clean, traits, environment)
    if traits.kinds & {"MatMul", "Gemm"}:
        dynamic, weights = ((0.5, _amdahl(traits.product_share, most)) for most in (3.0, 1.5))
        products = (*clean, spec("quantize_dynamic", **_safe(environment)))
        yield Chain(label="dynamic int8", passes=products, gain=dynamic, form="int8-dynamic")
        yield Chain(label="int8 weights", passes=(*clean, spec("weight_only", bits=8)), gain=weights)
        yield Chain(label="int4 weights", passes=(*clean, spec("weight_only", bits=4)), gain=weights)
    half = (*clean, spec("float16", compute="float32"))
    yield Chain(label="half weights", passes=half, gain=(0.5, 1.0))


def _amdahl(share: float, gain: float) -> float:
    """Speed-up of the whole when a share of it gets faster by a factor."""
    return 1.0 / (1.0 - share + share / gain)


def _static_int8(clean: tuple[PassSpec, ...], traits: Traits, environment: Environment) -> Iterator[Chain]:
    """Static 8-bit recipes; where the chip has no 8-bit dot product, ranges are halved so that sums cannot saturate."""
    safe = _safe(environment)
    gain = (0.4, 2.0) if safe else (0.5, 5.0)
    model_type = {"model_type": "transformer"} if traits.transformer else {}

    def static(label: str, like: str = "int8", **params: object) -> Chain:
        return Chain(label=label, passes=(*clean, spec("quantize_static", **safe, **params)), gain=gain, like=like, form="int8")

    def nncf(label: str, like: str = "", **params: object) -> Chain:
        passes = (*clean, spec("quantize_nncf", **safe, **model_type, **params))
        return Chain(label=label, passes=passes, format=_format(params), gain=gain, like=like, form="int8")

    yield static("int8", like="")
    yield nncf("int8 nncf", target="openvino", preset="performance")
    yield nncf("int8 nncf qdq", target="onnx", preset="performance")
    yield static("int8 bias-corrected", bias_correction=True)
    yield static("int8 percentile", method="percentile")
    yield static("int8 entropy", method="entropy")
    yield static("int8 minmax", method="minmax")
    yield nncf("int8 nncf mixed", like="int8 nncf", target="openvino", preset="mixed")
    yield nncf("int8 nncf mixed qdq", like="int8 nncf qdq", target="onnx", preset="mixed")
    if traits.margin:
        islands = spec("float_islands", **safe, max_drop=traits.margin)
        yield Chain(label="int8 with float islands", passes=(*clean, islands), gain=gain, like="int8", form="int8")
    if traits.transformer:
        yield static("int8 smooth", like="", smooth=0.5)
        yield static("int8 matrix products", like="", include_types=["MatMul", "Gemm"])


BLOCKS = (1, 2, 3, 4, 5, 6, 8, 10, 12)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
CHANNEL_STEP = 8
"""Channels are taken by so many: half of the widest register, since small networks have few; what is faster is measured."""

STRUCTURAL = frozenset({"prune_blocks", "merge_blocks", "prune_heads", "prune_channels"})
"""Passes of :func:`shapes`."""


def shapes(kinds: frozenset[str]) -> dict[str, tuple[PassSpec, ...]]:
    """Ways to take something away from a network of such operators → passes, from the least to the most."""
    found = {}
    if kinds & {"Add"}:
        found["blocks"] = tuple(spec("prune_blocks", count=count) for count in BLOCKS)
        if "Conv" in kinds:
            found["merged blocks"] = tuple(spec("merge_blocks", count=count) for count in BLOCKS)
    if transformer(kinds):
        found["heads"] = tuple(spec("prune_heads", ratio=share, neurons=True) for share in SHARES)
    elif kinds & {"Conv", "Gemm", "MatMul", "LSTM", "GRU", "RNN"}:
        # Ranked by L1 over all layers they lose far less, before training, than as equal shares of every layer.
        ranked = {"scope": "global", "importance": "l1", "align": CHANNEL_STEP}
        found["channels"] = tuple(spec("prune_channels", ratio=share, **ranked) for share in SHARES)
        costly = {"importance": "l1", "align": CHANNEL_STEP}
        found["costly channels"] = tuple(spec("prune_channels", cost=round(1 - share, 2), **costly) for share in SHARES)
    return found


def _safe(environment: Environment) -> dict[str, object]:
    """Parameters of 8-bit passes where the chip adds products of 8 bits up in 16: weights of 7 bits cannot saturate there."""
    return {} if INT8_DOT & set(environment.isa) else {"reduce_range": True}


def _format(params: Mapping[str, object]) -> str:
    return "openvino" if params.get("target") == "openvino" else "onnx"


def enumerate_space(
    traits: Traits,
    environment: Environment,
    knobs: Mapping[str, Sequence[Knob]],
    formats: Mapping[str, frozenset[str]],
    integer_forms: Mapping[str, frozenset[str]] | None = None,
) -> tuple[Proposal, ...]:
    """All proposals, each recipe once.

    Args:
        traits: of the model and its data.
        environment: of the machine.
        knobs: runtime → its options here.
        formats: runtime → model formats that it takes.
        integer_forms: runtime → quantised forms that it multiplies in integers; in others it gains nothing. All where it is
            not named.
    """
    found: dict[str, Proposal] = {}
    known = {(chain.label, chain.format): chain for chain in chains(traits, environment)}
    for chain in known.values():
        for runtime, options in knobs.items():
            if chain.format not in formats[runtime]:
                continue
            emulated = chain.form not in {"float", *(integer_forms or {}).get(runtime, {chain.form})}
            offered = replace(chain, gain=EMULATED_GAIN) if emulated else chain
            twin = Recipe(passes=known[chain.like, chain.format].passes, runtime=runtime).key if chain.like else ""
            for proposal in in_runtime(offered, runtime, options, twin=twin, lossless_only=traits.lossless_only):
                found.setdefault(proposal.recipe.key, proposal)
    return tuple(found.values())


def in_runtime(
    chain: Chain, runtime: str, knobs: Sequence[Knob], *, twin: str = "", lossless_only: bool = False
) -> Iterator[Proposal]:
    """A chain in a runtime with every combination of its options, the usual ones first."""
    usable = [k for k in knobs if k.lossless or not lossless_only]
    family = Recipe(passes=chain.passes, runtime=runtime).key
    for values in itertools.product(*(k.choices for k in usable)):
        options = {k.name: v for k, v in zip(usable, values, strict=True) if v != k.default}
        lossy = {k.name: options[k.name] for k in usable if not k.lossless and k.name in options}
        recipe = Recipe(passes=chain.passes, runtime=runtime, options=freeze(options))
        yield Proposal(
            recipe=recipe,
            label=" ".join([chain.label, "·", runtime, *(_shown(k, v) for k, v in options.items())]),
            baseline=not chain.passes and set(options) <= {"threads", "precision"},
            family=family,
            twin=twin,
            quality_key=Recipe(passes=chain.passes, runtime=runtime, options=freeze(lossy)).key,
            gain=chain.gain,
            lossless=chain.lossless and not lossy,
            reach=chain.reach,
        )


def _shown(name: str, value: Scalar) -> str:
    if name == "threads":
        return "1 thread" if value == 1 else f"{value} threads"
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return str(value)
