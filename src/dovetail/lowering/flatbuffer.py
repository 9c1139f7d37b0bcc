"""Writes a lowered graph as a LiteRT flatbuffer (schema version 3)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.lowering.tensors import Operator, Quant, Tensor
from dovetail.lowering.versions import version

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

VERSION = 3
IDENTIFIER = b"TFL3"
ALIGNMENT = 16
"""Bytes; constants are mapped into memory and read in place."""
LIMIT_BYTES = 2_000_000_000
SIGNATURE = "serving_default"
_DEPRECATED_LIMIT = 127
"""Operators below this number are also written to the field that old runtimes read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """A graph ready to write.

    Attributes:
        inputs: name → tensor, in the model's order.
        outputs: the same.
        operators: in order of execution.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    operators: Sequence[Operator]


def write(graph: Lowered, path: Path, description: str) -> None:
    """Writes the file.

    Raises:
        ModelError: it would pass 2 GB, where flatbuffers end.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    writer = _Writer(schema)
    model = writer.model(graph, description)
    total = sum(0 if b.data is None else len(b.data) for b in model.buffers)
    if total > LIMIT_BYTES:
        raise ModelError(f"the weights take {total / 1e9:.1f} GB; a LiteRT file ends at 2 GB")
    builder = flatbuffers.Builder(total + (1 << 16))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    path.write_bytes(builder.Output())


class _Writer:
    def __init__(self, module: Any) -> None:
        self._schema = module
        self._tensors: dict[int, int] = {}
        self._made: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._aligned = _aligned_buffer(module)
        self._buffers: list[Any] = [module.BufferT()]
        self._known: dict[bytes, int] = {}

    def model(self, graph: Lowered, description: str) -> schema.ModelT:
        """The whole file as objects."""
        inputs = [self._tensor(t) for t in graph.inputs.values()]
        operators = [self._operator(op) for op in graph.operators]
        outputs = [self._tensor(t) for t in graph.outputs.values()]
        part = self._schema.SubGraphT(tensors=self._made, inputs=inputs, outputs=outputs, operators=operators, name="main")
        return self._schema.ModelT(
            version=VERSION,
            operatorCodes=[self._code(*code) for code in self._codes],
            subgraphs=[part],
            description=description,
            buffers=self._buffers,
            signatureDefs=[self._signature(graph)],
        )

    def _signature(self, graph: Lowered) -> Any:
        def maps(named: Mapping[str, Tensor]) -> list[Any]:
            return [self._schema.TensorMapT(name=name, tensorIndex=self._tensor(t)) for name, t in named.items()]

        return self._schema.SignatureDefT(
            inputs=maps(graph.inputs), outputs=maps(graph.outputs), signatureKey=SIGNATURE, subgraphIndex=0
        )

    def _tensor(self, tensor: Tensor) -> int:
        if id(tensor) not in self._tensors:
            self._tensors[id(tensor)] = len(self._made)
            self._made.append(
                self._schema.TensorT(
                    shape=np.array(tensor.shape, np.int32),
                    type=getattr(self._schema.TensorType, tensor.dtype.upper()),
                    buffer=self._buffer(tensor),
                    name=tensor.name,
                    quantization=self._quantization(tensor.quant),
                    hasRank=True,
                )
            )
        return self._tensors[id(tensor)]

    def _buffer(self, tensor: Tensor) -> int:
        """Constants of equal bytes share one buffer; computed tensors have the empty one."""
        if tensor.data is None:
            return 0
        data = np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8)
        key = hashlib.sha256(data.tobytes()).digest()
        if key not in self._known:
            self._known[key] = len(self._buffers)
            self._buffers.append(self._aligned(data=data))
        return self._known[key]

    def _quantization(self, quant: Quant | None) -> Any:
        if quant is None:
            return None
        return self._schema.QuantizationParametersT(
            scale=quant.scale.astype(np.float32), zeroPoint=quant.zero_point.astype(np.int64), quantizedDimension=quant.axis
        )

    def _operator(self, op: Operator) -> Any:
        code = getattr(self._schema.BuiltinOperator, op.code), version(op)
        index = self._codes.setdefault(code, len(self._codes))
        made = self._schema.OperatorT(
            opcodeIndex=index,
            inputs=[-1 if t is None else self._tensor(t) for t in op.inputs],
            outputs=[self._tensor(t) for t in op.outputs],
        )
        if op.table:
            made.builtinOptionsType = getattr(self._schema.BuiltinOptions, op.table)
            made.builtinOptions = self._options(op)
        return made

    def _options(self, op: Operator) -> Any:
        table = getattr(self._schema, f"{op.table}T")()
        for name, value in op.options.items():
            if not hasattr(table, name):
                raise AttributeError(f"{op.table} has no field {name}")
            setattr(table, name, self._value(name, value))
        return table

    def _value(self, name: str, value: object) -> object:
        if name == "padding":
            return getattr(self._schema.Padding, str(value))
        if name == "fusedActivationFunction":
            return getattr(self._schema.ActivationFunctionType, str(value))
        if name in ("inDataType", "outDataType", "outputType", "idxOutType"):
            return getattr(self._schema.TensorType, str(value).upper())
        return value

    def _code(self, number: int, lowest: int) -> Any:
        old = min(number, _DEPRECATED_LIMIT)
        return self._schema.OperatorCodeT(deprecatedBuiltinCode=old, builtinCode=number, version=lowest)


def _aligned_buffer(module: Any) -> type:
    """The schema's buffer, with its bytes at an address that vector loads like."""

    class AlignedBuffer(module.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> Any:
            size = len(self.data)
            builder.StartVector(1, size, ALIGNMENT)
            builder.head -= size
            builder.Bytes[builder.head : builder.head + size] = memoryview(self.data)
            builder.vectorNumElems = size
            data = builder.EndVector()
            module.BufferStart(builder)
            module.BufferAddData(builder, data)
            return module.BufferEnd(builder)

    return AlignedBuffer
