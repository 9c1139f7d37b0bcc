"""A workload as arrays, read once, so that many devices can be predicted from it at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dovetail.core.workload import Op, Workload
from dovetail.predict.edge.network import Network
from dovetail.predict.family import ELEMENT_BYTES, Family, family
from dovetail.predict.nets.profile import launched, of_launched
from dovetail.predict.nets.quantities import Counted

Floats = NDArray[np.float64]

_DTYPES = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_TAKES_BEHIND = (Family.PRODUCT, Family.DEPTHWISE, Family.ELEMENTWISE)
_FOLDS = frozenset({"BatchNormalization"})
"""Operators that every runtime folds into the product before them."""
_PLAIN = frozenset({"MatMul", "Gemm"})
_SUMS = frozenset({"Add", "Sum"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTable:
    """Operators that take time, in order of execution, at the batch that the workload was analysed at.

    Attributes:
        names: of the operators ``[n]``.
        family: ``[n]``.
        flop: ``[n]``; what could not be counted counts 0.
        weights: ``[n]`` constant elements read.
        activations: ``[n]`` elements read and written; of an operator fused behind another those that that one did not hold.
        stored_bytes: ``[n]`` read a call in a type of its own, which the type that is computed in does not change.
        fused: ``[n]`` runs inside the operator before it.
        dtype: that the products are computed in, of :data:`dovetail.core.device.DTYPES`.
        batch: samples a call.
        input_bytes: of a call.
        peak_activations: greatest number of live elements in a call; ``None`` when a shape is unknown.
        params: constant elements of the whole model.
        uncounted: operators whose operations or bytes are not known.
        network: the same for models that look at whole networks.
        launched: name of each operator that PyTorch would launch, and what it does (:mod:`dovetail.predict.nets.profile`).
        quantities: ``[QUANTITIES]`` their sums over one sample.
        products: ``[n, 3]`` rows, columns and depth of products of activations with a matrix of weights; 0 of all others.
    """

    names: tuple[str, ...]
    family: NDArray[np.int8]
    flop: Floats
    weights: Floats
    activations: Floats
    stored_bytes: Floats
    fused: NDArray[np.bool_]
    dtype: str
    batch: int
    input_bytes: float
    peak_activations: float | None
    params: float
    uncounted: int
    network: Network
    launched: tuple[tuple[str, Counted], ...]
    quantities: Floats
    products: Floats


def op_table(workload: Workload) -> OpTable:
    """Reads a workload. Element-wise operators behind a product or another of their kind are taken as fused with it."""
    makers = {name: op for op in workload.ops for name in op.outputs}
    readers: dict[str, int] = {}
    for op in workload.ops:
        for name in op.inputs:
            readers[name] = readers.get(name, 0) + 1
    kept = [(op, kind) for op in workload.ops if (kind := family(op)) is not Family.FREE]
    fused = [_fused(op, kind, makers, readers) for op, kind in kept]
    computed, held = _dtypes(workload)
    as_launched = launched(workload)
    weight_bytes, peak = ELEMENT_BYTES.get(computed, 1.0), workload.peak_activation_bytes
    return OpTable(
        names=tuple(op.name for op, _ in kept),
        family=np.array([kind for _, kind in kept], dtype=np.int8),
        flop=np.array([op.flop or 0.0 for op, _ in kept]),
        weights=np.array([op.weight_bytes for op, _ in kept]) / weight_bytes,
        activations=np.array([_moved(op, inner) for (op, _), inner in zip(kept, fused, strict=True)]),
        stored_bytes=np.zeros(len(kept)),
        fused=np.array([inner is not None for inner in fused], dtype=bool),
        dtype=_DTYPES.get(computed, "int8"),
        batch=workload.batch,
        input_bytes=sum(map(math.prod, workload.input_shapes.values())) * ELEMENT_BYTES.get(held, 4.0),
        peak_activations=None if peak is None else peak / ELEMENT_BYTES.get(held, 4.0),
        params=float(workload.params),
        uncounted=sum(op.flop is None or op.bytes is None for op, _ in kept),
        network=_network(workload, [kind for _, kind in kept]),
        launched=as_launched,
        quantities=of_launched(as_launched, workload),
        products=np.array([_plain_product(op) for op, _ in kept], dtype=np.float64).reshape(-1, 3),
    )


def _fused(op: Op, kind: Family, makers: Mapping[str, Op], readers: Mapping[str, int]) -> float | None:
    """Bytes that an operator finds in the one before it, where it is fused with that; else ``None``."""
    if kind is not Family.ELEMENTWISE and op.kind not in _FOLDS:
        return None
    for name in op.inputs:
        maker = makers.get(name)
        if maker and readers.get(name) == 1 and (family(maker) in _TAKES_BEHIND or maker.kind in _FOLDS):
            return 2 * (maker.output_bytes or 0.0)
    return None


def _plain_product(op: Op) -> tuple[float, float, float]:
    """Rows, columns, depth; 0 of what is no product with one matrix of weights."""
    shape = op.output_shapes[0] if op.output_shapes else None
    flop = float((op.attributes or {}).get("matrix_flop", 0.0))
    if op.kind not in _PLAIN or not shape or not flop:
        return 0.0, 0.0, 0.0
    columns = shape[-1]
    rows = math.prod(shape[:-1])
    depth = flop / max(2.0 * rows * columns, 1.0)
    whole = depth * columns <= op.params <= (depth + 1) * columns
    return (float(rows), float(columns), depth) if whole and rows else (0.0, 0.0, 0.0)


def _moved(op: Op, inner: float | None) -> float:
    moved = (op.input_bytes or 0.0) + (op.output_bytes or 0.0)
    return max(0.0, moved - (inner or 0.0)) / ELEMENT_BYTES.get(op.dtype, 4.0)


def _dtypes(workload: Workload) -> tuple[str, str]:
    """Type that most products compute in (int8 where their operands come quantised), and that their results are held in."""
    dequantised = {name for op in workload.ops if op.kind == "DequantizeLinear" for name in op.outputs}
    computed: dict[str, float] = {}
    held: dict[str, float] = {}
    for op in workload.ops:
        if "matrix_flop" in (op.attributes or {}):
            integer = "Integer" in op.kind or op.kind.startswith("QLinear") or sum(n in dequantised for n in op.inputs) > 1
            dtype = "int8" if integer else op.dtype
            computed[dtype] = computed.get(dtype, 0.0) + (op.flop or 0.0)
            held[op.dtype] = held.get(op.dtype, 0.0) + (op.flop or 0.0)
    return _greatest(computed), _greatest(held)


def _greatest(shares: Mapping[str, float]) -> str:
    return max(shares, key=lambda name: shares[name]) if shares else "float32"


def _network(workload: Workload, kinds: list[Family]) -> Network:
    """One sample's sizes, and of what kind the network is as far as its operators tell."""
    batch = workload.batch
    layers = [kind for kind in kinds if kind in (Family.PRODUCT, Family.DEPTHWISE)]
    pixels = float(sum(_pixels(shape) for shape in workload.input_shapes.values())) or None
    return Network(
        flop=max(workload.flop / batch, 1.0),
        pixels=pixels,
        params=float(max(workload.params, 1)),
        layers=float(max(len(layers), 1)),
        tags={name: float(told) for name, told in _tags(workload.ops, layers, pixels).items()},
    )


def _tags(ops: Sequence[Op], layers: Sequence[Family], pixels: float | None) -> dict[str, bool]:
    """Kinds of networks (:data:`~dovetail.predict.edge.network.TAGS`) by how often an operator stands among the layers."""
    count, made = max(1, len(layers)), {name for op in ops for name in op.outputs}
    kinds = Counter(op.kind for op in ops)
    # A bias is small beside what it is added to; a branch is as large as its input.
    sums = sum(op.kind in _SUMS and (op.input_bytes or 0.0) > 1.9 * (op.output_bytes or math.inf) for op in ops)
    joined = sum(op.kind == "Concat" and sum(name in made for name in op.inputs) >= 3 for op in ops)
    last = ops[-1].output_shapes[0] if ops and ops[-1].output_shapes else None
    depthwise, attention = layers.count(Family.DEPTHWISE) > 0.2 * count, kinds["Softmax"] > 2
    plain = pixels is not None and not depthwise and not attention
    return {
        "depthwise": depthwise,
        "attention": attention,
        "dense": bool(pixels and last and 4 * _pixels(last) >= pixels),
        "text": attention and pixels is None,
        "resnet": plain and sums >= 0.25 * count,
        "inception": plain and joined >= 5 and not kinds["Resize"] and not kinds["Upsample"],
        "vectors": not attention and not any("Conv" in kind for kind in kinds),
    }


def _pixels(shape: tuple[int, ...]) -> int:
    """Height times width of an image, whose channels are taken to be few where they come last; 0 of anything else."""
    if len(shape) != 4:
        return 0
    return shape[1] * shape[2] if shape[3] <= 4 < shape[1] else shape[2] * shape[3]
