"""Scales of a quantised graph: which belong together, and which are trained.

Exporters store a scale twice, once for QuantizeLinear and once for the DequantizeLinear behind it, and the scale of an int32
bias as the product of two others. Such scales follow their source, so that training cannot pull them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

from dovetail.core.protocols import Array
from dovetail.train.source import Item

_CLOSE = 1e-5
"""Relative difference up to which a bias's scale counts as the product of its layer's scales."""
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """How the stored scales hang together.

    Attributes:
        same: scale → the one it repeats.
        products: scale of a bias → scales of the layer's input and weights.
        learned: scales that are trained, in order.
    """

    same: Mapping[str, str] = field(default_factory=dict)
    products: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    learned: tuple[str, ...] = ()


def tie(items: Sequence[Item], stored: Mapping[str, TensorProto]) -> tuple[list[Item], dict[str, str]]:
    """Lets each DequantizeLinear behind a QuantizeLinear read the latter's scale and zero point where they are equal.

    Returns:
        the nodes, and tensor → the one that stands for it.
    """
    producers = {name: item for item in items for name in item.outputs if name}
    same: dict[str, str] = {}
    result = []
    for item in items:
        source = producers.get(item.inputs[0]) if item.kind == "DequantizeLinear" else None
        if source is not None and source.kind == "QuantizeLinear" and len(source.inputs) == len(item.inputs):
            pairs = list(zip(item.inputs[1:], source.inputs[1:], strict=True))
            if all(mine == its or _repeats(stored, mine, its, same) for mine, its in pairs):
                same.update({mine: its for mine, its in pairs if mine != its})
                item = replace(item, inputs=(item.inputs[0], *source.inputs[1:]))
        result.append(item)
    return result, same


def _repeats(stored: Mapping[str, TensorProto], name: str, source: str, same: Mapping[str, str]) -> bool:
    if name not in stored or source not in stored or same.get(name, source) != source or source in same:
        return False
    mine, its = numpy_helper.to_array(stored[name]), numpy_helper.to_array(stored[source])
    return mine.dtype == its.dtype and (mine.shape == its.shape or its.size == 1) and bool((mine == its).all())


def relate(items: Sequence[Item], stored: Mapping[str, TensorProto], same: Mapping[str, str], learn: bool) -> Scales:
    """Finds the products and the scales to train; ``items`` are tied."""
    if not learn:
        return Scales(same=same)
    producers = {name: item for item in items for name in item.outputs if name}
    products: dict[str, tuple[str, str]] = {}
    for item in items:
        found = _bias(item, producers, stored)
        if found is not None:
            products.setdefault(found[0], found[1])
    read = [item.inputs[1] for item in items if item.kind in ("QuantizeLinear", "DequantizeLinear")]
    biases = {item.inputs[1] for item in items if _of_int32(item, stored)}
    learned = [name for name in dict.fromkeys(read) if name in stored and name not in products and name not in biases]
    products = {name: pair for name, pair in products.items() if set(pair) <= set(learned)}
    return Scales(same=same, products=products, learned=tuple(learned))


def _of_int32(item: Item | None, stored: Mapping[str, TensorProto]) -> bool:
    if item is None or item.kind != "DequantizeLinear" or item.inputs[0] not in stored:
        return False
    return bool(stored[item.inputs[0]].data_type == TensorProto.INT32)


def _bias(
    item: Item, producers: Mapping[str, Item], stored: Mapping[str, TensorProto]
) -> tuple[str, tuple[str, str]] | None:
    """Scale of the int32 bias that this node adds, and those of the product it is added to."""
    if item.kind in ("Conv", "ConvTranspose", "Gemm") and len(item.inputs) > 2:
        bias, layer = producers.get(item.inputs[2]), item
    elif item.kind == "Add":
        both = [producers.get(name) for name in item.inputs]
        biases = [source for source in both if _of_int32(source, stored)]
        layers = [source for source in both if source is not None and source.kind in _PRODUCTS]
        if len(biases) != 1 or len(layers) != 1:
            return None
        bias, layer = biases[0], layers[0]
    else:
        return None
    factors = [producers.get(name) for name in layer.inputs[:2]]
    if bias is None or not _of_int32(bias, stored):
        return None
    names = [factor.inputs[1] for factor in factors if factor is not None and factor.kind == "DequantizeLinear"]
    if len(names) != 2 or not {bias.inputs[1], *names} <= stored.keys():
        return None
    scale, first, second = (numpy_helper.to_array(stored[name]) for name in (bias.inputs[1], *names))
    product = first.reshape(-1) * second.reshape(-1) if 1 in (first.size, second.size) else first
    fits = product.size == scale.size and np.allclose(product, scale.reshape(-1), rtol=_CLOSE, atol=0)
    return (bias.inputs[1], (names[0], names[1])) if fits else None


def positive(scale: Tensor) -> Tensor:
    """A trained scale as it is used: above zero, whatever a step made of it."""
    return scale.abs().clamp_min(torch.finfo(scale.dtype).tiny)


def product(first: Tensor, second: Tensor) -> Tensor:
    """The scale of a bias; it follows its factors, and sends no gradient to them."""
    shape = second.shape if first.numel() == 1 else first.shape
    return (first.detach().reshape(-1) * second.detach().reshape(-1)).reshape(shape)


def repeated(value: Array, shape: Sequence[int]) -> Array:
    """A scale in the shape of the one that repeats it."""
    return np.broadcast_to(value if value.size > 1 else value.reshape(()), tuple(shape)).copy()
