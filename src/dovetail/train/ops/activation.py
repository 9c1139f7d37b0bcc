"""Activation functions, and dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView, always

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""Defaults of the ONNX standard, those of Klambauer 2017."""


def _leaky_relu(node: NodeView) -> Kernel:
    slope = node.get("alpha", 0.01)
    return lambda x: F.leaky_relu(x, slope)


def _elu(node: NodeView) -> Kernel:
    alpha = node.get("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


def _celu(node: NodeView) -> Kernel:
    alpha = node.get("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


def _selu(node: NodeView) -> Kernel:
    alpha, gamma = node.get("alpha", _SELU_ALPHA), node.get("gamma", _SELU_GAMMA)
    return lambda x: gamma * F.elu(x, alpha)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * slope)


def _thresholded_relu(node: NodeView) -> Kernel:
    alpha = node.get("alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


def _shrink(node: NodeView) -> Kernel:
    lambd, bias = node.get("lambd", 0.5), node.get("bias", 0.0)

    def run(x: Tensor) -> Tensor:
        return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x))).to(x.dtype)

    return run


def _hard_sigmoid(node: NodeView) -> Kernel:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid
    return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)


def _gelu(node: NodeView) -> Kernel:
    approximate = node.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


def _swish(node: NodeView) -> Kernel:
    alpha = node.get("alpha", 1.0)
    return F.silu if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) without torch's linear part from 20 on."""
    return F.softplus(x, threshold=60.0)


def _softmax(function: Callable[..., Tensor]) -> Maker:
    def make(node: NodeView) -> Kernel:
        if node.opset >= 13:
            axis = node.get("axis", -1)
            return lambda x: function(x, axis)
        axis = node.get("axis", 1)

        def run(x: Tensor) -> Tensor:
            return function(x.flatten(axis % max(1, x.dim())), -1).reshape(x.shape)

        return run

    return make


def _hardmax(node: NodeView) -> Kernel:
    axis = node.get("axis", -1 if node.opset >= 13 else 1)
    if node.opset < 13:
        raise node.refuse("before opset 13")

    def run(x: Tensor) -> Tensor:
        return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)

    return run


def _dropout(node: NodeView) -> Kernel:
    """Drops in training mode alone; the ratio of an inference graph is its author's."""
    mode, ratio = node.mode, node.number(1, 0.5, "ratio")
    if node.wants(1):

        def masked(*inputs: Any) -> tuple[Tensor, Tensor]:
            x, share = inputs[0], float(ratio(inputs))
            kept = torch.rand_like(x) >= share if mode.training else torch.ones_like(x, dtype=torch.bool)
            return (x * kept / (1 - share) if mode.training else x), kept

        return masked
    return lambda *inputs: F.dropout(inputs[0], float(ratio(inputs)), training=True) if mode.training else inputs[0]


TABLE: dict[str, Maker] = {
    "Relu": always(torch.relu), "LeakyRelu": _leaky_relu, "PRelu": always(_prelu), "Elu": _elu, "Celu": _celu, "Selu": _selu,
    "ThresholdedRelu": _thresholded_relu, "Shrink": _shrink, "HardSigmoid": _hard_sigmoid, "HardSwish": always(F.hardswish),
    "Sigmoid": always(torch.sigmoid), "Tanh": always(torch.tanh), "Softplus": always(softplus),
    "Softsign": always(F.softsign), "Mish": always(F.mish), "Gelu": _gelu, "Swish": _swish,
    "Softmax": _softmax(torch.softmax), "LogSoftmax": _softmax(torch.log_softmax), "Hardmax": _hardmax, "Dropout": _dropout,
}  # fmt: skip
