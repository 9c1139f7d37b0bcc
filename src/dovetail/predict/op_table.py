"""A workload as arrays, read once, so that many devices can be predicted from it at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from dovetail.core.workload import Op, Workload
from dovetail.predict.edge.network import Network

Floats = NDArray[np.float64]

ELEMENT_BYTES = {
    "float64": 8.0, "float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "int64": 8.0, "int32": 4.0, "int8": 1.0, "uint8": 1.0,
    "bool": 1.0,
}  # fmt: skip

_DTYPES = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_FREE = frozenset({
    "Constant", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Size", "Dropout", "QuantizeLinear",
    "DequantizeLinear", "Cast", "ConstantOfShape",
})  # fmt: skip
_MOVES = frozenset({
    "Transpose", "Concat", "Slice", "Split", "Gather", "GatherElements", "GatherND", "Pad", "Resize", "Expand", "Tile",
    "DepthToSpace", "SpaceToDepth", "ScatterND", "Upsample",
})  # fmt: skip
_REDUCES = frozenset({
    "Softmax", "LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "MaxPool",
    "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LRN", "TopK", "ArgMax", "CumSum",
})  # fmt: skip


class Family(IntEnum):
    """Operators that use hardware alike."""

    PRODUCT = 0
    DEPTHWISE = 1
    REDUCE = 2
    ELEMENTWISE = 3
    MOVE = 4
    FREE = 5


_TAKES_BEHIND = (Family.PRODUCT, Family.DEPTHWISE, Family.ELEMENTWISE)
_FOLDS = frozenset({"BatchNormalization"})
"""Operators that every runtime folds into the product before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTable:
    """Operators that take time, in order of execution, at the batch that the workload was analysed at.

    Attributes:
        names: of the operators ``[n]``.
        family: ``[n]``.
        flop: ``[n]``; what could not be counted counts 0.
        weights: ``[n]`` constant elements read.
        activations: ``[n]`` elements read and written; of an operator fused behind another those that that one did not hold.
        fused: ``[n]`` runs inside the operator before it.
        dtype: that the products are computed in, of :data:`dovetail.core.device.DTYPES`.
        batch: samples a call.
        input_bytes: of a call.
        peak_activations: greatest number of live elements in a call; ``None`` when a shape is unknown.
        params: constant elements of the whole model.
        uncounted: operators whose operations or bytes are not known.
        network: the same for models that look at whole networks.
    """

    names: tuple[str, ...]
    family: NDArray[np.int8]
    flop: Floats
    weights: Floats
    activations: Floats
    fused: NDArray[np.bool_]
    dtype: str
    batch: int
    input_bytes: float
    peak_activations: float | None
    params: float
    uncounted: int
    network: Network


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
    weight_bytes, peak = ELEMENT_BYTES.get(computed, 1.0), workload.peak_activation_bytes
    return OpTable(
        names=tuple(op.name for op, _ in kept),
        family=np.array([kind for _, kind in kept], dtype=np.int8),
        flop=np.array([op.flop or 0.0 for op, _ in kept]),
        weights=np.array([op.weight_bytes for op, _ in kept]) / weight_bytes,
        activations=np.array([_moved(op, inner) for (op, _), inner in zip(kept, fused, strict=True)]),
        fused=np.array([inner is not None for inner in fused], dtype=bool),
        dtype=_DTYPES.get(computed, "int8"),
        batch=_batch(workload),
        input_bytes=sum(map(math.prod, workload.input_shapes.values())) * ELEMENT_BYTES.get(held, 4.0),
        peak_activations=None if peak is None else peak / ELEMENT_BYTES.get(held, 4.0),
        params=float(workload.params),
        uncounted=sum(op.flop is None or op.bytes is None for op, _ in kept),
        network=_network(workload, [kind for _, kind in kept]),
    )


def family(op: Op) -> Family:
    """Which family an operator belongs to."""
    facts = op.attributes or {}
    if op.kind in _FREE or facts.get("counted", "").startswith("once"):
        return Family.FREE
    if "matrix_flop" in facts:
        return Family.DEPTHWISE if _is_depthwise(op, facts) else Family.PRODUCT
    if op.kind in _MOVES:
        return Family.MOVE
    return Family.REDUCE if op.kind in _REDUCES or op.kind.startswith("Reduce") else Family.ELEMENTWISE


def _is_depthwise(op: Op, facts: Mapping[str, str]) -> bool:
    shape = op.output_shapes[0] if op.output_shapes else None
    groups = int(facts.get("group", "1"))
    return groups > 1 and shape is not None and len(shape) > 1 and shape[1] is not None and groups >= shape[1] > 1


def _fused(op: Op, kind: Family, makers: Mapping[str, Op], readers: Mapping[str, int]) -> float | None:
    """Bytes that an operator finds in the one before it, where it is fused with that; else ``None``."""
    if kind is not Family.ELEMENTWISE and op.kind not in _FOLDS:
        return None
    for name in op.inputs:
        maker = makers.get(name)
        if maker and readers.get(name) == 1 and (family(maker) in _TAKES_BEHIND or maker.kind in _FOLDS):
            return 2 * (maker.output_bytes or 0.0)
    return None


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


def _batch(workload: Workload) -> int:
    shapes = [shape for shape in workload.input_shapes.values() if len(shape) > 1]
    return shapes[0][0] if shapes else 1


def _network(workload: Workload, kinds: list[Family]) -> Network:
    """One sample's sizes, and of what kind the network is as far as its operators tell."""
    batch = _batch(workload)
    layers = [kind for kind in kinds if kind in (Family.PRODUCT, Family.DEPTHWISE)]
    pixels = float(sum(_pixels(shape) for shape in workload.input_shapes.values())) or None
    depthwise = layers.count(Family.DEPTHWISE) / max(1, len(layers))
    softmax = sum(op.kind == "Softmax" for op in workload.ops)
    last = workload.ops[-1].output_shapes[0] if workload.ops and workload.ops[-1].output_shapes else None
    dense = float(bool(pixels and last and 4 * _pixels(last) >= pixels))
    return Network(
        flop=max(workload.flop / batch, 1.0),
        pixels=pixels,
        params=float(max(workload.params, 1)),
        layers=float(max(len(layers), 1)),
        tags={"depthwise": float(depthwise > 0.2), "attention": float(softmax > 2), "dense": dense},
    )


def _pixels(shape: tuple[int, ...]) -> int:
    """Height times width of an image, whose channels are taken to be few where they come last; 0 of anything else."""
    if len(shape) != 4:
        return 0
    return shape[1] * shape[2] if shape[3] <= 4 < shape[1] else shape[2] * shape[3]
