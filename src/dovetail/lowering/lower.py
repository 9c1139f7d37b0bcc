"""ONNX to LiteRT: the graph is read, its pairs of quantisation become types, and every operator is written channels last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dovetail.core.errors import ModelError
from dovetail.lowering import flatbuffer, quantisation, source
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.flatbuffer import Lowered
from dovetail.lowering.inplace import guarded
from dovetail.lowering.ops import TABLE
from dovetail.lowering.rewrite import WRITTEN_OUT, rewrite
from dovetail.lowering.source import Info, Source
from dovetail.lowering.tensors import Operator, Quant, Tensor, View, identity

DESCRIPTION = "lowered from ONNX"
_MOVES = frozenset({"TRANSPOSE", "RESHAPE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What lowering did.

    Attributes:
        inputs: name → shape and type.
        operators: builtin operator names in order of execution.
        notes: adjustments that the runtime's rules demanded, one phrase each.
        quantised: whether anything is computed in integers that stand for reals.
    """

    inputs: Mapping[str, Info]
    operators: tuple[str, ...]
    notes: tuple[str, ...]
    quantised: bool


def lower(path: Path, out: Path, dims: Mapping[str, int] | None = None) -> Report:
    """Writes an ONNX model as a LiteRT file with the same inputs and outputs.

    Args:
        path: an ONNX model of opset 13 or newer.
        out: file to write.
        dims: sizes of symbolic dimensions; leading ones not named become 1.

    Raises:
        InputError: a size is given for a dimension that the model does not have.
        ModelError: operators that are not covered, all of them named; or a value that only shows at run time.
    """
    graph = source.read(path, dims or {}, TABLE.keys() | WRITTEN_OUT)
    rewrite(graph)
    _require_covered(graph)
    em = Emitter(graph, quantisation.targets(graph))
    lowered = emit(em)
    flatbuffer.write(lowered, out, DESCRIPTION)
    return Report(
        inputs={name: graph.infos[name] for name in graph.inputs},
        operators=tuple(op.code for op in lowered.operators),
        notes=(*graph.notes, *em.notes),
        quantised=_quantised(lowered),
    )


def _quantised(lowered: Lowered) -> bool:
    """Constants and raw inputs that are turned into floats, maybe moved about before, are no arithmetic."""
    raw = set(lowered.inputs.values())

    def unpacks(op: Operator) -> bool:
        x = op.inputs[0]
        if x is None or (x not in raw and x.data is None):
            return False
        if op.code in _MOVES:
            raw.update(op.outputs)
        return op.code == "DEQUANTIZE" or op.code in _MOVES

    computing = [op for op in lowered.operators if not unpacks(op)]
    return any(t is not None and t.quant is not None for op in computing for t in (*op.inputs, *op.outputs))


def _require_covered(graph: Source) -> None:
    missing = sorted({node.op for node in graph.nodes} - TABLE.keys())
    if missing:
        raise ModelError(f"no LiteRT form for {', '.join(missing)}")


def emit(em: Emitter) -> Lowered:
    """Lowers every node in order."""
    inputs = {name: _open_input(em, name) for name in em.source.inputs}
    for node in em.source.nodes:
        TABLE[node.op](em, node)
    outputs = _outputs(em, set(map(id, inputs.values())))
    operators = guarded(
        _needed(em.operators, outputs),
        outputs.values(),
        lambda like: em.tensor(f"{like.name}/copy", like.shape, like.dtype, like.quant),
        lambda order: em.constant(order, "order"),
    )
    return Lowered(inputs=inputs, outputs=outputs, operators=operators)


def _open_input(em: Emitter, name: str) -> Tensor:
    tensor = quantisation.input_tensor(em, name)
    view = View(tensor, identity(len(tensor.shape)))
    if tensor.quant is not None and tensor.dtype in quantisation.SHIFT:
        signed, shift = quantisation.SHIFT[tensor.dtype]
        quant = Quant(scale=tensor.quant.scale, zero_point=tensor.quant.zero_point - shift, dtype=signed)
        view = em.signed(view, quant)
    em.bind(name, view)
    return tensor


def _outputs(em: Emitter, inputs: set[int]) -> dict[str, Tensor]:
    """Tensors of the outputs; what is an input or a constant, or is handed out twice, is copied."""
    found: dict[str, Tensor] = {}
    for name in em.source.outputs:
        tensor = quantisation.output_tensor(em, name)
        if id(tensor) in inputs or tensor.data is not None or any(t is tensor for t in found.values()):
            copy = em.tensor(name, tensor.shape, tensor.dtype, tensor.quant)
            shape = em.integers(tensor.shape, f"{name}/shape")
            em.emit("RESHAPE", [tensor, shape], [copy], "ReshapeOptions", newShape=list(tensor.shape))
            tensor = copy
        em.rename(tensor, name)
        found[name] = tensor
    return found


def _needed(operators: list[Operator], outputs: Mapping[str, Tensor]) -> list[Operator]:
    """Operators whose results somebody reads."""
    wanted = {id(tensor) for tensor in outputs.values()}
    kept = []
    for op in reversed(operators):
        if any(id(t) in wanted for t in op.outputs):
            kept.append(op)
            wanted.update(id(t) for t in op.inputs if t is not None)
    return kept[::-1]
