"""Attention, an operator of opset 23, written out in products and a softmax."""

from __future__ import annotations

import math

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.rewrite.build import Builder
from dovetail.lowering.source import Node, Source

LOWEST = -1e37
"""Added to a score it leaves no probability, and stays finite, so that no difference of infinities is formed."""


def write_out(source: Source) -> None:
    """Every Attention becomes ``softmax(scale · Q Kᵀ + mask) V``."""
    nodes = []
    for node in source.nodes:
        nodes += _written(source, node) if node.op == "Attention" else [node]
    source.nodes = nodes


def _written(source: Source, node: Node) -> list[Node]:
    _require_covered(source, node)
    b = Builder(source, node.output)
    heads = node.get("q_num_heads"), node.get("kv_num_heads"), node.get("kv_num_heads")
    query, key, value = (_split(b, name, n) for name, n in zip(node.inputs, heads, strict=False))
    scale = node.get("scale") or 1 / math.sqrt(b.shape(query)[-1])
    query = b.elementwise("Mul", query, b.number(scale))
    key, past = _with_past(b, node, key, 4, 1)
    value, _ = _with_past(b, node, value, 5, 2)
    scores = _capped(b, _grouped(b, query, b.transpose(key, (0, 1, 3, 2))), node.get("softcap", 0.0))
    bias, allowed = _mask(b, source, node, b.shape(scores)[-2:], past)
    if bias:
        scores = b.elementwise("Add", scores, bias)
    weights = b.node("Softmax", scores, shape=b.shape(scores), axis=-1)
    if allowed:
        weights = b.elementwise("Mul", weights, allowed)
    _joined(b, _grouped(b, weights, value), node)
    return b.nodes


def _require_covered(source: Source, node: Node) -> None:
    if node.has(6):
        raise ModelError(f"Attention {node.output!r} finds the number of keys at run time")
    if len(node.outputs) > 3 and node.outputs[3]:
        raise ModelError(f"Attention {node.output!r} returns its scores, which is not lowered")
    if source.dtype(node.output) != "float32":
        raise ModelError(f"Attention {node.output!r} computes in {source.dtype(node.output)}; only float32 is lowered")


def _split(b: Builder, name: str, heads: int | None) -> str:
    """``[batch, length, heads · size]`` → ``[batch, heads, length, size]``; what has four axes is that already."""
    shape = b.shape(name)
    if len(shape) == 4 or heads is None:
        return name
    return b.transpose(b.reshape(name, (*shape[:2], heads, shape[2] // heads)), (0, 2, 1, 3))


def _with_past(b: Builder, node: Node, name: str, past: int, output: int) -> tuple[str, int]:
    """Keys or values behind those of earlier calls, and how many those are; they may be an output of their own."""
    out = node.outputs[output] if output < len(node.outputs) else ""
    shape = b.shape(name)
    if not node.has(past):
        return (b.reshape(name, shape, out) if out else name), 0
    length = b.shape(node.inputs[past])[2]
    whole = (*shape[:2], length + shape[2], shape[3])
    return b.node("Concat", node.inputs[past], name, shape=whole, name=out, axis=2), length


def _grouped(b: Builder, a: str, other: str) -> str:
    """A product of each head with its own matrix; several query heads may share one, as rows of one product."""
    batch, heads, rows, size = b.shape(a)
    shared = b.shape(other)[1]
    product = b.matmul(b.reshape(a, (batch, shared, heads // shared * rows, size)), other)
    return b.reshape(product, (batch, heads, rows, b.shape(product)[-1]))


def _capped(b: Builder, scores: str, cap: float) -> str:
    if not cap:
        return scores
    small = b.elementwise("Mul", scores, b.number(1 / cap))
    return b.elementwise("Mul", b.elementwise("Tanh", small), b.number(cap))


def _joined(b: Builder, heads: str, node: Node) -> None:
    """The result in the form of the query, under its own name."""
    batch, count, rows, size = b.shape(heads)
    if len(b.shape(node.output)) == 4:
        b.reshape(heads, b.shape(heads), node.output)
    else:
        b.reshape(b.transpose(heads, (0, 2, 1, 3)), (batch, rows, count * size), node.output)


# -- masks ---------------------------------------------------------------------------------------------------------------


def _mask(b: Builder, source: Source, node: Node, sizes: tuple[int, ...], past: int) -> tuple[str, str]:
    """What is added to the scores, and 1 where a key may be looked at, else 0; empty names for neither.

    The second makes rows without any key come out as zeros, as the standard wants it.
    """
    window = _window(node, sizes, past)
    given = source.constant(node, 3)
    if node.has(3) and given is None:
        return _computed_mask(b, source, node.inputs[3], sizes, window)
    if given is not None:
        missing = [(0, 0)] * (given.ndim - 1) + [(0, sizes[-1] - given.shape[-1])]
        added = np.where(given, 0.0, -np.inf) if given.dtype == np.bool_ else given.astype(np.float64)
        window = window + np.pad(added, missing, constant_values=-np.inf)
    if not window.any():
        return "", ""
    bias = b.constant(_finite(window), "mask")
    seen = np.asarray((window > LOWEST).any(axis=-1, keepdims=True), np.float32)
    return bias, "" if seen.all() else b.constant(seen, "rows")


def _finite(mask: Array) -> Array:
    return np.maximum(mask, LOWEST).astype(np.float32)


def _window(node: Node, sizes: tuple[int, ...], past: int) -> Array:
    """0 for keys at positions that a query may look at, −∞ for the others."""
    ahead = np.arange(sizes[1])[None, :] - (np.arange(sizes[0])[:, None] + past)
    left, right = node.get("left_window_size", -1), node.get("right_window_size", -1)
    hidden = (ahead > 0) if node.get("is_causal", 0) else np.zeros(ahead.shape, np.bool_)
    hidden |= (-ahead > left) if left >= 0 else False
    hidden |= (ahead > right) if right >= 0 else False
    return np.asarray(np.where(hidden, -np.inf, 0.0))


def _computed_mask(b: Builder, source: Source, name: str, sizes: tuple[int, ...], window: Array) -> tuple[str, str]:
    if b.shape(name)[-1] != sizes[-1]:
        raise ModelError(f"the mask {name!r} covers {b.shape(name)[-1]} of {sizes[-1]} keys, which is not lowered")
    shape = b.shape(name)
    if source.dtype(name) == "bool":
        allowed = b.node("Cast", name, shape=shape, to=1)
        bias = b.elementwise("Mul", b.elementwise("Sub", allowed, b.number(1.0)), b.number(-LOWEST))
    else:
        seen = b.elementwise("Greater", name, b.number(LOWEST), dtype="bool")
        allowed = b.node("Cast", seen, shape=shape, to=1)
        bias = b.elementwise("Max", name, b.number(LOWEST))
    if window.any():
        allowed = b.elementwise("Mul", allowed, b.constant(np.asarray(window == 0, np.float32), "window"))
        bias = b.elementwise("Add", bias, b.constant(_finite(window), "window"))
    return bias, allowed
