"""Constant weights of float operators, in the fewest bytes that lose nothing.

A constant of 8-bit integers or half-precision numbers behind a DEQUANTIZE is unpacked by XNNPACK when it loads the model, so it
costs nothing in a call.
"""

from __future__ import annotations

import numpy as np

from dovetail.core.protocols import Array
from dovetail.lowering import half
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.tensors import Quant, Tensor, View

WORTH_BYTES = 4096
"""Weights below this size stay single precision: they would gain less than the operator takes."""


def stored(em: Emitter, value: Array, quant: Quant | None, name: str) -> Tensor:
    """A float32 tensor for weights.

    Args:
        em: the graph.
        value: in storage order: reals, or integers of ``quant``.
        quant: its axis counts in storage order; ``None`` for reals.
        name: of the value.
    """
    if value.size * 4 <= WORTH_BYTES:
        return em.constant(value.astype(np.float32) if quant is None else quant.dequantise(value), name)
    if quant is not None and quant.dtype == "int8":
        return _unpacked(em, em.constant(value, name, quant))
    real = value if quant is None else quant.dequantise(value)
    if quant is None and half.fits(real):
        return _unpacked(em, em.constant(real.astype(np.float16), name))
    if quant is not None:
        em.note(f"{name}: integers of {quant.dtype} are stored as float32, since XNNPACK unpacks those of 8 bits alone")
    return em.constant(real.astype(np.float32, copy=False), name)


def unpacked_in_advance(em: Emitter, weights: View, name: str, code: str) -> View:
    """Constant weights as reals, for an operator that XNNPACK lacks: nobody would unpack them when the model is loaded.

    Args:
        em: the graph.
        weights: as the model has them.
        name: of the value.
        code: the operator.
    """
    if weights.quant is not None and weights.tensor.nbytes > WORTH_BYTES // 4:
        em.note(f"{name}: integers of {weights.dtype} are stored as float32, since XNNPACK has no {code}")
    return em.real(weights)


def _unpacked(em: Emitter, packed: Tensor) -> Tensor:
    real = em.tensor(f"{packed.name}/real", packed.shape, "float32")
    em.emit("DEQUANTIZE", [packed], [real], "DequantizeOptions")
    return real
