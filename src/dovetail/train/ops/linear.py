"""Matrix products."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.train.ops.node import Kernel, Maker, NodeView, always


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product of the last two axes, the others broadcast; integers too."""
    return torch.matmul(a, b)


def _gemm(node: NodeView) -> Kernel:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    flip_a, flip_b = bool(node.get("transA", 0)), bool(node.get("transB", 0))
    bias = node.shape(2)
    plain = alpha == 1.0 and not flip_a and (not node.has(2) or (beta == 1.0 and bias is not None and len(bias) == 1))
    if plain and flip_b:
        return F.linear
    if plain:
        return lambda a, b, c=None: F.linear(a, b.t(), c)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = torch.matmul(a.t() if flip_a else a, b.t() if flip_b else b)
        product = product if alpha == 1.0 else product * alpha
        return product if c is None else product + (c if beta == 1.0 else c * beta)

    return run


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x @ weight + bias`` in one call; weight ``[in, out]``, bias ``[out]``."""
    return F.linear(x, weight.t(), bias)


def _einsum(node: NodeView) -> Kernel:
    equation = re.sub(r"\s+", "", node.attributes["equation"])
    return lambda *inputs: torch.einsum(equation, *inputs)


TABLE: dict[str, Maker] = {"MatMul": always(matmul), "Gemm": _gemm, "Einsum": _einsum}
