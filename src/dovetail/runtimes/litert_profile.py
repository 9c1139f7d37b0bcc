"""Times the operators of a LiteRT model one by one.

LiteRT's Python package has no profiler. So each operator is cut out of the model with its weights, fed with what reaches it in
the whole model, and timed alone. What it costs to enter the interpreter, measured on an operator of a single number, is taken
off. What is left of a call beside its operators is the call's own cost.

Known to be off: an operator that XNNPACK fuses with its neighbour (padding before a convolution) counts on its own; operators
that cannot run alone (those that read or write a resource) are left out; what falls out of the cache between operators stays in
it here; of many operators that are alike, two are timed. Operators and entering add up to the call within a tenth on networks
that fit the cache, and were short of it by a tenth to a fifth on a MobileNetV2 and a transformer with 14 MB and 42 MB of
weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dovetail.core.profile import Kernel, KernelTime
from dovetail.core.protocols import Array, Feeds, Outputs
from dovetail.core.recipe import Scalar
from dovetail.runtimes.timing import call_times, median

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"
# Operators are timed several in a row, each with weights of its own: one alone may take less than entering the interpreter, and
# finds its weights in a cache that the rest of the model would have filled with others.
_COPIES, _MOST_COPIES = 4, 8
_CACHE_BYTES = 16 << 20
_NUMBER_BYTES = 4
_BUDGET_S = 1.0
_FEWEST = 5
# Operators of the same kind, shapes and options that are timed; further ones are taken to cost their mean.
_ALIKE = 2
# Constant weights are unpacked once, when the model is loaded, so these belong to the operator that reads them.
_UNPACKING = frozenset({"DEQUANTIZE", "DENSIFY"})
_DELEGATES = frozenset({"DELEGATE", "TfLiteXNNPackDelegate"})


def operator_times(
    path: Path, options: Mapping[str, Scalar], feeds: Feeds, repeats: int, call_s: float
) -> tuple[KernelTime, ...]:
    """Seconds of each operator of the main graph, in order.

    Args:
        path: a model that LiteRT takes.
        options: those of the session to be profiled.
        feeds: by input name.
        repeats: calls of each operator; fewer for a model so slow that together they would take more than about a second.
        call_s: seconds of a whole call.
    """
    graph = _Graph(path.read_bytes())
    values = _Values(graph, path, feeds)
    timer = _Timer(options, repeats, call_s)
    known: dict[str, list[KernelTime]] = {}
    kernels = []
    for op in graph.timed():
        like = known.setdefault(_signature(graph, values, op), [])
        if len(like) < _ALIKE:
            found = _kernel(graph, values, timer, op)
            like += [] if found is None else [found]
        else:
            time_s = sum(kernel.time_s for kernel in like) / len(like)
            found = KernelTime(**_facts(graph, values, op), implementation=like[0].implementation, time_s=time_s)
        kernels += [] if found is None else [found]
    return tuple(kernels)


def _signature(graph: _Graph, values: _Values, op: schema.OperatorT) -> str:
    """The same for operators that differ in nothing but the values that they compute with."""
    facts = {name: value for name, value in _facts(graph, values, op).items() if name not in ("name", "sources")}
    stored = [graph.contents(index) is not None for index in _indices(op.inputs)]
    return repr((sorted(facts.items()), stored, sorted(vars(op.builtinOptions).items()) if op.builtinOptions else None))


def operators(path: Path, feeds: Feeds) -> tuple[Kernel, ...]:
    """The operators of the main graph in order, without times; takes one call.

    Args:
        path: a model that LiteRT takes.
        feeds: by input name; they give the sizes that may vary.
    """
    graph = _Graph(path.read_bytes())
    values = _Values(graph, path, feeds)
    return tuple(Kernel(**_facts(graph, values, op)) for op in graph.timed())


def _kernel(graph: _Graph, values: _Values, timer: _Timer, op: schema.OperatorT) -> KernelTime | None:
    try:
        time_s, delegated = timer.time(_Cut(graph, values, op))
    except (ValueError, RuntimeError):
        return None
    return KernelTime(**_facts(graph, values, op), implementation="XNNPACK" if delegated else "builtin", time_s=time_s)


def _facts(graph: _Graph, values: _Values, op: schema.OperatorT) -> dict[str, Any]:
    inputs, outputs = _indices(op.inputs), _indices(op.outputs)
    names = tuple((graph.tensors[index].name or b"").decode(errors="replace") for index in outputs)
    return {
        "name": ", ".join(names) or graph.kind(op),
        "kind": graph.kind(op),
        "dtype": graph.dtype(graph.tensors[outputs[0]]) if outputs else "",
        "sources": names,
        "constant": bool(inputs) and all(graph.contents(index) is not None for index in inputs),
        "inputs": tuple(values.shape(index) for index in inputs),
        "outputs": tuple(values.shape(index) for index in outputs),
    }


def _indices(vector: Any) -> list[int]:
    """Tensors that an operator names; one that is left out has none."""
    return [] if vector is None else [int(index) for index in vector if index >= 0]


class _Graph:
    """The main graph of a model file."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self._content = schema, content
        self.model = schema.ModelT.InitFromPackedBuf(content)
        self.tensors: list[Any] = self.model.subgraphs[0].tensors
        self._operators: list[Any] = self.model.subgraphs[0].operators or []
        self._kinds: dict[int, str] = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}
        self._dtypes: dict[int, str] = {n: name.lower() for name, n in vars(schema.TensorType).items() if name.isupper()}
        self._unpacking = {_indices(op.outputs)[0]: op for op in self._operators if self._unpacks(op)}
        self.all_weight_bytes = sum(map(self.weight_bytes, self._operators))

    def timed(self) -> Iterator[schema.OperatorT]:
        """Operators that run at every call."""
        return (op for op in self._operators if not self._unpacks(op))

    def unpacking(self, index: int) -> schema.OperatorT | None:
        """The operator that unpacks constant weights into this tensor."""
        return self._unpacking.get(index)

    def _unpacks(self, op: schema.OperatorT) -> bool:
        return self.kind(op) in _UNPACKING and self.contents(_indices(op.inputs)[0]) is not None

    def kind(self, op: schema.OperatorT) -> str:
        """Name of a builtin operator (``CONV_2D``) or of a custom one."""
        code = self.model.operatorCodes[op.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number == self.schema.BuiltinOperator.CUSTOM and code.customCode:
            return str(code.customCode.decode())
        return self._kinds.get(number, f"BUILTIN_{number}")

    def dtype(self, tensor: schema.TensorT) -> str:
        """Numeric type of a tensor, as numpy has it where numpy has it."""
        return self._dtypes.get(tensor.type, "")

    def weight_bytes(self, op: schema.OperatorT) -> int:
        """Size of the constants that an operator reads."""
        read = (self.contents(index) for index in _indices(op.inputs))
        return sum(len(constant) for constant in read if constant is not None)

    def contents(self, index: int) -> Array | None:
        """Bytes of a constant, also those that lie behind the flatbuffer; ``None`` for what is computed."""
        buffer = self.model.buffers[self.tensors[index].buffer]
        if buffer.offset > 1:
            return np.frombuffer(self._content, np.uint8, buffer.size, buffer.offset)
        return None if buffer.data is None or len(buffer.data) == 0 else buffer.data


class _Values:
    """What the tensors hold during a call. LiteRT's own kernels can keep them all; XNNPACK cannot.

    A model that those kernels do not take has zeros everywhere, in the shapes that the file declares.
    """

    def __init__(self, graph: _Graph, path: Path, feeds: Feeds) -> None:
        from dovetail.runtimes.standalone import litert_session

        self._graph, self._vendor = graph, None
        self._shapes: dict[int, tuple[int, ...]] = {}
        try:
            session = litert_session.Session(str(path), {"xnnpack": False}, {"experimental_preserve_all_tensors": True})
            session.run(feeds)
        except (ValueError, RuntimeError):
            return
        self._vendor = session.vendor
        self._shapes = {t["index"]: tuple(map(int, t["shape"])) for t in session.vendor.get_tensor_details()}

    def shape(self, index: int) -> tuple[int, ...]:
        """Sizes during the call."""
        declared = self._graph.tensors[index].shape
        return self._shapes.get(index) or (() if declared is None else tuple(max(1, int(size)) for size in declared))

    def of(self, index: int) -> Array | None:
        """Contents; ``None`` when they are not known."""
        try:
            return None if self._vendor is None else self._vendor.get_tensor(index)
        except ValueError:
            return None


class _Cut:
    """A model of one operator, several times over when it is small, and what its inputs hold.

    Attributes:
        feeds: contents of each input in order; ``None`` where they are not known.
        copies: how often the operator runs in one call.
    """

    def __init__(self, graph: _Graph, values: _Values, op: schema.OperatorT) -> None:
        self._graph, self._values = graph, values
        self._runs_graphs = _runs_graphs(op)
        self._buffers = list(graph.model.buffers) if self._runs_graphs else [graph.schema.BufferT()]
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._inputs: list[int] = []
        self._known: dict[int, int] = {-1: -1}
        self.feeds: list[Array | None] = []
        self.copies = self._count(op)
        for index in _indices(op.inputs):
            self._unpack(index)
        self._outputs = [place for _ in range(self.copies) for place in self._add(op)]

    def _count(self, op: schema.OperatorT) -> int:
        """As many as have the weights of a model or of a cache together, while their outputs fit there too."""
        if self._runs_graphs or any(self._graph.tensors[index].isVariable for index in _indices(op.inputs)):
            return 1
        weights = self._graph.weight_bytes(op)
        written = sum(_NUMBER_BYTES * math.prod(self._values.shape(index)) for index in _indices(op.outputs))
        wanted = -(-min(self._graph.all_weight_bytes, _CACHE_BYTES) // weights) if weights else _COPIES
        if weights < _CACHE_BYTES // _COPIES:
            wanted = max(wanted, _COPIES)
        return max(1, min(wanted, _MOST_COPIES, _CACHE_BYTES // max(1, written)))

    def _unpack(self, index: int) -> None:
        first = self._graph.unpacking(index)
        if first is not None and index not in self._known:
            (self._known[index],) = self._add(first)

    def _add(self, op: schema.OperatorT) -> list[int]:
        """Appends a copy of an operator with outputs of its own, and returns those."""
        made = copy.copy(op)
        made.inputs = [self._input(int(index)) for index in (() if op.inputs is None else op.inputs)]
        made.outputs = outputs = [self._tensor(index) for index in _indices(op.outputs)]
        made.intermediates = [self._tensor(index) for index in _indices(op.intermediates)]
        self._operators.append(made)
        return outputs

    def _input(self, index: int) -> int:
        if index not in self._known:
            self._known[index] = self._tensor(index)
            if self._graph.contents(index) is None and not self._graph.tensors[index].isVariable:
                self._inputs.append(self._known[index])
                self.feeds.append(self._values.of(index))
        return self._known[index]

    def _tensor(self, index: int) -> int:
        """Appends a tensor like one of the model, with the sizes that it has during a call."""
        made, contents = copy.copy(self._graph.tensors[index]), self._graph.contents(index)
        made.buffer, made.shapeSignature = 0, None
        made.shape = np.array(self._values.shape(index), np.int32)
        if contents is not None:
            made.buffer = len(self._buffers)
            self._buffers.append(self._graph.schema.BufferT(data=contents))
        self._tensors.append(made)
        return len(self._tensors) - 1

    def pack(self) -> bytes:
        """The model as a file."""
        model = copy.copy(self._graph.model)
        main = self._graph.schema.SubGraphT(
            tensors=self._tensors, inputs=self._inputs, outputs=self._outputs, operators=self._operators, name="main"
        )
        model.subgraphs = [main, *(model.subgraphs[1:] if self._runs_graphs else ())]
        model.buffers, model.metadata, model.metadataBuffer, model.signatureDefs = self._buffers, None, None, None
        return _packed(model, sum(len(buffer.data) for buffer in self._buffers if buffer.data is not None))


def _runs_graphs(op: schema.OperatorT) -> bool:
    """Whether it runs other graphs of the model, as ``IF``, ``WHILE`` and composites do."""
    tables = (op.builtinOptions, op.builtinOptions2)
    return any(name.lower().endswith(("subgraph", "subgraphindex")) for table in tables if table for name in vars(table))


def _packed(model: schema.ModelT, weight_bytes: int) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(weight_bytes + (1 << 16))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


class _Timer:
    """Times models of one operator, set as the session to be profiled is."""

    def __init__(self, options: Mapping[str, Scalar], repeats: int, call_s: float) -> None:
        self._options, self._repeats, self._call_s = options, repeats, call_s
        self._entering_s = self._invoke_s(self._interpreter(_nothing()), copies=1)

    def time(self, cut: _Cut) -> tuple[float, bool]:
        """Seconds per operator, and whether XNNPACK computes it.

        Raises:
            ValueError: LiteRT does not run it alone.
            RuntimeError: the same.
        """
        interpreter = self._interpreter(cut.pack())
        for tensor, value in zip(interpreter.get_input_details(), cut.feeds, strict=True):
            interpreter.set_tensor(tensor["index"], np.zeros(tensor["shape"], tensor["dtype"]) if value is None else value)
        time_s = (self._invoke_s(interpreter, cut.copies) - self._entering_s) / cut.copies
        delegated = any(node["op_name"] in _DELEGATES for node in interpreter._get_ops_details())
        return max(0.0, time_s), delegated

    def _interpreter(self, content: bytes) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        from dovetail.runtimes.standalone import litert_session

        interpreter = Interpreter(model_content=content, **litert_session.configure(self._options))
        interpreter.allocate_tensors()
        return interpreter

    def _invoke_s(self, interpreter: Any, copies: int) -> float:
        invoke, affordable = interpreter._interpreter.Invoke, int(_BUDGET_S / (self._call_s * copies))

        def call(feeds: Feeds) -> Outputs:
            invoke()
            return ()

        return median(call_times(call, {}, max(_FEWEST, min(self._repeats, affordable))))


def _nothing() -> bytes:
    """A model that computes a single number: what it takes is what every call takes."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT(deprecatedBuiltinCode=schema.BuiltinOperator.ABS, builtinCode=schema.BuiltinOperator.ABS)
    main = schema.SubGraphT(
        tensors=[schema.TensorT(shape=[1], name="x"), schema.TensorT(shape=[1], name="y")],
        inputs=[0],
        outputs=[1],
        operators=[schema.OperatorT(inputs=[0], outputs=[1])],
    )
    return _packed(schema.ModelT(version=3, operatorCodes=[code], subgraphs=[main], buffers=[schema.BufferT()]), 0)
