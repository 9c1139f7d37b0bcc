"""Counting rules of operators that are made of convolutions and matrix products."""

from __future__ import annotations

import math
from typing import Any

from dovetail.workloads.calls import Call, Flops, Rule, Uncounted

_REQUANTIZE = 3  # scale, round, add the zero point


def _conv(call: Call) -> Flops:
    """2·N·M·Πout·(C/g)·Πkernel, for weights [M, C/g, kernel…]; the weights are the fourth input of quantised forms."""
    quantized = call.kind == "QLinearConv"
    weight = call.shape(3 if quantized else 1)
    other = _REQUANTIZE * call.n_out if quantized else call.n_out if call.attributes.get("activation") else 0
    return Flops(matrix=2 * call.n_out * math.prod(weight[1:]), other=other)


def _conv_transpose(call: Call) -> Flops:
    """2·N·C·Πin·(M/g)·Πkernel, for weights [C, M/g, kernel…]."""
    return Flops(matrix=2 * call.n_in * math.prod(call.shape(1)[1:]))


def _deform_conv(call: Call) -> Flops:
    """A convolution whose every sample is interpolated from 4 neighbours (Dai et al. 2017)."""
    n, _, *spatial = call.output_shape()
    samples = n * call.shape(0)[1] * math.prod(spatial) * math.prod(call.shape(1)[2:])
    return Flops(matrix=2 * call.n_out * math.prod(call.shape(1)[1:]), other=8 * samples)


def _gemm(call: Call) -> Flops:
    """2·M·N·K, and one operation for each scale (alpha, beta) that is not 1."""
    rows, inner = call.shape(0)
    if call.attributes.get("transA", 0):
        rows, inner = inner, rows
    scaled = (call.attributes.get("alpha", 1.0) != 1.0) + (call.has(2) and call.attributes.get("beta", 1.0) != 1.0)
    return Flops(matrix=2 * call.n_out * inner, other=scaled * call.n_out)


def _matmul(call: Call) -> Flops:
    """2·(elements of the result)·K."""
    shape = call.shape(0)
    inner = shape[-2] if call.attributes.get("transA", 0) and len(shape) > 1 else shape[-1]
    quantized = call.kind in ("QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
    return Flops(matrix=2 * call.n_out * inner, other=_REQUANTIZE * call.n_out if quantized else 0)


def _matmul_n_bits(call: Call) -> Flops:
    """A product with weights of few bits, [N, K]: each weight is scaled and shifted first."""
    columns, inner = call.attributes["N"], call.attributes["K"]
    return Flops(matrix=2 * call.n_in * columns, other=2 * columns * inner)


def _einsum(call: Call) -> Flops:
    """Operands contracted from left to right, each step 2·(product of the sizes of all its labels)."""
    terms, result = _labels(call.attributes["equation"].decode(), [len(call.shape(i)) for i in range(len(call.inputs))])
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        for label, size in zip(term, call.shape(index), strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    matrix = other = 0
    left = terms[0]
    for position, term in enumerate(terms[1:], start=2):
        wanted = set(result).union(*terms[position:])
        labels = dict.fromkeys(left + term)
        volume = math.prod(sizes[label] for label in labels)
        left = [label for label in labels if label in wanted]
        if len(left) < len(labels):
            matrix += 2 * volume
        else:
            other += volume
    if len(terms) == 1 and set(left) != set(result):
        other += math.prod(sizes[label] for label in set(left))
    return Flops(matrix=matrix, other=other)


def _labels(equation: str, ranks: list[int]) -> tuple[list[list[str]], list[str]]:
    """Labels of each operand and of the result; the axes under an ellipsis are ``...0``, ``...1`` from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = []
    for term, rank in zip(left.split(","), ranks, strict=True):
        head, dots, tail = term.partition("...")
        covered = rank - len(head) - len(tail) if dots else 0
        terms.append([*head, *(f"...{i}" for i in reversed(range(covered))), *tail])
    shared = [label for label in dict.fromkeys(label for term in terms for label in term) if label.startswith("...")]
    if arrow:
        head, dots, tail = right.partition("...")
        return terms, [*head, *(shared if dots else []), *tail]
    letters = "".join(term.replace("...", "") for term in left.split(","))
    return terms, [*shared, *sorted(letter for letter in letters if letters.count(letter) == 1)]


def _recurrent(gates: int, pointwise: int) -> Rule:
    """A recurrent layer: X [T,N,I] (any order), W [D,gates·H,I], R [D,gates·H,H]; ``pointwise`` operations per hidden unit."""

    def rule(call: Call) -> Flops:
        steps = math.prod(call.shape(0)[:2])
        directions, width, hidden = call.shape(2)
        inputs = call.shape(1)[2]
        if width != gates * hidden:
            raise Uncounted("its weights have an unusual shape")
        cells = steps * directions
        return Flops(matrix=2 * cells * width * (inputs + hidden), other=pointwise * cells * hidden)

    return rule


def _scaled_dot_product(batch: int, heads: int, queries: int, keys: int, width: int, value_width: int) -> Flops:
    """QKᵀ and the product with V; a score is scaled and goes through a softmax. Causal masks save nothing here."""
    scores = batch * heads * queries * keys
    return Flops(matrix=2 * scores * (width + value_width), other=6 * scores)


def _attention(call: Call) -> Flops:
    """``Attention`` of the standard: 4-D operands [batch, heads, sequence, width], or 3-D ones with the heads side by side."""
    query, key, value = call.shape(0), call.shape(1), call.shape(2)
    past = call.shape(4)[2] if call.has(4) else 0
    if len(query) == 4:
        batch, heads, queries, width = query
        return _scaled_dot_product(batch, heads, queries, key[2] + past, width, value[3])
    heads, kv_heads = call.attributes["q_num_heads"], call.attributes["kv_num_heads"]
    batch, queries, hidden = query
    return _scaled_dot_product(batch, heads, queries, key[1] + past, hidden // heads, value[2] // kv_heads)


def _packed_attention(call: Call) -> Flops:
    """``com.microsoft.Attention``: input [batch, sequence, I] times weights [I, q+k+v], then attention."""
    batch, queries, inputs = call.shape(0)
    total = call.shape(1)[1]
    sizes: Any = call.attributes.get("qkv_hidden_sizes", [total // 3] * 3)
    heads = call.attributes["num_heads"]
    past = call.shape(4)[3] if call.has(4) else 0
    core = _scaled_dot_product(batch, heads, queries, queries + past, sizes[0] // heads, sizes[2] // heads)
    return Flops(matrix=core.matrix + 2 * batch * queries * inputs * total, other=core.other)


def _multi_head_attention(call: Call) -> Flops:
    """``com.microsoft.MultiHeadAttention`` on separate query, key and value [batch, sequence, hidden]."""
    if not call.has(2) or any(len(call.shape(index)) != 3 for index in range(3)):
        raise Uncounted("only separate 3-D query, key and value are counted")
    batch, queries, hidden = call.shape(0)
    heads = call.attributes["num_heads"]
    past = call.shape(6)[2] if call.has(6) else 0
    return _scaled_dot_product(batch, heads, queries, call.shape(1)[1] + past, hidden // heads, call.shape(2)[2] // heads)


def _linear_model(call: Call) -> Flops:
    """``LinearClassifier`` and ``LinearRegressor``: one dot product per sample and class."""
    return Flops(matrix=2 * math.prod(call.shape(0)[:-1]) * len(call.attributes["coefficients"]))


MATRIX_RULES: dict[tuple[str, str], Rule] = {
    **{("", kind): _conv for kind in ("Conv", "ConvInteger", "QLinearConv", "FusedConv")},
    ("", "ConvTranspose"): _conv_transpose,
    ("", "DeformConv"): _deform_conv,
    **{("", kind): _gemm for kind in ("Gemm", "FusedGemm")},
    **{
        ("", kind): _matmul
        for kind in ("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
    },
    ("com.microsoft", "MatMulNBits"): _matmul_n_bits,
    ("", "Einsum"): _einsum,
    # Per hidden unit: sums of the two products, the gates' functions (a sigmoid is 4, tanh 1), and the state update.
    ("", "LSTM"): _recurrent(4, 4 + 3 * 4 + 2 + 4),
    ("", "GRU"): _recurrent(3, 3 + 2 * 4 + 1 + 5),
    ("", "RNN"): _recurrent(1, 1 + 1),
    ("", "Attention"): _attention,
    ("com.microsoft", "Attention"): _packed_attention,
    ("com.microsoft", "MultiHeadAttention"): _multi_head_attention,
    ("ai.onnx.ml", "LinearClassifier"): _linear_model,
    ("ai.onnx.ml", "LinearRegressor"): _linear_model,
}
"""(domain, operator type) → rule; a fused operator of a runtime is looked up under its own domain first."""
