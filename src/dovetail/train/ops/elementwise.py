"""Arithmetic, comparison and logic, element by element, with broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView, always

_PLAIN: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Asin": torch.asin, "Asinh": torch.asinh, "Atan": torch.atan,
    "Atanh": torch.atanh, "Ceil": torch.ceil, "Cos": torch.cos, "Cosh": torch.cosh, "Erf": torch.erf, "Exp": torch.exp,
    "Floor": torch.floor, "Log": torch.log, "Neg": torch.neg, "Reciprocal": torch.reciprocal, "Round": torch.round,
    "Sign": torch.sign, "Sin": torch.sin, "Sinh": torch.sinh, "Sqrt": torch.sqrt, "Tan": torch.tan, "IsNaN": torch.isnan,
    "Not": torch.logical_not, "And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor,
    "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Where": torch.where,
    "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor,
    "BitwiseNot": torch.bitwise_not,
}  # fmt: skip
"""Operators that are one torch function of their inputs."""


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Maker:
    """Operators with any number of inputs, taken two at a time."""
    return always(lambda *inputs: reduce(function, inputs))


def _mean(node: NodeView) -> Kernel:
    count = len(node.inputs)
    return lambda *inputs: reduce(torch.add, inputs) / count


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Division; of integers toward zero."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _modulo(node: NodeView) -> Kernel:
    function: Kernel = torch.fmod if node.get("fmod", 0) else torch.remainder
    return function


def _power(node: NodeView) -> Kernel:
    exponent = node.value(1)
    number: Any = exponent.item() if exponent is not None and exponent.numel() == 1 and exponent.dim() == 0 else None
    if number == 2:
        return lambda x, y: x * x
    if number == 0.5:
        return lambda x, y: torch.sqrt(x)

    def run(x: Tensor, y: Tensor) -> Tensor:
        if x.is_floating_point():
            return torch.pow(x, y if number is None else number)
        return torch.pow(x.to(torch.float64), y).to(x.dtype)

    return run


def _clip(node: NodeView) -> Kernel:
    low, high = node.number(1, None, "min"), node.number(2, None, "max")
    fixed = all("min" in node.attributes or not node.has(i) or node.value(i) is not None for i in (1, 2))
    if fixed:
        lowest, highest = low(()), high(())
        if lowest is None and highest is None:
            return lambda x, *rest: x
        # XLA and ONNX agree: a minimum above the maximum gives the maximum, as torch.clamp does.
        return lambda x, *rest: torch.clamp(x, lowest, highest)
    return lambda *inputs: torch.clamp(inputs[0], low(inputs), high(inputs))


def _is_infinite(node: NodeView) -> Kernel:
    up, down = node.get("detect_positive", 1), node.get("detect_negative", 1)
    if up and down:
        return lambda x: torch.isinf(x)
    if up:
        return lambda x: torch.isposinf(x)
    return (lambda x: torch.isneginf(x)) if down else (lambda x: torch.zeros_like(x, dtype=torch.bool))


def _shift(node: NodeView) -> Kernel:
    function: Kernel = torch.bitwise_left_shift if node.get("direction") == "LEFT" else torch.bitwise_right_shift
    return function


TABLE: dict[str, Maker] = {
    **{kind: always(function) for kind, function in _PLAIN.items()},
    "Max": _folded(torch.maximum), "Min": _folded(torch.minimum), "Sum": _folded(torch.add), "Mean": _mean,
    "Div": always(divide), "Mod": _modulo, "Pow": _power, "Clip": _clip, "IsInf": _is_infinite, "BitShift": _shift,
    "Identity": always(lambda x: x),
}  # fmt: skip
