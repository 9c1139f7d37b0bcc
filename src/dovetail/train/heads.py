"""Finds where an ONNX graph's answer is best read: before the softmax or sigmoid that it ends in."""

from __future__ import annotations

from typing import Any

from dovetail.core.errors import InputError
from dovetail.train.objectives import Head

_PASSED = ("Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear")


def head_of(proto: Any, output: str = "") -> Head:
    """The head of one output of a graph; of the first when unnamed.

    Args:
        proto: ``onnx.ModelProto``.
        output: its name.

    Raises:
        InputError: the graph has no such output.
    """
    names = [value.name for value in proto.graph.output]
    name = output or names[0]
    if name not in names:
        raise InputError(f"the model has no output {name!r} (it has {', '.join(names)})", where="training.output")
    makers = {made: node for node in proto.graph.node for made in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in _PASSED:
        node = makers.get(node.input[0])
    if node is None or node.op_type not in ("Softmax", "Sigmoid"):
        return Head(output=name, scores=name)
    if node.op_type == "Sigmoid":
        return Head(output=name, scores=node.input[0], squashed="sigmoid")
    axis = next((a.i for a in node.attribute if a.name == "axis"), None)
    return Head(output=name, scores=node.input[0], squashed="softmax", axis=-1 if axis is None else axis)


def looks_like_classes(head: Head, answer: Any, feeds: dict[str, Any]) -> bool:
    """Whether an output is class scores, told by a few answers where no metric tells.

    It is where a softmax makes it. Else it has two axes and 2 to 100,000 columns, is no reconstruction (as many columns as an
    input) and no embedding (rows of length 1 with negative numbers).

    Args:
        head: where the answer is read.
        answer: the output for a few samples.
        feeds: their inputs.
    """
    if head.squashed:
        return head.squashed == "softmax"
    if answer.ndim != 2 or not 2 <= answer.shape[1] <= 100_000:
        return False
    rebuilt = any(feed.ndim and feed.shape[-1] == answer.shape[1] for feed in feeds.values())
    lengths = answer.float().norm(dim=1)
    embedding = bool(((lengths - 1).abs() < 1e-3).all()) and bool((answer < 0).any())
    return not rebuilt and not embedding
