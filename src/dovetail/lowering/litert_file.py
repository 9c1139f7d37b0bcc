"""A LiteRT file (``.tflite``) as plain values. Every place in it is checked first, and constants stay where they lie."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.flatbuffer import IDENTIFIER, SIGNATURE
from dovetail.lowering.litert_sparsity import dense
from dovetail.lowering.litert_tables import Buffer, Table, damaged
from dovetail.lowering.names import free_name
from dovetail.lowering.tensors import Quant

NUMBERS = frozenset({
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
})  # fmt: skip
"""Types of elements that are read; of four-bit integers too, which become int8."""
INTEGERS = frozenset({"int8", "uint8", "int16", "int32", "int64"})
"""Types that stand for reals where they bear a scale."""
_MAX_ELEMENTS = 1 << 40
_PLACEHOLDER = 127
"""The old field of operator numbers says this for all above."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LiteRtTensor:
    """One tensor; its identity is the object.

    Attributes:
        shape: sizes that the file was written with.
        sizes: the same with −1 where a size may vary.
        dtype: numpy name (``int8`` for four-bit integers), or the format's own for what numpy lacks.
        data: of a constant; a view of the file.
        quant: how integers stand for reals; ``None`` for plain numbers.
    """

    name: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    dtype: str
    data: Array | None = None
    quant: Quant | None = None
    is_variable: bool = False

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LiteRtOperator:
    """One operator.

    Attributes:
        code: builtin operator name (``CONV_2D``), or ``CUSTOM:name``.
        inputs: ``None`` for an optional one left out.
        options: fields of the operator's options table, by the names of the vendor's schema; enumerators by their names.
    """

    code: str
    inputs: tuple[LiteRtTensor | None, ...]
    outputs: tuple[LiteRtTensor, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def has(self, index: int) -> bool:
        """Whether the input at ``index`` is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def input(self, index: int) -> LiteRtTensor:
        """An input that must be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise ModelError(f"{self.code} lacks input {index}")
        return found

    @property
    def output(self) -> LiteRtTensor:
        """The first output."""
        if not self.outputs:
            raise ModelError(f"{self.code} has no output")
        return self.outputs[0]

    def get(self, name: str, default: Any = None) -> Any:
        """A field of the options."""
        return self.options.get(name, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteRtFile:
    """The main graph of a file.

    Attributes:
        inputs: name → tensor in the model's order; names of the signature where there is one, else of the tensors, made unique.
        outputs: the same, as pairs, since one tensor may be handed out twice.
        operators: in order of execution.
        graphs: how many graphs the file holds; others than the main one belong to control flow or to other signatures.
    """

    inputs: Sequence[tuple[str, LiteRtTensor]]
    outputs: Sequence[tuple[str, LiteRtTensor]]
    operators: Sequence[LiteRtOperator]
    graphs: int

    @property
    def varies(self) -> bool:
        """Whether any size of an input may vary."""
        return any(-1 in tensor.sizes for _, tensor in self.inputs)


def read(path: Path) -> LiteRtFile:
    """Reads a file; constants are views of it, so it must stay in place while they are used.

    Raises:
        ModelError: not a LiteRT file, or one that is damaged or truncated.
    """
    try:
        size = path.stat().st_size
        data = np.memmap(path, np.uint8, mode="r").data if size else memoryview(b"")
    except OSError as exc:
        raise ModelError(f"cannot read the file: {exc.strerror}", where=str(path)) from exc
    try:
        return _Reader(Buffer(data)).file()
    except ModelError as exc:
        raise ModelError(exc.what, where=str(path), hint=exc.hint) from exc


class _Reader:
    """Reads the tables of the schema, by the numbers that it gives to their fields."""

    def __init__(self, buffer: Buffer) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._buffer, self._schema = buffer, schema
        self._names = {kind: _names(getattr(schema, kind)) for kind in _ENUMERATIONS.values()}
        self._operators = _names(schema.BuiltinOperator)
        self._types = {number: name.lower() for number, name in _names(schema.TensorType).items()}
        self._tables = _names(schema.BuiltinOptions)

    def file(self) -> LiteRtFile:
        if len(self._buffer.data) < 8:
            raise damaged(f"it has {len(self._buffer.data)} bytes")
        if bytes(self._buffer.data[4:8]) != IDENTIFIER:
            raise ModelError(f"not a LiteRT file: it does not bear the mark {IDENTIFIER.decode()}")
        model = self._buffer.root()
        graphs = model.tables(2)
        if not graphs:
            raise damaged("it holds no graph")
        graph, buffers = graphs[0], model.tables(4)
        tensors = [self._tensor(table, buffers) for table in graph.tables(0)]
        codes = [self._code(table) for table in model.tables(1)]
        operators = [self._operator(table, codes, tensors) for table in graph.tables(3)]
        sides = [_numbers(graph, 1), _numbers(graph, 2)]
        names = _signature(model.tables(7), sides)
        inputs = _named(sides[0], tensors, names[0], set())
        outputs = _named(sides[1], tensors, names[1], {name for name, _ in inputs})
        return LiteRtFile(inputs=inputs, outputs=outputs, operators=operators, graphs=len(graphs))

    # -- tensors -----------------------------------------------------------------------------------------------------

    def _tensor(self, table: Table, buffers: list[Table]) -> LiteRtTensor:
        name, shape = table.text(3), tuple(_numbers(table, 0))
        if min(shape, default=0) < 0 or math.prod(shape) > _MAX_ELEMENTS:
            raise damaged(f"tensor {name!r} has the shape {list(shape)}")
        dtype = self._types.get(table.number(1, "b"), f"type {table.number(1, 'b')}")
        data = self._data(table, buffers, name, shape, dtype)
        dtype = "int8" if dtype == "int4" else dtype
        signature = tuple(_numbers(table, 7))
        fits = len(signature) == len(shape) and all(s in (-1, size) for s, size in zip(signature, shape, strict=True))
        return LiteRtTensor(
            name=name, shape=shape, sizes=signature if fits else shape, dtype=dtype, data=data,
            quant=_quant(table.table(4), name, shape, dtype), is_variable=bool(table.number(5, "B")),
        )  # fmt: skip

    def _data(self, table: Table, buffers: list[Table], name: str, shape: tuple[int, ...], dtype: str) -> Array | None:
        """The elements of a constant."""
        index = table.number(2, "I")
        if index and index >= len(buffers) or table.number(10, "I"):
            raise damaged(f"tensor {name!r} has its data in buffer {index}, which the file does not have")
        stored = self._bytes(buffers[index]) if index else None
        if stored is None or not stored.size or dtype not in NUMBERS | {"int4"}:
            return np.empty(shape, dtype) if 0 in shape and dtype in NUMBERS else None
        sparse = table.table(6)
        if sparse is not None:
            return dense(sparse, stored, dtype, shape, name)
        count = math.prod(shape)
        expected = (count + 1) // 2 if dtype == "int4" else count * np.dtype(dtype).itemsize
        if stored.size != expected:
            raise damaged(f"tensor {name!r} of shape {list(shape)} takes {expected} bytes, and has {stored.size}")
        return _unpacked(stored, count).reshape(shape) if dtype == "int4" else stored.view(dtype).reshape(shape)

    def _bytes(self, table: Table) -> Array | None:
        """What a buffer holds, in the flatbuffer or, in large files, behind it."""
        start, size = table.number(1, "Q"), table.number(2, "Q")
        return self._buffer.array(start, "uint8", size) if start > 1 else table.array(0, "uint8")

    # -- operators ---------------------------------------------------------------------------------------------------

    def _code(self, table: Table) -> str:
        number = max(table.number(0, "b"), table.number(3, "i"))
        name = self._operators.get(number, f"operator {number}")
        return f"CUSTOM:{table.text(1)}" if name == "CUSTOM" else name

    def _operator(self, table: Table, codes: list[str], tensors: list[LiteRtTensor]) -> LiteRtOperator:
        index = table.number(0, "I")
        if index >= len(codes):
            raise damaged(f"an operator is of kind {index}, of which there are {len(codes)}")
        inputs = [None if i == -1 else _at(tensors, i) for i in _numbers(table, 1)]
        outputs = [_at(tensors, i) for i in _numbers(table, 2)]
        return LiteRtOperator(
            code=codes[index], inputs=tuple(inputs), outputs=tuple(outputs), options=self._options(table, codes[index])
        )

    def _options(self, table: Table, code: str) -> Mapping[str, Any]:
        name, options = self._tables.get(table.number(3, "B"), "NONE"), table.table(4)
        if name == "NONE" or options is None:
            return {}
        try:
            found = vars(getattr(self._schema, f"{name}T").InitFromBuf(self._buffer.data, options.at))
        except (struct.error, ArithmeticError, LookupError, TypeError, ValueError) as exc:
            raise damaged(f"the options of {code} cannot be read") from exc
        return {key: self._value(code, key, value) for key, value in found.items()}

    def _value(self, code: str, key: str, value: Any) -> Any:
        if key not in _ENUMERATIONS:
            return value
        names = self._names[_ENUMERATIONS[key]]
        if value not in names:
            raise damaged(f"{code} has {key} {value}, which does not exist")
        return names[value]


_ENUMERATIONS = {
    "padding": "Padding",
    "fusedActivationFunction": "ActivationFunctionType",
    "weightsFormat": "FullyConnectedOptionsWeightsFormat",
    "mode": "MirrorPadMode",
}


def _names(enumeration: object) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def _numbers(table: Table, number: int) -> list[int]:
    found = table.array(number, "int32")
    return [] if found is None else found.tolist()


def _at(tensors: Sequence[LiteRtTensor], index: int) -> LiteRtTensor:
    if not 0 <= index < len(tensors):
        raise damaged(f"tensor {index} is used, and there are {len(tensors)}")
    return tensors[index]


def _unpacked(stored: Array, count: int) -> Array:
    """Four-bit integers, the lower half of each byte first."""
    signed = stored.view(np.int8)
    return np.stack([(signed << 4).astype(np.int8) >> 4, signed >> 4], axis=-1).reshape(-1)[:count]


def _quant(table: Table | None, name: str, shape: tuple[int, ...], dtype: str) -> Quant | None:
    scale = None if table is None else table.array(2, "float32")
    if table is None or scale is None or not scale.size or dtype not in INTEGERS:
        return None
    if table.number(4, "B") > 1:
        raise ModelError(f"tensor {name!r} is quantised in blocks, which is not imported")
    given = table.array(3, "int64")
    zero = np.zeros(1, np.int64) if given is None or not given.size else given
    if zero.size not in (1, scale.size):
        raise damaged(f"tensor {name!r} has {scale.size} scales and {zero.size} zero points")
    zero = np.broadcast_to(zero, scale.shape)
    axis = table.number(6, "i") if scale.size > 1 else 0
    if not np.isfinite(scale).all() or (scale <= 0).any():
        raise ModelError(f"tensor {name!r} has a scale that is not positive and finite")
    limits = np.iinfo(dtype)
    if scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
        raise damaged(f"tensor {name!r} of shape {list(shape)} has {scale.size} scales for axis {axis}")
    if zero.min() < limits.min or zero.max() > limits.max:
        raise damaged(f"tensor {name!r} has a zero point beyond {dtype}")
    return Quant(scale=np.array(scale), zero_point=np.array(zero), dtype=dtype, axis=axis)


# -- names of inputs and outputs -----------------------------------------------------------------------------------------


def _signature(tables: list[Table], sides: list[list[int]]) -> list[dict[int, list[str]]]:
    """Names that the signature of the main graph gives to its tensors; empty without one."""
    found: dict[str, list[dict[int, list[str]]]] = {}
    for table in tables:
        named = [_maps(table.tables(0)), _maps(table.tables(1))]
        if table.number(4, "I") == 0 and all(set(maps) == set(side) for maps, side in zip(named, sides, strict=True)):
            found[table.text(2)] = named
    key = min(found, key=lambda key: (key != SIGNATURE, key), default=None)
    return [{}, {}] if key is None else found[key]


def _maps(tables: list[Table]) -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for table in tables:
        names.setdefault(table.number(1, "I"), []).append(table.text(0))
    return names


def _named(
    side: list[int], tensors: Sequence[LiteRtTensor], known: Mapping[int, list[str]], taken: set[str]
) -> list[tuple[str, LiteRtTensor]]:
    """Tensors of one side in the model's order, each under a name of its own."""
    found: list[tuple[str, LiteRtTensor]] = []
    for index in side:
        tensor, waiting = _at(tensors, index), known.get(index)
        name = (waiting.pop(0) if waiting else tensor.name) or "value"
        free = free_name(name, taken)
        taken.add(free)
        found.append((free, tensor))
    return found
