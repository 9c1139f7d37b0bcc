"""Collects tensors and operators of the lowered graph, and keeps for every ONNX value where and how it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering import kernels, layout
from dovetail.lowering.names import free_name
from dovetail.lowering.source import Node, Source
from dovetail.lowering.tensors import Operator, Order, Quant, Tensor, View, identity, inverse

POINTWISE = frozenset({
    "ABS", "ADD", "CAST", "CEIL", "COS", "DEQUANTIZE", "DIV", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG",
    "LOGISTIC", "MAXIMUM", "MINIMUM", "MUL", "NEG", "PRELU", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT",
    "SIGN", "SIN", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "TANH",
})  # fmt: skip
"""Operators that work element by element on operands that broadcast."""


class Emitter:
    """The graph being built.

    Args:
        source: the ONNX graph.
        targets: value → the quantisation that all its readers want (:func:`.quantisation.targets`).

    Attributes:
        operators: in order of execution.
        notes: adjustments, one phrase each.
        shuffled: value → where each element of its last axis lies; only matrix products with constant weights read such values.
    """

    def __init__(self, source: Source, targets: Mapping[str, Quant]) -> None:
        self.source = source
        self.targets = targets
        self.operators: list[Operator] = []
        self.notes: list[str] = []
        self.shuffled: dict[str, Array] = {}
        self._values: dict[str, View] = {}
        self._names: set[str] = set()
        self._cache: dict[tuple[object, ...], Tensor] = {}
        self._unsigned: dict[Tensor, Tensor] = {}
        self._origins: dict[Tensor, Tensor] = {}

    # -- tensors -----------------------------------------------------------------------------------------------------

    def tensor(self, name: str, shape: Sequence[int], dtype: str, quant: Quant | None = None) -> Tensor:
        """A tensor that is computed; the name gets a number when it is taken."""
        return Tensor(name=self._free(name), shape=tuple(shape), dtype=dtype, quant=quant)

    def constant(self, value: Array, name: str, quant: Quant | None = None) -> Tensor:
        """A constant in storage order."""
        value = np.ascontiguousarray(value).reshape(value.shape)
        return Tensor(name=self._free(name), shape=value.shape, dtype=value.dtype.name, data=value, quant=quant)

    def integers(self, values: Sequence[int], name: str) -> Tensor:
        """An int32 vector, as the operators take shapes and axes."""
        return self.constant(np.array(values, np.int32), name)

    def rename(self, tensor: Tensor, name: str) -> None:
        """Gives a tensor a name, and whichever has it another."""
        for other in (t for op in self.operators for t in (*op.inputs, *op.outputs) if t is not None):
            if other.name == name and other is not tensor:
                other.name = self._free(f"{name}/inner")
        tensor.name = name

    def _free(self, name: str) -> str:
        free = free_name(name, self._names, "/")
        self._names.add(free)
        return free

    # -- values ------------------------------------------------------------------------------------------------------

    def bind(self, name: str, view: View) -> None:
        """Says how an ONNX value is stored."""
        self._values[name] = view

    def view(self, name: str) -> View:
        """How an ONNX value is stored."""
        if name not in self._values:
            value = self.source.constants[name]
            self._values[name] = View(self.constant(value, name), identity(value.ndim))
        return self._values[name]

    def array(self, node: Node, index: int, what: str) -> Array:
        """A constant operand.

        Raises:
            ModelError: it is computed at run time.
        """
        value = self.source.constant(node, index)
        if value is None:
            raise ModelError(f"{node.op} {node.output!r} computes its {what} at run time")
        return value

    # -- emitting ----------------------------------------------------------------------------------------------------

    def emit(
        self, code: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], table: str = "", **options: object
    ) -> None:
        """Adds an operator.

        Raises:
            ModelError: no kernel takes the integers that it is given.
        """
        made = Operator(code=code, inputs=tuple(inputs), outputs=tuple(outputs), table=table, options=options)
        kernels.require(made)
        if code not in POINTWISE or not self._emit_on_images(made):
            self.operators.append(made)

    def result(self, name: str, order: Order | None = None, quant: Quant | None = None) -> Tensor:
        """The tensor of an ONNX value about to be computed; the value is bound to it.

        Args:
            name: of the value.
            order: storage order; the logical one by default.
            quant: of the storage; the value is plain without.
        """
        shape = self.source.shape(name)
        order = identity(len(shape)) if order is None else order
        dtype = self.source.dtype(name) if quant is None else quant.dtype
        tensor = self.tensor(name, [shape[axis] for axis in order], dtype, quant)
        self.bind(name, View(tensor, order))
        return tensor

    def ordered(self, view: View, order: Order) -> Tensor:
        """The value stored in an order, moved where it has to be."""
        if view.order == order:
            return view.tensor
        tensor = view.tensor
        shape = tuple(view.shape[axis] for axis in order)
        places = tuple(view.order.index(axis) for axis in order)
        key = ("moved", tensor, places)
        if tensor.data is not None:
            data, quant = tensor.data, tensor.quant
            if quant is not None and not quant.per_tensor:
                quant = quant.at(places.index(quant.axis))
            return self._cached(key, lambda: self.constant(data.transpose(places), tensor.name, quant))
        if layout.movable(view.shape, view.order, order):
            return self._cached(key, lambda: self.reshape(tensor, shape))
        return self._cached(key, lambda: self._transpose(tensor, places, shape))

    def plain(self, view: View) -> Tensor:
        """The value in its logical order."""
        return self.ordered(view, identity(view.rank))

    def reshape(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The same bytes under another shape, made of the tensor that they were computed as."""
        shape = tuple(shape)
        if tensor.data is not None and tensor.shape != shape:
            return self.constant(tensor.data.reshape(shape), tensor.name, tensor.quant)
        origin = self._origin(tensor)
        for known in (tensor, origin):
            if known.shape == shape:
                return known
        result = self.tensor(f"{origin.name}/reshaped", shape, tensor.dtype, tensor.quant)
        self._emit_reshape(origin, result)
        return result

    def _origin(self, tensor: Tensor) -> Tensor:
        """The tensor whose reshape a tensor is; itself where a scale was written to one of them alone."""
        origin = self._origins.get(tensor, tensor)
        return origin if origin.quant is tensor.quant else tensor

    def _emit_reshape(self, tensor: Tensor, result: Tensor) -> None:
        sizes = self.integers(result.shape, f"{tensor.name}/shape")
        self.emit("RESHAPE", [tensor, sizes], [result], "ReshapeOptions", newShape=list(result.shape))
        self._origins[result] = tensor

    def _transpose(self, tensor: Tensor, places: Sequence[int], shape: Sequence[int]) -> Tensor:
        result = self.tensor(f"{tensor.name}/moved", shape, tensor.dtype, tensor.quant)
        permutation = self.integers(places, f"{tensor.name}/permutation")
        self.emit("TRANSPOSE", [tensor, permutation], [result], "TransposeOptions")
        return result

    def _cached(self, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    # -- lines of images one high ------------------------------------------------------------------------------------

    def image(self, line: Tensor) -> Tensor | None:
        """The images one high that a tensor ``[samples, length, channels]`` was reshaped from, if it was."""
        origin = self._origin(line)
        return origin if len(line.shape) == 3 and origin.shape == _high(line.shape) else None

    def _emit_on_images(self, op: Operator) -> bool:
        """Emits an operator on the images whose lines it is given, which keeps reshapes from standing between operators."""
        (line,) = op.outputs
        operands = [self._as_image(tensor) for tensor in op.inputs]
        if len(line.shape) != 3 or None in operands or all(t is None or t.data is not None for t in op.inputs):
            return False
        image = self.tensor(f"{line.name}/image", _high(line.shape), line.dtype, line.quant)
        self.operators.append(replace(op, inputs=tuple(operands), outputs=(image,)))
        self._emit_reshape(image, line)
        return True

    def _as_image(self, operand: Tensor | None) -> Tensor | None:
        """An operand of lines for images; ``None`` where it is no image."""
        if operand is None or operand.data is None:
            return None if operand is None else self.image(operand)
        if operand.data.size == 1:
            return operand
        few = operand.quant is None or operand.quant.per_tensor
        return self.reshape(operand, _high(operand.shape)) if few and len(operand.shape) == 3 else None

    # -- reals and integers ------------------------------------------------------------------------------------------

    def real(self, view: View) -> View:
        """The value as plain floats."""
        quant, tensor = view.quant, self._unsigned.get(view.tensor, view.tensor)
        if quant is None:
            return view
        if tensor.data is not None:
            data = tensor.data
            made = self._cached(("real", tensor), lambda: self.constant(quant.dequantise(data), tensor.name))
        else:
            made = self._cached(("real", tensor), lambda: self._convert(tensor, "DEQUANTIZE", "float32", None))
        return View(made, view.order)

    def signed(self, view: View, quant: Quant) -> View:
        """Unsigned integers as the signed ones that kernels compute on; reals are still made of the former, in one step."""
        made = self.quantised(view, quant)
        self._unsigned[made.tensor] = view.tensor
        return made

    def quantised(self, view: View, quant: Quant) -> View:
        """The value under a quantisation of the whole tensor."""
        tensor = view.tensor
        if quant.same(tensor.quant):
            return view
        key = ("quantised", tensor, quant.scale.tobytes(), quant.zero_point.tobytes(), quant.dtype)
        if tensor.quant is not None and (tensor.data is not None or not kernels.rescales(tensor.dtype, quant.dtype)):
            return self.quantised(self.real(view), quant)
        if tensor.data is not None:
            data = tensor.data
            return View(self._cached(key, lambda: self.constant(quant.quantise(data), tensor.name, quant)), view.order)
        return View(self._cached(key, lambda: self._convert(tensor, "QUANTIZE", quant.dtype, quant)), view.order)

    def _convert(self, tensor: Tensor, code: str, dtype: str, quant: Quant | None) -> Tensor:
        result = self.tensor(f"{tensor.name}/{'real' if quant is None else 'quantised'}", tensor.shape, dtype, quant)
        self.emit(code, [tensor], [result], f"{code.title()}Options" if code == "QUANTIZE" else "DequantizeOptions")
        return result

    # -- helpers of operators ----------------------------------------------------------------------------------------

    def operands(self, node: Node, *indices: int) -> tuple[list[View], Quant | None]:
        """Data operands, all quantised or all plain, and the quantisation of the result.

        They stay integers where every one of them is quantised, and so is every reader of the result, in the same type.
        """
        views = [self.view(node.inputs[index]) for index in indices]
        target = self.targets.get(node.output)
        if target is not None and all(v.quant is not None and v.quant.per_tensor and v.dtype == target.dtype for v in views):
            return views, target
        return [self.real(view) for view in views], None

    def expanded(self, view: View, rank: int) -> View:
        """The value with axes of size 1 in front of its logical shape, up to a rank."""
        if view.rank == rank:
            return view
        shape = (1,) * (rank - view.rank) + view.shape
        order = layout.reshaped(view.shape, shape, view.order)
        if order is None:
            return View(self.reshape(self.plain(view), shape), identity(rank))
        return View(self.reshape(view.tensor, [shape[axis] for axis in order]), order)

    def note(self, text: str) -> None:
        """Reports an adjustment, once."""
        if text not in self.notes:
            self.notes.append(text)


def _high(shape: Sequence[int]) -> tuple[int, ...]:
    """``[samples, length, channels]`` as the shape of images one high."""
    return (*shape[:1], 1, *shape[1:])


def places(view: View, axes: Sequence[int]) -> list[int]:
    """Where logical axes are stored, in ascending order."""
    return sorted(view.place(axis) for axis in axes)


def transposed(order: Order, permutation: Sequence[int]) -> Order:
    """Storage order after the logical axes were permuted, output axis ``i`` being input axis ``permutation[i]``."""
    where = inverse(tuple(permutation))
    return tuple(where[axis] for axis in order)
