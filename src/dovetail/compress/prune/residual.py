"""Finds what can be taken out whole: residual blocks, and layers of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from dovetail.compress.graph import edit
from dovetail.compress.prune.walk import is_constant, subgraphs

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
IDEMPOTENT = ("Relu", "Clip")
NORMALISATIONS = ("LayerNormalization", "RMSNormalization", "BatchNormalization")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A part of a graph with one way in and one way out, of equal shape; without it, what comes in goes on.

    Attributes:
        name: the name of the operator that adds the shortcut, the last one for a layer of several.
        entry: what comes in.
        exit: what goes out.
        attends: it holds a Softmax.
    """

    name: str
    entry: ir.Value
    exit: ir.Value
    attends: bool = False

    def remove(self) -> None:
        """Connects what follows with what comes before."""
        self.exit.replace_all_uses_with(self.entry, replace_graph_outputs=False)


def residual_blocks(graph: ir.Graph) -> list[Block]:
    """Blocks x → x + f(x) with weights in f, in execution order; none of them holds another.

    What follows the sum and would repeat itself without the block belongs to it: a ReLU behind the sum when x comes from one
    too, a normalisation behind it (post-norm transformers) when x comes from one of that kind. A shortcut that changes the
    shape is not one of these.
    """
    found = [block for node in graph if (block := _block(node)) is not None]
    exits = {block.exit for block in found}
    nested = [block for block in found if _holds(block, exits - {block.exit})]
    return [block for block in found if block not in nested]


def transformer_layers(graph: ir.Graph) -> list[Block]:
    """Attention and the feed-forward block behind it, as one."""
    blocks, layers = residual_blocks(graph), []
    for first, second in zip(blocks, blocks[1:], strict=False):
        if first.attends and not second.attends and second.entry is first.exit:
            layers.append(Block(name=second.name, entry=first.entry, exit=second.exit, attends=True))
    return layers


def inner_nodes(block: Block) -> list[ir.Node]:
    """All operators of a block, the sum and what belongs to it included, in no order."""
    return _inside(block.entry, block.exit) or []


def _block(node: ir.Node) -> Block | None:
    if node.op_type != "Add" or node.domain != "" or len(node.inputs) != 2:
        return None
    for entry, branch in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        if entry is None or branch is None or is_constant(entry) or is_constant(branch) or entry is branch:
            continue
        inside = _inside(entry, branch)
        out = node.outputs[0]
        if inside is None or out.is_graph_output() or not _closed(inside, node) or not _same_shape(entry, out):
            continue
        if any(n.op_type in WEIGHTED and any(is_constant(v) for v in n.inputs) for n in inside):
            attends = any(n.op_type == "Softmax" for n in inside)
            return Block(name=str(node.name), entry=entry, exit=_repeated(entry, out), attends=attends)
    return None


def _inside(entry: ir.Value, branch: ir.Value) -> list[ir.Node] | None:
    """Nodes between, in no order; ``None`` when the branch does not come from the entry."""
    depends: dict[ir.Value, bool] = {entry: True}
    stack = [branch]
    while stack:
        value = stack[-1]
        if value in depends:
            stack.pop()
            continue
        node = value.producer()
        sources = [] if node is None else [v for v in node.inputs if v is not None]
        waiting = [v for v in sources if v not in depends]
        if waiting:
            stack.extend(waiting)
            continue
        depends[value] = any(depends[v] for v in sources)
        stack.pop()
    if not depends[branch]:
        return None
    nodes = {v.producer() for v, yes in depends.items() if yes and v is not entry}
    return [node for node in nodes if node is not None]


def _closed(inside: Sequence[ir.Node], end: ir.Node) -> bool:
    """Whether nothing outside reads what is computed inside, and nothing inside has bodies of its own."""
    members = {*inside, end}
    values = [value for node in inside for value in node.outputs]
    if any(subgraphs(node) for node in inside) or any(value.is_graph_output() for value in values):
        return False
    return all(use.node in members for value in values for use in value.uses())


def _same_shape(entry: ir.Value, out: ir.Value) -> bool:
    """Whether shapes are equal; all symbolic sizes count as equal, since one was added to the other."""
    return edit.dims(entry) is not None and edit.dims(entry) == edit.dims(out)


def _repeated(entry: ir.Value, out: ir.Value) -> ir.Value:
    """Where the block ends: behind the operator that follows, when the entry comes from one like it."""
    before, uses = entry.producer(), out.uses()
    after = next(iter(uses)).node if len(uses) == 1 else None
    if before is None or after is None or after.inputs[0] is not out or after.outputs[0].is_graph_output():
        return out
    alike = after.op_type == before.op_type and after.domain == before.domain
    if alike and after.op_type in NORMALISATIONS:
        return after.outputs[0]
    same_bounds = alike and list(after.inputs[1:]) == list(before.inputs[1:])
    return after.outputs[0] if same_bounds and after.op_type in IDEMPOTENT else out


def _holds(block: Block, exits: set[ir.Value]) -> bool:
    """Whether another block's exit lies between its entry and its exit."""
    seen: set[ir.Value] = {block.entry}
    stack = [v for v in _sources(block.exit) if v not in seen]
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in exits and _reaches(value, block.entry):
            return True
        stack.extend(v for v in _sources(value) if v not in seen)
    return False


def _reaches(value: ir.Value, entry: ir.Value) -> bool:
    inside = _inside(entry, value)
    return inside is not None


def _sources(value: ir.Value) -> list[ir.Value]:
    node = value.producer()
    return [] if node is None else [v for v in node.inputs if v is not None]
