"""Arithmetic on stored tensors, for operators that the runtime has only in parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops import types
from dovetail.lowering.tensors import Quant, Tensor

Number = Tensor | float
_FUSED = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}


class Maths:
    """Emits operators whose results carry the name of one ONNX value.

    Operands are tensors in one storage order, or numbers; shapes broadcast as numpy's do.
    """

    def __init__(self, em: Emitter, name: str) -> None:
        self.em = em
        self.name = name

    def apply(
        self, code: str, *operands: Number, dtype: str = "", activation: str = "NONE", quant: Quant | None = None
    ) -> Tensor:
        """The result of an operator that works element by element."""
        first = next(o for o in operands if isinstance(o, Tensor))
        rank = max(len(o.shape) for o in operands if isinstance(o, Tensor))
        tensors = [o if isinstance(o, Tensor) else self.number(o, rank, first.dtype) for o in operands]
        shape = np.broadcast_shapes(*(t.shape for t in tensors))
        out = self.em.tensor(f"{self.name}/{code.lower()}", shape, dtype or first.dtype, quant)
        if code in _FUSED:
            self.em.emit(code, tensors, [out], _FUSED[code], fusedActivationFunction=activation)
        else:
            self.em.emit(code, tensors, [out])
        return out

    def number(self, value: float, rank: int, dtype: str) -> Tensor:
        """A number that broadcasts over tensors of a rank."""
        return self.em.constant(np.full((1,) * rank, value, dtype), f"{self.name}/number")

    def constant(self, value: Array) -> Tensor:
        """A constant in storage order."""
        return self.em.constant(value, f"{self.name}/constant")

    def add(self, a: Number, b: Number, activation: str = "NONE") -> Tensor:
        """``a + b``, bounded by a fused activation."""
        return self.apply("ADD", a, b, activation=activation)

    def sub(self, a: Number, b: Number) -> Tensor:
        """``a − b``."""
        return self.apply("SUB", a, b)

    def mul(self, a: Number, b: Number) -> Tensor:
        """``a · b``."""
        return self.apply("MUL", a, b)

    def div(self, a: Number, b: Number) -> Tensor:
        """``a / b``."""
        return self.apply("DIV", a, b)

    def maximum(self, a: Number, b: Number) -> Tensor:
        """The greater of two."""
        return self.apply("MAXIMUM", a, b)

    def minimum(self, a: Number, b: Number) -> Tensor:
        """The smaller of two."""
        return self.apply("MINIMUM", a, b)

    def compare(self, code: str, a: Number, b: Number) -> Tensor:
        """A comparison (``LESS``, ``EQUAL`` …), which makes bools."""
        return self.apply(code, a, b, dtype="bool")

    def select(self, condition: Tensor, a: Number, b: Number) -> Tensor:
        """``a`` where the condition holds, else ``b``; one of them is a tensor."""
        like = a if isinstance(a, Tensor) else b
        assert isinstance(like, Tensor)
        rank = len(like.shape)
        a, b = (o if isinstance(o, Tensor) else self.number(o, rank, like.dtype) for o in (a, b))
        return self.apply("SELECT_V2", condition, a, b, dtype=like.dtype)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """The values in another type."""
        return types.cast(self.em, x, dtype)

    def reduce(
        self, code: str, x: Tensor, places: Sequence[int], keep: bool = True, quant: Quant | None = None
    ) -> Tensor:
        """A reduction (``SUM``, ``MEAN``, ``REDUCE_MAX`` …) over stored axes."""
        shape = _left(x.shape, places, keep)
        image = self.em.image(x)
        if image is not None:  # of a line: its height goes with its length
            x, places = image, [p + 1 if p else 0 for p in places] + ([1] if 1 in places else [])
        out = self.em.tensor(f"{self.name}/{code.lower()}", _left(x.shape, places, keep), x.dtype, quant)
        axes = self.em.integers(sorted(places), f"{self.name}/axes")
        self.em.emit(code, [x, axes], [out], "ReducerOptions", keepDims=keep)
        return self.em.reshape(out, shape)

    def gather(self, x: Tensor, indices: Tensor, place: int) -> Tensor:
        """Slices of one stored axis, by index."""
        shape = (*x.shape[:place], *indices.shape, *x.shape[place + 1 :])
        out = self.em.tensor(f"{self.name}/taken", shape, x.dtype, x.quant)
        self.em.emit("GATHER", [x, indices], [out], "GatherOptions", axis=place, batchDims=0)
        return out


def _left(shape: Sequence[int], places: Sequence[int], keep: bool) -> list[int]:
    """What a reduction leaves of a shape."""
    return [1 if place in places else size for place, size in enumerate(shape) if keep or place not in places]
