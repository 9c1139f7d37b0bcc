"""The ONNX graph being built: its nodes and constants, and for every LiteRT tensor how it exists in it.

The file's tensors are stored channels last, and ONNX's operators want channels first. A tensor therefore exists in one or
several orders of axes: ``order[p]`` is the tensor's axis at place ``p`` of the ONNX value. Operators that do not care keep the
order they find, so that transposes are left only where an order is demanded.

Activations that the file keeps in int8 are uint8 between inputs and outputs, their zero point moved by 128 as well: the reals
are the same, and ONNX Runtime on x86 fuses whole chains of the one and few operators of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.litert_file import LiteRtOperator, LiteRtTensor
from dovetail.lowering.raising.nodes import Nodes
from dovetail.lowering.raising.values import (
    QUANTISED,
    Constant,
    SizeVaries,
    checked_axis,
    is_quantised,
    one_scale,
    require_axes,
    require_numbers,
)
from dovetail.lowering.tensors import Order, Quant, identity

SHIFT = 128
"""From int8 to uint8."""
_FLOAT_KERNELS = frozenset({"SOFTMAX", "LOG_SOFTMAX"})
"""Computed in float by every runtime, so that the integers behind them may be of any type."""
_CONVERTERS = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})


class Graph(Nodes):
    """The graph being built.

    Args:
        symbolic: leave sizes open that may vary.
        opset: of the default domain.
        readers: tensor → operators of the file that read it.
        reserved: names of the model's inputs and outputs.
        handed_out: tensors that are outputs of the model.

    Attributes:
        shuffled: tensor → where each element of its last axis lies; only fully connected layers read such tensors.
    """

    def __init__(
        self,
        symbolic: bool,
        opset: int,
        readers: Mapping[LiteRtTensor, Sequence[LiteRtOperator]],
        reserved: Sequence[str] = (),
        handed_out: Sequence[LiteRtTensor] = (),
    ) -> None:
        super().__init__(reserved)
        self.symbolic, self.opset, self.readers = symbolic, opset, readers
        self.handed_out = frozenset(handed_out)
        self.shuffled: dict[LiteRtTensor, Array] = {}
        self._constants: dict[LiteRtTensor, Constant] = {}
        self._held: dict[LiteRtTensor, dict[Order, str]] = {}
        self._reals: dict[LiteRtTensor, dict[Order, str]] = {}
        self._weights: dict[tuple[int, Order], str] = {}
        self._raw: set[LiteRtTensor] = set()
        self._titles: dict[str, str] = {}

    # -- constants ---------------------------------------------------------------------------------------------------

    def fix(self, tensor: LiteRtTensor, data: Array, quant: Quant | None = None) -> None:
        """Says that a tensor is a constant."""
        self._constants[tensor] = Constant(data, quant)

    def known(self, tensor: LiteRtTensor) -> Constant | None:
        """The constant that a tensor is; ``None`` when it is computed."""
        if tensor in self._constants or tensor in self._held:
            return self._constants.get(tensor)
        return None if tensor.data is None else Constant(tensor.data, tensor.quant)

    def constant(self, op: LiteRtOperator, index: int, what: str) -> Array:
        """A plain constant operand.

        Raises:
            ModelError: it is computed at run time.
        """
        found = self.known(op.input(index))
        if found is None:
            raise ModelError(f"{op.code} {op.output.name!r} computes its {what} at run time")
        return found.data

    def axis(self, op: LiteRtOperator, index: int, rank: int) -> int:
        """A constant operand that is an axis of something of a rank."""
        axis = int(self.constant(op, index, "axis").reshape(()))
        return checked_axis(op, axis, rank)

    # -- sizes -------------------------------------------------------------------------------------------------------

    def sizes(self, tensor: LiteRtTensor) -> tuple[int, ...]:
        """Sizes of a tensor in the order of the file; −1 for one left open."""
        return tensor.sizes if self.symbolic else tensor.shape

    def fixed(self, op: LiteRtOperator, tensor: LiteRtTensor) -> tuple[int, ...]:
        """Sizes of a tensor that must all be known."""
        if -1 in self.sizes(tensor):
            raise SizeVaries(f"{op.code} {op.output.name!r} needs the sizes of {tensor.name!r}")
        return tensor.shape

    # -- values ------------------------------------------------------------------------------------------------------

    def open_input(self, name: str, tensor: LiteRtTensor) -> None:
        """Says under which name the model takes a tensor."""
        require_numbers(tensor)
        self._held.setdefault(tensor, {identity(tensor.rank): name})
        self._raw.add(tensor)

    def bind(self, op: LiteRtOperator, tensor: LiteRtTensor, name: str, order: Order | None = None) -> None:
        """Says which value a result is; reals are quantised where the tensor holds integers."""
        if is_quantised(tensor):
            if op.code in _FLOAT_KERNELS and tensor in self.handed_out and tensor not in self.readers:
                self._raw.add(tensor)
            name = self.quantised(name, tensor)
        self._hold(tensor, name, order)

    def bind_stored(self, tensor: LiteRtTensor, name: str, order: Order | None = None) -> None:
        """The same for a value in the type that the file gives the tensor."""
        self._raw.add(tensor)
        self._hold(tensor, name, order)

    def _hold(self, tensor: LiteRtTensor, name: str, order: Order | None) -> None:
        require_numbers(tensor)
        order = identity(tensor.rank) if order is None else order
        require_axes(tensor, order)
        if name in self.made and name not in self._titles:
            self._titles[name] = self.free(tensor.name or "value")
        self._held[tensor] = {order: name}
        self._reals.pop(tensor, None)

    def alias(self, tensor: LiteRtTensor, source: LiteRtTensor, axes: Sequence[int]) -> None:
        """Says that a tensor is another whose axis ``axes[i]`` became axis ``i``; nothing moves."""
        require_axes(tensor, axes)
        for known in (self._held, self._reals):
            forms = known.get(source, {})
            known[tensor] = {tuple(axes.index(axis) for axis in order): name for order, name in forms.items()}
        if source in self._raw:
            self._raw.add(tensor)

    def orders(self, tensor: LiteRtTensor) -> list[Order]:
        """Orders in which a computed tensor exists, the one it was made in first; none for constants."""
        if self.known(tensor) is not None:
            return []
        return list(dict.fromkeys([*self._held.get(tensor, ()), *self._reals.get(tensor, ())]))

    def order(self, tensor: LiteRtTensor) -> Order:
        """The order in which a tensor costs nothing."""
        return next(iter(self.orders(tensor)), identity(tensor.rank))

    def real(self, tensor: LiteRtTensor, order: Order | None = None) -> str:
        """The tensor's reals in an order, or its plain numbers where it holds those."""
        require_numbers(tensor)
        order = identity(tensor.rank) if order is None else order
        forms = self._reals.setdefault(tensor, {})
        if order not in forms:
            found = self.known(tensor)
            forms[order] = self._real(tensor, order) if found is None else self.real_constant(found, order, tensor.name)
        return forms[order]

    def _real(self, tensor: LiteRtTensor, order: Order) -> str:
        name = self._moved(tensor, order)
        if not is_quantised(tensor):
            return name
        name = self.dequantised(name, tensor, self._type(tensor))
        if self._type(tensor) == "int8" and any(op.code not in _CONVERTERS for op in self.readers.get(tensor, ())):
            return self.dequantised(self.quantised(name, tensor, "uint8"), tensor, "uint8")
        return name

    def stored(self, tensor: LiteRtTensor, order: Order | None = None) -> str:
        """The tensor in the type that the file gives it, in an order."""
        require_numbers(tensor)
        order = identity(tensor.rank) if order is None else order
        found = self.known(tensor)
        if found is not None:
            return self.initializer(found.data.transpose(order), tensor.name)
        if self._type(tensor) == tensor.dtype:
            return self._moved(tensor, order)
        return self.quantised(self.real(tensor, order), tensor, tensor.dtype)

    def _moved(self, tensor: LiteRtTensor, order: Order) -> str:
        """The tensor in the type that it is held in, in an order that it need not exist in yet.

        Raises:
            ModelError: nothing computes it.
        """
        forms = self._held.get(tensor)
        if not forms:
            state = "it keeps its value between calls" if tensor.is_variable else "nothing computes it"
            raise ModelError(f"tensor {tensor.name!r} is read, but {state}")
        if order not in forms:
            before, name = next(iter(forms.items()))
            permutation = [before.index(axis) for axis in order]
            if not is_quantised(tensor) or tensor in self._raw:
                forms[order] = self.node("Transpose", [name], perm=permutation)
            else:  # other runtimes look for pairs of quantisation around every operator, this one included
                moved = self.node("Transpose", [self.real(tensor, before)], perm=permutation)
                forms[order] = self.quantised(moved, tensor)
        return forms[order]

    def real_constant(self, found: Constant, order: Order, name: str, weight: bool = False) -> str:
        """A constant in an order, behind a node that dequantises it where its integers stand for reals.

        Args:
            found: the constant.
            order: of its axes.
            name: for it.
            weight: whether kernels multiply by it; these want int8, and all else the type of activations.
        """
        data, quant = found.data.transpose(order), found.quant
        if quant is None or data.dtype.name not in QUANTISED:
            return self.initializer(data, name)
        quant = quant if quant.per_tensor else quant.at(order.index(quant.axis))
        dtype = data.dtype.name
        if dtype == "int8" and quant.per_tensor and not weight:
            dtype, data = "uint8", (data.astype(np.int16) + SHIFT).astype(np.uint8)
        attributes = {} if quant.per_tensor else {"axis": quant.axis}
        return self.node("DequantizeLinear", [self.initializer(data, name), *self._parameters(quant, dtype)], **attributes)

    def weight(self, tensor: LiteRtTensor, order: Order) -> str:
        """Weights in an order."""
        found = self.known(tensor)
        if found is None:
            return self.real(tensor, order)
        key = (id(found.data), order)
        if key not in self._weights:
            self._weights[key] = self.real_constant(found, order, tensor.name, weight=True)
        return self._weights[key]

    # -- quantisation ------------------------------------------------------------------------------------------------

    def _type(self, tensor: LiteRtTensor) -> str:
        """The type that a tensor is held in."""
        return "uint8" if is_quantised(tensor) and tensor.dtype == "int8" and tensor not in self._raw else tensor.dtype

    def quantised(self, name: str, tensor: LiteRtTensor, dtype: str = "") -> str:
        """Reals as a tensor's integers."""
        return self.node("QuantizeLinear", [name, *self._parameters(one_scale(tensor), dtype or self._type(tensor))])

    def dequantised(self, name: str, tensor: LiteRtTensor, dtype: str = "") -> str:
        """A tensor's integers as reals."""
        return self.node("DequantizeLinear", [name, *self._parameters(one_scale(tensor), dtype or self._type(tensor))])

    def _parameters(self, quant: Quant, dtype: str) -> tuple[str, str]:
        """Scale and zero point of integers of a type."""
        shape = () if quant.per_tensor else (-1,)
        shift = SHIFT if quant.dtype == "int8" and dtype == "uint8" else 0
        zero = (quant.zero_point + shift).astype(dtype).reshape(shape)
        return self.initializer(quant.scale.reshape(shape), "scale"), self.initializer(zero, "zero_point")

    # -- the end -----------------------------------------------------------------------------------------------------

    def finish(self, outputs: Sequence[tuple[str, LiteRtTensor]]) -> dict[LiteRtTensor, tuple[str, Order]]:
        """Gives the outputs their names and drops what nobody reads.

        Returns:
            Tensor → value and order in which it was made, for those that are left.
        """
        titles = dict(self._titles)
        wanted = set()
        for name, tensor in outputs:
            value = self._output(tensor)
            if value not in self.made or value in wanted:
                value = self.node("Identity", [value])
            titles[value] = name
            wanted.add(value)
        self.drop_dead(wanted)
        self.rename(titles)
        left = {name for node in self.nodes for name in node.output}
        forms = {tensor: next(iter(found.items())) for tensor, found in self._held.items() if found}
        return {t: (titles[n], order) for t, (order, n) in forms.items() if titles.get(n) in left}

    def _output(self, tensor: LiteRtTensor) -> str:
        """The tensor as the model hands it out: integers are moved as they are, then take the type of the file."""
        plain, forms = identity(tensor.rank), self._held.get(tensor)
        if self.known(tensor) is not None or not forms or plain in forms:
            return self.stored(tensor)
        order, name = next(iter(forms.items()))
        name = self.node("Transpose", [name], perm=[order.index(axis) for axis in plain])
        if self._type(tensor) == tensor.dtype:
            return name
        return self.quantised(self.dequantised(name, tensor), tensor, tensor.dtype)
