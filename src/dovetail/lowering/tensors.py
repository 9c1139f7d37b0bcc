"""What a lowered graph is made of: tensors, their quantisation, and views of them in another order of axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dovetail.core.protocols import Array

Order = tuple[int, ...]
"""``order[p]`` is the logical axis at place ``p`` of storage. NHWC storage of a logical NCHW value is ``(0, 2, 3, 1)``."""

NHWC: Order = (0, 2, 3, 1)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Quant:
    """Affine quantisation, ``real = scale · (q − zero_point)``.

    Attributes:
        scale: float32, one per tensor or one per slice of ``axis``.
        zero_point: int64, of the same length.
        dtype: ``int8``, ``int16`` or ``int32``.
        axis: of the slices, in storage order; 0 when there is one scale.
    """

    scale: Array
    zero_point: Array
    dtype: str
    axis: int = 0

    @property
    def per_tensor(self) -> bool:
        """Whether one scale holds for all."""
        return self.scale.size == 1

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest real, of one scale."""
        limits, zero, scale = np.iinfo(self.dtype), int(self.zero_point[0]), float(self.scale[0])
        return (limits.min - zero) * scale, (limits.max - zero) * scale

    def same(self, other: Quant | None) -> bool:
        """Equal in every number."""
        return (
            other is not None
            and self.dtype == other.dtype
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.per_tensor or self.axis == other.axis)
        )

    def at(self, axis: int) -> Quant:
        """The same numbers along another axis."""
        return Quant(scale=self.scale, zero_point=self.zero_point, dtype=self.dtype, axis=axis)

    def along(self, rank: int) -> tuple[Array, Array]:
        """Scale and zero point shaped to broadcast over a tensor of a rank."""
        shape = [1] * rank
        if not self.per_tensor:
            shape[self.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)

    def quantise(self, values: Array) -> Array:
        """Nearest integers, halves to even, saturated, as ONNX's QuantizeLinear does."""
        scale, zero = self.along(values.ndim)
        limits = np.iinfo(self.dtype)
        integers: Array = np.clip(np.rint(values / scale) + zero, limits.min, limits.max).astype(self.dtype)
        return integers

    def dequantise(self, values: Array) -> Array:
        """Real values as float32."""
        scale, zero = self.along(values.ndim)
        real: Array = ((values.astype(np.float64) - zero) * scale).astype(np.float32)
        return real

    def __str__(self) -> str:
        return f"scale {float(self.scale.flat[0]):.4g}, zero point {int(self.zero_point.flat[0])}"


def per_tensor(scale: float, zero_point: int, dtype: str = "int8") -> Quant:
    """One scale for a whole tensor."""
    return Quant(scale=np.array([scale], np.float32), zero_point=np.array([zero_point], np.int64), dtype=dtype)


@dataclass(slots=True, eq=False, kw_only=True)
class Tensor:
    """One tensor of the flatbuffer; its identity is the object.

    Attributes:
        shape: in storage order.
        data: of a constant, in storage order; ``None`` when it is computed.
        quant: how integers stand for reals; ``None`` for plain numbers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Array | None = None
    quant: Quant | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A logical value: a tensor whose axes are stored in some order.

    Attributes:
        tensor: the storage.
        order: see :data:`Order`.
    """

    tensor: Tensor
    order: Order

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape."""
        sizes = [0] * len(self.order)
        for place, axis in enumerate(self.order):
            sizes[axis] = self.tensor.shape[place]
        return tuple(sizes)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.order)

    @property
    def quant(self) -> Quant | None:
        """Quantisation of the storage."""
        return self.tensor.quant

    @property
    def dtype(self) -> str:
        """Of the storage."""
        return self.tensor.dtype

    def place(self, axis: int) -> int:
        """Where a logical axis is stored; negative axes count from the end."""
        return self.order.index(axis % self.rank)


def identity(rank: int) -> Order:
    """Storage order equal to the logical order."""
    return tuple(range(rank))


def inverse(order: Sequence[int]) -> Order:
    """The permutation that undoes one."""
    result = [0] * len(order)
    for place, axis in enumerate(order):
        result[axis] = place
    return tuple(result)


def channels_last(rank: int) -> Order:
    """Storage with axis 1 last."""
    return (0, *range(2, rank), 1)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Operator:
    """One operator of the flatbuffer.

    Attributes:
        code: builtin operator name (``CONV_2D``).
        inputs: ``None`` for an optional input left out.
        options: fields of the operator's options table.
        table: name of that table (``Conv2DOptions``); empty for none.
    """

    code: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    table: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
