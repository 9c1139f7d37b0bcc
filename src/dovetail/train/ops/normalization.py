"""Normalisation of batches, layers, instances and groups.

Batch normalisation follows torch in one point where ONNX differs: in training the running variance takes up the batch's
unbiased variance, not the population's. The networks come out of torch, whose later epochs went that way, and the two differ
by the factor n/(n-1), which is 1.0001 for a batch of 128 small images. The values that the layer puts out do not depend on it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView, axis_of


def _batch_norm(node: NodeView) -> Kernel:
    epsilon, momentum = node.get("epsilon", 1e-5), node.get("momentum", 0.9)
    if node.get("training_mode", 0) or node.wants(1):
        return _batch_norm_with_statistics(node, epsilon, momentum)
    mode, share = node.mode, 1.0 - momentum  # torch's momentum is the share of the new value

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, scale, bias, mode.training and mode.statistics, share, epsilon)

    return run


def _batch_norm_with_statistics(node: NodeView, epsilon: float, momentum: float) -> Kernel:
    """The form that the file itself puts in training mode: it returns the running statistics, by ONNX's own rule."""
    if not node.get("training_mode", 0):
        raise node.refuse("with statistics as outputs, outside training mode")
    outputs = len(node.outputs)

    def run(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Any:
        axes = (0, *range(2, x.dim()))
        y = F.batch_norm(x, None, None, scale, bias, True, 0.0, epsilon)
        if outputs == 1:
            return y
        found, spread = x.mean(axes), x.var(axes, correction=0)
        return y, mean * momentum + found * (1 - momentum), variance * momentum + spread * (1 - momentum)

    return run


def _instance_norm(node: NodeView) -> Kernel:
    epsilon = node.get("epsilon", 1e-5)
    return lambda x, scale, bias: F.instance_norm(x, None, None, scale, bias, True, 0.0, epsilon)


def _layer_norm(node: NodeView) -> Kernel:
    epsilon, axis = node.get("epsilon", 1e-5), node.get("axis", -1)
    if node.wants(1) or node.wants(2):
        return _layer_norm_with_statistics(epsilon, axis)
    shape = node.shape(1)
    if shape is not None and (axis == -1 or -axis == len(shape)):
        return lambda x, scale, bias=None: F.layer_norm(x, shape, scale, bias, epsilon)

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        sizes = x.shape[axis_of(axis, x.dim()) :]
        if scale.shape == sizes and (bias is None or bias.shape == sizes):
            return F.layer_norm(x, sizes, scale, bias, epsilon)
        y = F.layer_norm(x, sizes, None, None, epsilon) * scale
        return y if bias is None else y + bias

    return run


def _layer_norm_with_statistics(epsilon: float, axis: int) -> Kernel:
    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        axes = tuple(range(axis_of(axis, x.dim()), x.dim()))
        mean = x.mean(axes, keepdim=True)
        inverse = torch.rsqrt(x.var(axes, correction=0, keepdim=True) + epsilon)
        y = (x - mean) * inverse * scale
        return (y if bias is None else y + bias), mean, inverse

    return run


def _rms_norm(node: NodeView) -> Kernel:
    epsilon, axis = node.get("epsilon", 1e-5), node.get("axis", -1)

    def run(x: Tensor, scale: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[axis_of(axis, x.dim()) :], None, epsilon) * scale

    return run


def _group_norm(node: NodeView) -> Kernel:
    epsilon, groups = node.get("epsilon", 1e-5), node.attributes["num_groups"]
    if node.opset >= 21:
        return lambda x, scale, bias: F.group_norm(x, groups, scale, bias, epsilon)

    def run(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """Until opset 20 there is one scale per group."""
        each = x.shape[1] // groups
        return F.group_norm(x, groups, scale.repeat_interleave(each), bias.repeat_interleave(each), epsilon)

    return run


def _lp_norm(node: NodeView) -> Kernel:
    axis, p = node.get("axis", -1), node.get("p", 2)

    def run(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    return run


def _mean_variance(node: NodeView) -> Kernel:
    axes = tuple(node.get("axes", (0, 2, 3)))

    def run(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        return centred / ((centred * centred).mean(axes, keepdim=True).sqrt() + 1e-9)

    return run


def _local_response(node: NodeView) -> Kernel:
    size, alpha, beta, bias = node.attributes["size"], node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)

    def run(x: Tensor) -> Tensor:
        squares = (x * x).flatten(2).unsqueeze(1)
        padded = F.pad(squares, (0, 0, (size - 1) // 2, size // 2))
        sums = F.avg_pool2d(padded, (size, 1), 1).squeeze(1).reshape(x.shape) * size
        return x / (bias + alpha / size * sums) ** beta

    return run


TABLE: dict[str, Maker] = {
    "BatchNormalization": _batch_norm, "InstanceNormalization": _instance_norm, "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm, "GroupNormalization": _group_norm, "LpNormalization": _lp_norm,
    "MeanVarianceNormalization": _mean_variance, "LRN": _local_response,
}  # fmt: skip
