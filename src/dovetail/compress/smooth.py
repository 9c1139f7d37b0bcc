"""SmoothQuant: moves the difficulty of quantisation from activations with outlier channels to the weights behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from dovetail.compress.calibration import sweep
from dovetail.compress.onnx_file import constants
from dovetail.compress.qdq import PRODUCT_TYPES, Scope
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array, Dataset

_FLOOR = 1e-5
"""Least channel magnitude, so that dead channels give no infinite factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """A normalised tensor, the constants that scale and shift it, and all matrix products that read it.

    Attributes:
        tensor: its last axis is the channel.
        affine: (node, input index) of each constant ``[channels]`` to divide by the factors.
        products: nodes whose weights are multiplied by them.
    """

    tensor: str
    affine: tuple[tuple[Any, int], ...]
    products: tuple[Any, ...]


def smoothed(proto: Any, scope: Scope, dataset: Dataset, samples: int, alpha: float) -> Any:
    """An equivalent float model: normalised activations divided by ``s``, the weights behind them multiplied by it.

    ``s_j = max|X_j|^α / max|W_j|^(1-α)`` for input channel ``j`` (Xiao et al., "SmoothQuant", ICML 2023, arXiv:2211.10438,
    equation 4). Factors are folded into the affine part of the normalisation, so the graph gains no operator; products whose
    input is not a normalised tensor stay as they are.

    Raises:
        ModelError: no matrix product reads a normalised tensor.
    """
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    groups = list(_groups(result, scope))
    if not groups:
        raise ModelError("there is nothing to smooth: no matrix product reads a tensor that a normalisation scales")
    maxima = _channel_maxima(proto, [g.tensor for g in groups], dataset, samples)
    for group in groups:
        _apply(result, group, maxima[group.tensor], alpha)
    return result


def _groups(proto: Any, scope: Scope) -> Iterator[_Group]:
    weights = constants(proto)
    producers = {t: n for n in proto.graph.node for t in n.output}
    outputs = {o.name for o in proto.graph.output}
    readers: dict[str, list[Any]] = {}
    for node in proto.graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    for tensor, nodes in readers.items():
        affine = _affine(producers.get(tensor), producers, readers, weights)
        products = all(_is_product(n, tensor, weights) and scope.covers(n) for n in nodes)
        if affine and products and tensor not in outputs:
            yield _Group(tensor=tensor, affine=affine, products=tuple(nodes))


def _is_product(node: Any, tensor: str, weights: dict[str, Any]) -> bool:
    if node.op_type not in PRODUCT_TYPES or node.input[0] != tensor or node.input[1] not in weights:
        return False
    return len(weights[node.input[1]].dims) == 2 and not _attribute(node, "transA")


def _affine(
    node: Any, producers: dict[str, Any], readers: dict[str, list[Any]], weights: dict[str, Any]
) -> tuple[tuple[Any, int], ...]:
    """Where the constants of a normalisation's affine part are; empty when the node is none.

    Known forms: LayerNormalization, ``Mul(x, constant)``, and ``Add(Mul(x, constant), constant)``.
    """
    if node is None:
        return ()
    if node.op_type == "LayerNormalization":
        places = [(node, i) for i in range(1, len(node.input)) if node.input[i]]
        return tuple(places) if all(n.input[i] in weights for n, i in places) else ()
    vectors = [i for i, t in enumerate(node.input) if t in weights and len(weights[t].dims) == 1 and weights[t].dims[0] > 1]
    if node.op_type not in ("Mul", "Add") or len(vectors) != 1:
        return ()
    if node.op_type == "Mul":
        return ((node, vectors[0]),)
    scaled = node.input[1 - vectors[0]]
    inner = producers.get(scaled)
    if inner is None or inner.op_type != "Mul" or len(readers[scaled]) != 1:
        return ()
    scale = _affine(inner, producers, readers, weights)
    return (*scale, (node, vectors[0])) if scale else ()


def _channel_maxima(proto: Any, tensors: Sequence[str], dataset: Dataset, samples: int) -> dict[str, Array]:
    """Greatest magnitude per channel of the last axis, ``[channels]``."""
    found: dict[str, Array] = {}
    for values in sweep(proto, tensors, dataset, samples):
        for name, value in values.items():
            peaks = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            found[name] = np.maximum(found.get(name, peaks), peaks)
    return found


def _apply(proto: Any, group: _Group, activation: Array, alpha: float) -> None:
    weights = constants(proto)
    matrices = [numpy_helper.to_array(weights[n.input[1]]) for n in group.products]
    by_input = [m.T if _attribute(n, "transB") else m for n, m in zip(group.products, matrices, strict=True)]
    weight = np.max([np.abs(m).max(axis=1) for m in by_input], axis=0)
    factors = np.maximum(activation, _FLOOR) ** alpha / np.maximum(weight, _FLOOR) ** (1 - alpha)
    factors = factors.astype(np.float32)
    for node, index in group.affine:
        _replace(proto, node, index, numpy_helper.to_array(weights[node.input[index]]) / factors)
    for node, matrix in zip(group.products, matrices, strict=True):
        _replace(proto, node, 1, matrix * (factors if _attribute(node, "transB") else factors[:, None]))


def _replace(proto: Any, node: Any, index: int, values: Array) -> None:
    """Gives one input of a node a constant of its own, since others may share the old one."""
    name = f"{node.name}_smoothed_{index}"
    proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    node.input[index] = name


def _attribute(node: Any, name: str) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), 0)
