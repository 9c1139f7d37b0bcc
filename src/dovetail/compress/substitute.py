"""Cheaper structures in the place of dear ones. What comes out is another function, which needs distillation, and says so.

Convolutions start from their best separable approximation, so that training begins near the original.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from dovetail.compress import factors, settings
from dovetail.compress.graph import files
from dovetail.compress.graph.activation import GELU_OPSET, written_out_gelu
from dovetail.compress.graph.edit import constant, made_by, new_constant, new_node, replace
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Model, Pass, PassContext

EVERYWHERE = "*"
HARD_SWISH_OPSET = 14
SWAPS: dict[str, tuple[str, ...]] = {
    "gelu": ("relu", "tanh_gelu", "quick_gelu"),
    "silu": ("relu", "hard_swish"),
    "hard_swish": ("relu",),
    "sigmoid": ("hard_sigmoid",),
}
"""Activation → what may take its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What is substituted; nothing by default.

    Attributes:
        separable: names of k×k convolutions that become depthwise and pointwise ones, or ``*`` for all that get cheaper.
        multiplier: depthwise kernels per input channel; more of them come nearer to the original.
        activations: ``OLD=NEW`` each, such as ``gelu=relu``; the pairs are those of :data:`SWAPS`.
        at: names of the only operators whose activation is swapped (the last of one that is written out); empty for all.
        pooling: names of max poolings that become average poolings, or ``*`` for all.
    """

    separable: tuple[str, ...] = ()
    multiplier: int = 1
    activations: tuple[str, ...] = ()
    at: tuple[str, ...] = ()
    pooling: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check = settings.require
        check(self.multiplier >= 1, f"{self.multiplier} is less than 1", "substitute.multiplier")
        known = [f"{old}={new}" for old, news in SWAPS.items() for new in news]
        for swap in self.activations:
            check(swap in known, f"{swap!r} is not one of {', '.join(known)}", "substitute.activations")
        olds = [swap.partition("=")[0] for swap in self.activations]
        check(len(set(olds)) == len(olds), "an activation is named twice", "substitute.activations")


class Substitute(Pass):
    """Separable convolutions, cheaper activations, average pooling; parameters are those of :class:`Config`."""

    name: ClassVar[str] = "substitute"

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx``.

        Raises:
            InputError: a parameter is wrong, nothing is asked for, or a name is no operator that can be substituted.
            ModelError: the model cannot be read, or has nothing of what is to be substituted.
        """
        from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

        config = settings.read(Config, ctx.config, self.name)
        if not (config.separable or config.activations or config.pooling):
            raise InputError("nothing is to be substituted", where=self.name, hint="give separable, activations or pooling")
        graph_model = files.load(model)
        NameFixPass()(graph_model)
        done = [
            *_separate(graph_model, config),
            *_swap(graph_model, config),
            *_average(graph_model, config.pooling),
        ]
        if not done:
            raise ModelError("it has nothing of what is to be substituted", where=str(model.path))
        RemoveUnusedNodesPass()(graph_model)
        ctx.note(f"{'; '.join(done)}: another function than the original's, to be trained, best by distillation")
        return files.save(graph_model, ctx.workdir)


def _wanted(graph_model: ir.Model, names: Collection[str], key: str, able: Callable[[ir.Node], bool]) -> list[ir.Node]:
    """Operators by name, or all that are able.

    Raises:
        InputError: a name is no operator, or one that is not able.
    """
    nodes = {str(node.name): node for node in graph_model.graph}
    if EVERYWHERE in names:
        return [node for node in nodes.values() if able(node)]
    for name in names:
        if name not in nodes:
            raise InputError(f"no operator is named {name!r}", where=f"substitute.{key}", hint="see `dovetail analyze`")
        if not able(nodes[name]):
            raise InputError(f"{nodes[name].op_type} {name!r} cannot be substituted so", where=f"substitute.{key}")
    return [nodes[name] for name in names]


# -- convolutions --------------------------------------------------------------------------------------------------------


def _separate(graph_model: ir.Model, config: Config) -> list[str]:
    chosen = _wanted(graph_model, config.separable, "separable", lambda node: _separable(node, config.multiplier))
    kept = [_to_separable(node, config.multiplier) for node in chosen]
    shares = f"keeping {min(kept):.0%} to {max(kept):.0%} of their energy" if kept else ""
    return [f"{len(kept)} convolutions are separable, {shares}"] if kept else []


def _separable(node: ir.Node, multiplier: int) -> bool:
    """Whether it is a k×k convolution without groups that gets cheaper."""
    if node.domain != "" or node.op_type != "Conv" or node.attributes.get_int("group", 1) != 1:
        return False
    weight = constant(node.inputs[1])
    if weight is None or weight.dtype.kind != "f" or not np.isfinite(weight).all():
        return False
    out, inputs, kernel = weight.shape[0], weight.shape[1], int(np.prod(weight.shape[2:]))
    return kernel > 1 and multiplier * inputs * (kernel + out) < weight.size


def _to_separable(node: ir.Node, multiplier: int) -> float:
    """Replaces one convolution; returns the share of its weights' energy that is kept."""
    weight = constant(node.inputs[1])
    assert weight is not None
    depth, point, kept = factors.separable(weight.astype(np.float64), multiplier)
    weights = [new_constant(node, a.astype(weight.dtype), f"{node.name}.{part}") for part, a in _parts(depth, point)]
    geometry = {n: node.attributes[n].value for n in ("strides", "pads", "dilations", "auto_pad") if n in node.attributes}
    shape = {"kernel_shape": list(weight.shape[2:]), "group": weight.shape[1]}
    first = new_node("Conv", [node.inputs[0], weights[0]], {**shape, **geometry})
    ones = {"kernel_shape": [1] * (weight.ndim - 2)}
    last = new_node("Conv", [first.outputs[0], weights[1], *node.inputs[2:]], ones, like=node.outputs[0])
    first.name, last.name = f"{node.name}.depthwise", f"{node.name}.pointwise"
    replace(node, first, last)
    return kept


def _parts(depth: Any, point: Any) -> Sequence[tuple[str, Any]]:
    return ("depthwise", depth), ("pointwise", point)


# -- activations ---------------------------------------------------------------------------------------------------------


def _swap(graph_model: ir.Model, config: Config) -> list[str]:
    swaps = dict(swap.split("=") for swap in config.activations)
    able = [node for node in graph_model.graph if _activation(node) is not None]
    nodes = _wanted(graph_model, config.at, "at", lambda node: node in able) if config.at else able
    counts = dict.fromkeys(swaps, 0)
    for node in nodes if swaps else ():
        found = _activation(node)  # anew, since an earlier swap may have changed what goes in
        if found is not None and found[0] in swaps:
            replace(node, *_BUILD[swaps[found[0]]](node, found[1], files.opset(graph_model)))
            counts[found[0]] += 1
    return [f"{count} {old} are {swaps[old]}" for old, count in counts.items() if count]


def _activation(node: ir.Node) -> tuple[str, ir.Value] | None:
    """Kind and input of an activation that ends in this node."""
    if node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    if (x := written_out_gelu(node)) is not None:
        return "gelu", x
    if node.op_type == "Mul" and (gated := _gated(node)) is not None:
        return gated
    kind = {"Gelu": "gelu", "HardSwish": "hard_swish", "Swish": "silu", "Sigmoid": "sigmoid"}.get(node.op_type)
    if kind is None or (kind == "silu" and node.attributes.get_float("alpha", 1.0) != 1.0):
        return None
    if kind == "sigmoid" and any(_gated(use) is not None for use, _ in node.outputs[0].uses()):
        return None  # part of a SiLU
    return kind, node.inputs[0]


def _gated(node: ir.Node) -> tuple[str, ir.Value] | None:
    """``x · gate(x)``: SiLU or hard-swish."""
    if node.op_type != "Mul" or len(node.inputs) != 2:
        return None
    for x, gate in (node.inputs, node.inputs[::-1]):
        maker = made_by(gate, "Sigmoid", "HardSigmoid")
        if x is None or maker is None or maker.inputs[0] is not x:
            continue
        if maker.op_type == "Sigmoid":
            return "silu", x
        slope, middle = maker.attributes.get_float("alpha", 0.2), maker.attributes.get_float("beta", 0.5)
        if abs(slope - 1 / 6) < 1e-4 and middle == 0.5:
            return "hard_swish", x
    return None


def _relu(node: ir.Node, x: ir.Value, opset: int) -> list[ir.Node]:
    return [new_node("Relu", [x], like=node.outputs[0])]


def _tanh_gelu(node: ir.Node, x: ir.Value, opset: int) -> list[ir.Node]:
    """``x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`` (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""
    if opset >= GELU_OPSET:
        return [new_node("Gelu", [x], {"approximate": "tanh"}, like=node.outputs[0])]
    build = _Chain(node)
    cube = build("Mul", build("Mul", x, x), x)
    inner = build("Mul", build("Add", x, build("Mul", cube, build.number(0.044715))), build.number(np.sqrt(2 / np.pi)))
    gate = build("Add", build("Tanh", inner), build.number(1.0))
    build("Mul", build("Mul", x, build.number(0.5)), gate)
    return build.nodes


def _quick_gelu(node: ir.Node, x: ir.Value, opset: int) -> list[ir.Node]:
    """``x · σ(1.702 x)`` (Hendrycks and Gimpel, 2016)."""
    build = _Chain(node)
    build("Mul", x, build("Sigmoid", build("Mul", x, build.number(1.702))))
    return build.nodes


def _hard_sigmoid(node: ir.Node, x: ir.Value, opset: int) -> list[ir.Node]:
    """``clip(x / 6 + 1/2, 0, 1)`` (Howard et al., "Searching for MobileNetV3", ICCV 2019)."""
    return [new_node("HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5}, like=node.outputs[0])]


def _hard_swish(node: ir.Node, x: ir.Value, opset: int) -> list[ir.Node]:
    if opset >= HARD_SWISH_OPSET:
        return [new_node("HardSwish", [x], like=node.outputs[0])]
    gate = _hard_sigmoid(node, x, opset)[0]
    return [gate, new_node("Mul", [x, gate.outputs[0]], like=node.outputs[0])]


_BUILD = {
    "relu": _relu,
    "tanh_gelu": _tanh_gelu,
    "quick_gelu": _quick_gelu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
}


class _Chain:
    """Builds operators one after the other, all of the shape and type of the one that they replace."""

    def __init__(self, node: ir.Node) -> None:
        self.node = node
        self.nodes: list[ir.Node] = []

    def __call__(self, op_type: str, *inputs: ir.Value) -> ir.Value:
        made = new_node(op_type, inputs, like=self.node.outputs[0])
        self.nodes.append(made)
        return made.outputs[0]

    def number(self, value: float) -> ir.Value:
        """A scalar of the activation's type."""
        dtype = self.node.outputs[0].dtype
        kind = np.float32 if dtype is None else dtype.numpy()
        return new_constant(self.node, np.array(value, kind), f"{self.node.name}.constant")


# -- pooling -------------------------------------------------------------------------------------------------------------


def _average(graph_model: ir.Model, names: Collection[str]) -> list[str]:
    chosen = _wanted(graph_model, names, "pooling", _averageable)
    for node in chosen:
        attributes = {n: a.value for n, a in node.attributes.items() if n not in ("storage_order", "dilations")}
        replace(node, new_node("AveragePool", [node.inputs[0]], attributes, like=node.outputs[0]))
    return [f"{len(chosen)} max poolings are averages"] if chosen else []


def _averageable(node: ir.Node) -> bool:
    """A max pooling of neighbours of which nothing wants to know the places."""
    apart = any(d != 1 for d in node.attributes.get_ints("dilations", ()))
    told = any(output.uses() or output.is_graph_output() for output in node.outputs[1:])
    return node.domain == "" and node.op_type == "MaxPool" and not apart and not told
