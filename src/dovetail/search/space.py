"""The recipes worth trying for one model on one machine.

A *chain* is a sequence of passes; it is tried in every runtime that takes its format, first with the runtime's usual options
and then, where it shows promise, with the other options. The machine's instruction set and the data decide which chains exist.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dovetail.core.measurement import Environment
from dovetail.core.protocols import Knob
from dovetail.core.recipe import PassSpec, Recipe, Scalar, freeze

INT8_DOT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What the model and its data allow.

    Attributes:
        kinds: operator types in the graph.
        quantised: the graph holds quantise/dequantise pairs already.
        free_dims: symbolic dimension → the size that all samples share; empty when sizes vary or nothing is symbolic.
        has_calibration: there are calibration samples.
        lossless_only: no quality can be judged, so outputs must not change.
        batch: samples per call.
    """

    kinds: frozenset[str]
    quantised: bool
    free_dims: Mapping[str, int]
    has_calibration: bool
    lossless_only: bool
    batch: int = 1

    @property
    def transformer(self) -> bool:
        """Attention-like: matrix products between activations, softmax, normalisation."""
        return "Softmax" in self.kinds and bool(self.kinds & {"LayerNormalization", "Attention", "Erf", "Gelu"})

    @property
    def convolutional(self) -> bool:
        """Holds convolutions."""
        return "Conv" in self.kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Passes in order with what is known of them beforehand.

    Attributes:
        label: short name for tables.
        format: of the model file that comes out.
        gain: assumed range of the speed-up over the original in the same runtime; it orders the search and never decides.
        lossless: outputs are equal within rounding.
    """

    label: str
    passes: tuple[PassSpec, ...]
    format: str = "onnx"
    gain: tuple[float, float] = (0.9, 1.2)
    lossless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A recipe with its place in the search.

    Attributes:
        tier: 0 baseline, 1 first look at a chain in a runtime, 2 other options of the same.
        family: proposals that share chain and runtime.
        quality_key: recipes that share it give the same outputs.
    """

    recipe: Recipe
    label: str
    tier: int
    family: str
    quality_key: str
    gain: tuple[float, float]
    lossless: bool

    @property
    def baseline(self) -> bool:
        """The unchanged model."""
        return not self.recipe.passes


def spec(name: str, **params: object) -> PassSpec:
    """A pass by name with its parameters."""
    return PassSpec(name=name, params=freeze(params))


def chains(traits: Traits, environment: Environment) -> Iterator[Chain]:
    """Every chain that makes sense here, the original first."""
    yield Chain(label="original", passes=(), gain=(1.0, 1.0), lossless=True)
    clean = (spec("clean"),)
    yield Chain(label="clean", passes=clean, gain=(0.95, 1.3), lossless=True)
    if traits.free_dims:
        sizes = [f"{name}={size}" for name, size in sorted(traits.free_dims.items())]
        fixed = (spec("static_shapes", dims=sizes), *clean)
        yield Chain(label="static shapes", passes=fixed, gain=(0.95, 1.3), lossless=True)
    if traits.lossless_only or traits.quantised:
        return
    if traits.has_calibration:
        yield from _static_int8(clean, traits, environment)
    if traits.kinds & {"MatMul", "Gemm"}:
        yield Chain(label="dynamic int8", passes=(*clean, spec("quantize_dynamic")), gain=(0.5, 3.0))
        yield Chain(label="int8 weights", passes=(*clean, spec("weight_only", bits=8)), gain=(0.5, 1.5))
        yield Chain(label="int4 weights", passes=(*clean, spec("weight_only", bits=4)), gain=(0.5, 1.5))


def _static_int8(clean: tuple[PassSpec, ...], traits: Traits, environment: Environment) -> Iterator[Chain]:
    exact = bool(INT8_DOT & set(environment.isa))
    gain = (0.5, 4.0) if exact else (0.4, 2.0)
    safe: dict[str, object] = {} if exact else {"reduce_range": True}
    model_type = {"model_type": "transformer"} if traits.transformer else {}

    def static(label: str, **params: object) -> Chain:
        return Chain(label=label, passes=(*clean, spec("quantize_static", **safe, **params)), gain=gain)

    yield static("int8")
    for preset in ("performance", "mixed"):
        extra = {"preset": preset, **model_type}
        ir = (*clean, spec("quantize_nncf", target="openvino", **extra))
        yield Chain(label=f"int8 nncf {preset}", passes=ir, format="openvino", gain=gain)
        qdq = (*clean, spec("quantize_nncf", target="onnx", **extra))
        yield Chain(label=f"int8 nncf {preset} qdq", passes=qdq, gain=gain)
    yield static("int8 symmetric", activation="int8", symmetric_activation=True)
    yield static("int8 percentile", method="percentile")
    yield static("int8 entropy", method="entropy")
    yield static("int8 bias-corrected", bias_correction=True)
    if traits.transformer:
        yield static("int8 smooth", smooth=0.5)
        yield static("int8 matrix products", include_types=["MatMul", "Gemm"])


def enumerate_space(
    traits: Traits, environment: Environment, knobs: Mapping[str, Sequence[Knob]], formats: Mapping[str, frozenset[str]]
) -> tuple[Proposal, ...]:
    """All proposals, each recipe once.

    Args:
        traits: of the model and its data.
        environment: of the machine.
        knobs: runtime → its options here.
        formats: runtime → model formats that it takes.
    """
    found: dict[str, Proposal] = {}
    for chain in chains(traits, environment):
        for runtime, options in knobs.items():
            if chain.format not in formats[runtime]:
                continue
            for proposal in _in_runtime(chain, runtime, options, traits):
                found.setdefault(proposal.recipe.key, proposal)
    return tuple(found.values())


def _in_runtime(chain: Chain, runtime: str, knobs: Sequence[Knob], traits: Traits) -> Iterator[Proposal]:
    usable = [k for k in knobs if k.lossless or not traits.lossless_only or k.name == "precision"]
    family = Recipe(passes=chain.passes, runtime=runtime)
    for first, values in enumerate(itertools.product(*(_choices(k, traits) for k in usable))):
        options = {k.name: v for k, v in zip(usable, values, strict=True) if v != k.default}
        lossy = {k.name: options[k.name] for k in usable if not k.lossless and k.name in options}
        recipe = Recipe(passes=chain.passes, runtime=runtime, options=freeze(options))
        yield Proposal(
            recipe=recipe,
            label=" ".join([chain.label, "·", runtime, *(_shown(k, v) for k, v in options.items())]),
            tier=_tier(chain, options, first == 0),
            family=family.key,
            quality_key=Recipe(passes=chain.passes, runtime=runtime, options=freeze(lossy)).key,
            gain=chain.gain,
            lossless=chain.lossless and _full_precision(runtime, usable, options),
        )


def _tier(chain: Chain, options: Mapping[str, Scalar], first: bool) -> int:
    if not chain.passes:
        return 0 if set(options) <= {"threads", "precision"} else 2
    return 1 if first else 2


def _choices(knob: Knob, traits: Traits) -> tuple[Scalar, ...]:
    if knob.name == "precision" and traits.lossless_only:
        return tuple(c for c in knob.choices if c == "f32") or (knob.default,)
    return knob.choices


def _full_precision(runtime: str, knobs: Sequence[Knob], options: Mapping[str, Scalar]) -> bool:
    for knob in knobs:
        if knob.name == "precision":
            return options.get("precision", knob.default) in ("f32", "float32")
    return True


def _shown(name: str, value: Scalar) -> str:
    if name == "threads":
        return "1 thread" if value == 1 else f"{value} threads"
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return str(value)
