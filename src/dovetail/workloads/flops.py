"""Arithmetic operations of single operators: a table from operator type to a counting rule.

Conventions. A multiply-add is 2. Every addition, multiplication, division, comparison, rounding and elementary function
(``exp``, ``tanh``, ``sqrt``) of one scalar is 1, in floating or integer arithmetic. Moving, copying, selecting and converting
data is 0. A bias is the first value of an accumulator and costs nothing, so a convolution or matrix product counts exactly as
in ``torch.utils.flop_counter``. Batch normalisation in inference is a scale and a shift, 2. What the data decide (sorting,
tree walks, non-maximum suppression) is not counted but reported with its reason.
"""

from __future__ import annotations

import math

from dovetail.workloads.calls import Call, Flops, Rule, Uncounted
from dovetail.workloads.matrix_flops import MATRIX_RULES


def per_output(operations: float) -> Rule:
    """So many operations for each element of the first output."""
    return lambda call: Flops(other=operations * call.n_out)


def per_input(operations: float, once_per_output: float = 0) -> Rule:
    """So many operations for each element of the first input, and for each of the first output."""
    return lambda call: Flops(other=operations * call.n_in + (once_per_output * call.n_out if once_per_output else 0))


def uncounted(reason: str) -> Rule:
    """A rule that only says why there is none."""

    def refuse(call: Call) -> Flops:
        raise Uncounted(reason)

    return refuse


def _variadic(call: Call) -> Flops:
    extra = 1 if call.kind == "Mean" else 0
    return Flops(other=(len(call.inputs) - 1 + extra) * call.n_out)


def _batch_norm(call: Call) -> Flops:
    training = call.attributes.get("training_mode", 0) or len(call.outputs) > 1
    return Flops(other=(7 if training else 2) * call.n_in)


def _gelu(call: Call) -> Flops:
    """x/2·(1+erf(x/√2)) is 5 operations, its tanh form 9 (Hendrycks and Gimpel 2016)."""
    return Flops(other=(9 if call.attributes.get("approximate", b"none") == b"tanh" else 5) * call.n_out)


def _pool(call: Call) -> Flops:
    per_element = math.prod(call.attributes.get("kernel_shape", ()))
    return Flops(other=(2 if call.kind == "LpPool" else 1) * per_element * call.n_out)


def _resize(call: Call) -> Flops:
    """Nearest is a copy; linear and cubic weigh 2 and 4 neighbours along each axis whose size changes."""
    support = {b"nearest": 0, b"linear": 2, b"bilinear": 2, b"cubic": 4}[call.attributes.get("mode", b"nearest")]
    axes = sum(a != b for a, b in zip(call.shape(0), call.output_shape(), strict=True))
    return Flops(other=2 * support**axes * call.n_out if support and axes else 0)


def _scatter(call: Call) -> Flops:
    combines = call.attributes.get("reduction", b"none") != b"none"
    return Flops(other=math.prod(call.shape(2)) if combines else 0)


def _fft(call: Call) -> Flops:
    """5·n·log2 n per complex transform of length n, half for real input (convention of benchFFT, Frigo and Johnson 2005)."""
    axis = call.inputs[2].value if call.has(2) and call.inputs[2] is not None else None
    along = int(axis) if axis is not None else call.attributes.get("axis", -2 if not call.has(2) else None)
    if along is None:
        raise Uncounted("the axis of the transform is unknown")
    length = call.output_shape()[along]
    n_points = call.n_out // 2
    real = call.shape(0)[-1] == 1
    return Flops(other=(2.5 if real else 5) * n_points * math.log2(max(length, 1)))


def _stft(call: Call) -> Flops:
    """One transform per frame, as in :func:`_fft`, after a multiplication by the window."""
    n_points = call.n_out // 2
    window = call.shape(2)[0] if call.has(2) else call.output_shape()[2]
    real = len(call.shape(0)) < 3 or call.shape(0)[-1] == 1
    frames = math.prod(call.output_shape()[:2])
    return Flops(other=(2.5 if real else 5) * n_points * math.log2(max(window, 1)) + frames * window)


def _grid_sample(call: Call) -> Flops:
    """Each result weighs 2 (linear) or 4 (cubic) neighbours along each axis; nearest is a copy."""
    support = {b"linear": 2, b"bilinear": 2, b"cubic": 4, b"bicubic": 4}.get(call.attributes.get("mode", b"linear"), 0)
    return Flops(other=2 * support ** (len(call.shape(0)) - 2) * call.n_out if support else 0)


def _determinant(call: Call) -> Flops:
    """LU factorisation: 2/3·n³ (Golub and Van Loan, Matrix Computations, section 3.2)."""
    n = call.shape(0)[-1]
    return Flops(other=2 / 3 * n**3 * math.prod(call.shape(0)[:-2]))


def _lrn(call: Call) -> Flops:
    return Flops(other=(call.attributes["size"] + 5) * call.n_out)


def _skip_norm(call: Call) -> Flops:
    norm = 4 if "Simplified" in call.kind else 7
    bias_index = 3 if "Simplified" in call.kind else 4
    return Flops(other=(norm + 1 + call.has(bias_index)) * call.n_in)


def _rotary(call: Call) -> Flops:
    """Two multiplications and an addition for each rotated element."""
    width = call.attributes.get("rotary_embedding_dim", 0)
    head = call.shape(0)[-1] if len(call.shape(0)) == 4 else call.shape(0)[-1] // max(call.attributes.get("num_heads", 1), 1)
    return Flops(other=3 * call.n_in * (width / head if width else 1))


_MOVES = """
Identity Reshape Transpose Concat Split Slice Gather GatherElements GatherND Squeeze Unsqueeze Flatten Expand Tile Pad Shape
Size Cast CastLike BitCast Constant ConstantOfShape SpaceToDepth DepthToSpace Compress EyeLike OneHot ReverseSequence Trilu
Dropout Where CenterCropPad MaxUnpool TensorScatter SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert
SequenceLength SplitToSequence ConcatFromSequence Optional OptionalGetElement OptionalHasElement StringConcat StringSplit
StringNormalizer RegexFullMatch LabelEncoder CategoryMapper DictVectorizer FeatureVectorizer ArrayFeatureExtractor
OneHotEncoder CastMap ZipMap QLinearConcat If Loop Scan
""".split()

_PER_OUTPUT: dict[str, float] = {
    **dict.fromkeys(
        "Add Sub Mul Div Mod Pow Neg Abs Sign Ceil Floor Round Sqrt Reciprocal Exp Log Sin Cos Tan Asin Acos Atan Sinh Cosh "
        "Tanh Asinh Acosh Atanh Erf Relu Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor Not BitShift BitwiseAnd "
        "BitwiseOr BitwiseXor BitwiseNot IsNaN IsInf ThresholdedRelu Binarizer Imputer Range CumSum CumProd".split(),
        1,
    ),
    **dict.fromkeys("Clip LeakyRelu PRelu DequantizeLinear Scaler BlackmanWindow HannWindow HammingWindow BiasAdd".split(), 2),
    **dict.fromkeys("Softplus Softsign Shrink QuantizeLinear".split(), 3),
    **dict.fromkeys("Elu HardSigmoid Sigmoid".split(), 4),
    **dict.fromkeys("Selu HardSwish Mish Swish QuickGelu DynamicQuantizeLinear Softmax LogSoftmax".split(), 5),
    **dict.fromkeys("Celu BiasGelu QLinearLeakyRelu".split(), 6),
    **dict.fromkeys("QLinearAdd QLinearMul".split(), 8),
    **dict.fromkeys("FastGelu QLinearSigmoid".split(), 9),
    "QLinearSoftmax": 10,
    "Hardmax": 1,
}

# (operations per input element, and per output element on top)
_PER_INPUT: dict[str, tuple[float, float]] = {
    **dict.fromkeys("ReduceSum ReduceMax ReduceMin ReduceProd ArgMax ArgMin GlobalMaxPool NonZero Col2Im".split(), (1, 0)),
    **dict.fromkeys("ReduceMean ReduceLogSum GlobalAveragePool NegativeLogLikelihoodLoss".split(), (1, 1)),
    **dict.fromkeys("ReduceL1 ReduceSumSquare".split(), (2, 0)),
    **dict.fromkeys("ReduceL2 ReduceLogSumExp GlobalLpPool".split(), (2, 1)),
    **dict.fromkeys("LpNormalization Normalizer".split(), (3, 0)),
    **dict.fromkeys("RMSNormalization SimplifiedLayerNormalization".split(), (4, 0)),
    **dict.fromkeys("MeanVarianceNormalization SoftmaxCrossEntropyLoss".split(), (5, 0)),
    **dict.fromkeys("LayerNormalization InstanceNormalization GroupNormalization".split(), (7, 0)),
}

_SPECIAL: dict[str, Rule] = {
    **dict.fromkeys(("Sum", "Max", "Min", "Mean"), _variadic),
    **dict.fromkeys(("AveragePool", "MaxPool", "LpPool"), _pool),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("Scatter", "ScatterElements", "ScatterND"), _scatter),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_norm),
    "BatchNormalization": _batch_norm,
    "DFT": _fft,
    "Det": _determinant,
    "GridSample": _grid_sample,
    "STFT": _stft,
    "Gelu": _gelu,
    "LRN": _lrn,
    "RotaryEmbedding": _rotary,
    **dict.fromkeys(
        ("TopK", "Unique", "NonMaxSuppression", "TfIdfVectorizer"),
        uncounted("its work depends on the data, not on shapes alone"),
    ),
    **dict.fromkeys(
        ("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
        uncounted("the data decide which nodes are visited"),
    ),
    **dict.fromkeys(
        ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        uncounted("no convention says what a random number costs"),
    ),
    "SequenceMap": uncounted("the length of a sequence is known only when it runs"),
    "GroupQueryAttention": uncounted("the length of the cached sequence is known only when it runs"),
}

_RULES: dict[str, Rule] = {
    **dict.fromkeys(_MOVES, lambda call: Flops()),
    **{kind: per_output(operations) for kind, operations in _PER_OUTPUT.items()},
    **{kind: per_input(*operations) for kind, operations in _PER_INPUT.items()},
    **_SPECIAL,
}


def count(call: Call) -> Flops:
    """Operations of one call.

    Raises:
        Uncounted: a shape is unknown, the data decide, or there is no rule; the text says which.
    """
    rule = MATRIX_RULES.get((call.domain, call.kind)) or MATRIX_RULES.get(("", call.kind)) or _RULES.get(call.kind)
    if rule is None:
        raise Uncounted("there is no counting rule for this operator")
    try:
        return rule(call)
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as exc:
        raise Uncounted("its operands or attributes are not what its rule expects") from exc
