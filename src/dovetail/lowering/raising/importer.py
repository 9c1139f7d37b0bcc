"""LiteRT to ONNX: the file is read, every operator is raised, and the shapes that come of it are checked against the file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dovetail.core.errors import ModelError
from dovetail.lowering import litert_file
from dovetail.lowering.litert_file import LiteRtFile, LiteRtOperator, LiteRtTensor
from dovetail.lowering.raising import writing
from dovetail.lowering.raising.folding import folded
from dovetail.lowering.raising.graph import Graph
from dovetail.lowering.raising.ops import TABLE
from dovetail.lowering.raising.values import SizeVaries
from dovetail.lowering.raising.writing import Contradiction

OPSET = 17
OPSET_INT16 = 21
"""The first opset that quantises to 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What importing did.

    Attributes:
        operators: LiteRT's builtin operators in order of execution.
        notes: where the ONNX model differs from what LiteRT computes, one phrase each.
    """

    operators: tuple[str, ...]
    notes: tuple[str, ...]


def raise_to_onnx(path: Path, out: Path) -> ImportReport:
    """Writes a LiteRT file as an ONNX model with the same inputs and outputs: names, types, shapes and layout.

    Names are those of the file's signature, or of its tensors. Integers that stand for reals become pairs of QuantizeLinear and
    DequantizeLinear. Sizes that the file leaves open stay open where every operator permits it.

    Args:
        path: a ``.tflite`` file.
        out: file to write.

    Raises:
        ModelError: not a LiteRT file, a damaged one, or operators that are not covered, all of them named.
        StorageError: the model cannot be written.
    """
    file = litert_file.read(path)
    try:
        _require_covered(file)
        graph, model = _raised(file)
    except ModelError as exc:
        raise ModelError(exc.what, where=str(path), hint=exc.hint) from exc
    writing.save(model, graph.initializers, out)
    return ImportReport(operators=tuple(op.code for op in file.operators), notes=tuple(graph.notes))


def _require_covered(file: LiteRtFile) -> None:
    missing = sorted({op.code for op in file.operators} - TABLE.keys())
    if missing:
        raise ModelError(f"no ONNX form for {', '.join(missing)}")


def _raised(file: LiteRtFile) -> tuple[Graph, writing.Light]:
    """The graph with open sizes where they hold throughout, else with those that the file was written with."""
    if not file.varies:
        return _built(file, symbolic=False)
    try:
        return _built(file, symbolic=True)
    except (SizeVaries, Contradiction) as exc:
        graph, model = _built(file, symbolic=False)
        graph.note(f"open sizes were fixed to those that the file was written with: {exc.what}")
        return graph, model


def _built(file: LiteRtFile, symbolic: bool) -> tuple[Graph, writing.Light]:
    names = [name for name, _ in (*file.inputs, *file.outputs)]
    graph = Graph(symbolic, _opset(file), _readers(file.operators), names, [tensor for _, tensor in file.outputs])
    for name, tensor in file.inputs:
        graph.open_input(name, tensor)
    for op in file.operators:
        _raise_operator(graph, op)
    made = graph.finish(file.outputs)
    if file.graphs > 1:
        graph.note(f"the file holds {file.graphs} graphs; only the main one is imported")
    return graph, writing.checked(graph, file, made)


def _raise_operator(graph: Graph, op: LiteRtOperator) -> None:
    raising = TABLE[op.code]
    try:
        with graph.inside(op.output.name):
            if not folded(graph, op, raising):
                raising(graph, op)
    except ModelError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
        # Operands of the wrong rank, type or size: the checks that matter are those of numpy and onnx.
        raise ModelError(f"{op.code} {op.output.name!r} is not valid: {str(exc)[:200]}") from exc


def _opset(file: LiteRtFile) -> int:
    tensors = (t for op in file.operators for t in (*op.inputs, *op.outputs) if t is not None)
    return OPSET_INT16 if any(t.quant is not None and t.dtype == "int16" for t in tensors) else OPSET


def _readers(operators: Sequence[LiteRtOperator]) -> Mapping[LiteRtTensor, Sequence[LiteRtOperator]]:
    found: dict[LiteRtTensor, list[LiteRtOperator]] = {}
    for op in operators:
        for tensor in op.inputs:
            if tensor is not None:
                found.setdefault(tensor, []).append(op)
    return found
