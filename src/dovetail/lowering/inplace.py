"""Guards against operators that overwrite a value which others still read.

LiteRT's planner lets ADD, SUB, MUL, DIV and SOFTMAX write into the memory of their operand, and RESHAPE hand its memory on.
Where a value already lies in another's memory and has several readers, it counts the readers of that other value alone (seen
in ai-edge-litert 2.3.0, in operators that no delegate took): a reader behind a RESHAPE then overwrites what others read later.
A copy in front of that RESHAPE keeps them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dovetail.core.protocols import Array
from dovetail.lowering.tensors import Operator, Tensor

_WRITING = frozenset({"ADD", "SUB", "MUL", "DIV", "SOFTMAX"})
_Readers = Mapping[int, Sequence[int]]


def guarded(
    operators: Sequence[Operator],
    outputs: Iterable[Tensor],
    tensor: Callable[[Tensor], Tensor],
    constant: Callable[[Array], Tensor],
) -> list[Operator]:
    """The operators, with copies where a value would be overwritten too early.

    Args:
        operators: in order of execution.
        outputs: of the graph, which are read after all operators.
        tensor: makes a tensor like another.
        constant: makes a constant.
    """
    readers: dict[int, list[int]] = {}
    for place, op in enumerate(operators):
        for value in {id(value) for value in op.inputs if value is not None}:
            readers.setdefault(value, []).append(place)
    for value in {id(value) for value in outputs}:
        readers.setdefault(value, []).append(len(operators))
    shared = {id(op.outputs[0]) for op in operators if _shares(op, readers)}
    result: list[Operator] = []
    for op in operators:
        source = op.inputs[0] if op.code == "RESHAPE" else None
        if source is not None and id(source) in shared:
            written = _first_write(op.outputs[0], operators, readers)
            if written is not None and readers[id(source)][-1] > written:
                copy, order = tensor(source), constant(np.arange(len(source.shape), dtype=np.int32))
                result.append(Operator(code="TRANSPOSE", inputs=(source, order), outputs=(copy,), table="TransposeOptions"))
                op = replace(op, inputs=(copy, *op.inputs[1:]))
        result.append(op)
    return result


def _shares(op: Operator, readers: _Readers) -> bool:
    """Whether the result may lie in the memory of an operand that nobody else reads."""
    if op.code not in _WRITING and op.code != "RESHAPE":
        return False
    operands = [value for value in op.inputs if value is not None and value.data is None]
    return any(value.nbytes == op.outputs[0].nbytes and len(readers[id(value)]) == 1 for value in operands)


def _first_write(value: Tensor, operators: Sequence[Operator], readers: _Readers) -> int | None:
    """Place of the first operator that may write into the memory of a value; ``None`` where none may."""
    found = []
    for place in readers.get(id(value), ()):
        op = operators[place] if place < len(operators) else None
        if op is None:
            continue
        if op.code == "RESHAPE":
            found.append(_first_write(op.outputs[0], operators, readers))
        elif op.code in _WRITING and len(readers[id(value)]) == 1 and op.outputs[0].nbytes == value.nbytes:
            found.append(place)
    return min((place for place in found if place is not None), default=None)
