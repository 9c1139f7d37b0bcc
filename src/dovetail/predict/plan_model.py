"""Calls of models that no runtime has built yet: operators as the model states them, not the kernels they will be fused into.

Which operators disappear into their neighbours, and what quantisation adds between them, differs from runtime to runtime. Both
are learned: matrix products are timed by the kernels learned for them, and everything else has a price per operator and per
byte that makes the calibrated networks come out right. What is always fused comes out at nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dovetail.core.calibration import Trace
from dovetail.core.estimate import Estimate
from dovetail.core.source import Source
from dovetail.core.workload import Op, Workload
from dovetail.predict.call_model import LONG_S, widening
from dovetail.predict.cross_fit import CrossFit
from dovetail.predict.fit import positive_sum
from dovetail.predict.kernel_model import KernelModel, Label, label
from dovetail.predict.kernel_work import ELEMENT_BYTES, Work, logarithms
from dovetail.predict.spread import FEWEST, conformal

Floats = NDArray[np.float64]

_POINTWISE = frozenset({
    "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Add", "Mul", "Sub", "Div",
    "BatchNormalization", "Identity", "Dropout", "Cast", "Erf", "Gelu",
})  # fmt: skip
_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Constant", "Identity", "Dropout"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What of a workload matters for one setting: features of its products, and counts and bytes of the rest.

    Attributes:
        families: of each product.
        works: of each product, with sizes as the model states them (float).
        rest: ``[8]`` operators and their bytes: of those that only compute element by element, of pools, of those that
            normalise across channels, and of all others that move anything.
    """

    families: tuple[str, ...]
    works: tuple[Work, ...]
    rest: tuple[float, ...]


_ROUNDING = frozenset({"QuantizeLinear", "DequantizeLinear"})


_OTHER_INTEGERS = frozenset({
    "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits",
    "QLinearMatMul", "QLinearConv", "QGemm",
})  # fmt: skip


def form(workload: Workload) -> str | None:
    """What calibrations call a model as it stands: ``float``, ``int8``; ``None`` for integers that they have no plans of."""
    kinds = {op.kind for op in workload.ops}
    if kinds & _OTHER_INTEGERS or (kinds & _ROUNDING and "QuantizeLinear" not in kinds):
        return None
    return "int8" if kinds & _ROUNDING else "float"


def plan(workload: Workload) -> Plan:
    """Splits a workload into products and the rest; operators of unknown size count with no bytes.

    A quantised model counts as the float one that it was: what its rounding costs is learned of each runtime.
    """
    ops = _without_rounding(workload.ops)
    products = [(op, found) for op in ops if (found := _product(op))]
    rest = np.zeros((4, 2))
    for op in ops:
        if _product(op) is None and op.kind not in _VIEWS and (op.output_bytes or op.flop):
            rest[_sort(op.kind)] += (1.0, op.bytes or 0.0)
    return Plan(
        families=tuple(found.family for _, found in products),
        works=tuple(found for _, found in products),
        rest=tuple(map(float, rest.ravel())),
    )


def _without_rounding(ops: Sequence[Op]) -> list[Op]:
    """Operators between which nothing is rounded; stored integers are weights of who reads them, as float32."""
    stored = {
        op.outputs[0]: 4.0 * math.prod(shape)
        for op in ops
        if op.kind == "DequantizeLinear" and not op.input_bytes and op.outputs and (shape := op.output_shapes[0]) is not None
    }
    found = []
    for op in (op for op in ops if op.kind not in _ROUNDING):
        weights = sum(stored.get(name, 0.0) for name in op.inputs)
        found.append(replace(op, weight_bytes=weights) if weights else op)
    return found


def _sort(kind: str) -> int:
    """Which of the prices an operator pays that is no product."""
    return 0 if kind in _POINTWISE else 1 if "Pool" in kind else 2 if kind == "LRN" else 3


def _product(op: Op) -> Work | None:
    """An operator as a matrix product, sizes in bytes of ``float32``; ``None`` for what multiplies no matrices."""
    flop = float((op.attributes or {}).get("matrix_flop", 0.0))
    shape = next((shape for shape in op.output_shapes if shape), None)
    if not flop or shape is None or op.output_bytes is None or op.input_bytes is None:
        return None
    written = math.prod(shape)
    attributes = op.attributes or {}
    window = math.prod(map(int, attributes["kernel_shape"].split("x"))) if "kernel_shape" in attributes else 1
    spatial = "Conv" in op.kind and len(shape) > 2
    n = shape[1] if spatial else shape[-1]
    k = flop / (2.0 * max(1, written))
    family = "matmul"
    if op.kind in _RECURRENT:
        family = "recurrent"
    elif spatial:
        family = "deconv" if "Transpose" in op.kind else "depthwise" if k <= window * 1.01 and n > 1 else "conv"
    return Work(
        family=family, flop=flop, read_bytes=op.input_bytes, weight_bytes=op.weight_bytes, written_bytes=op.output_bytes,
        m=written / max(1, n), n=float(n), k=k, window=float(window),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedPlans:
    """What a :class:`PlanModel` knows of one setting (runtime, threads, form, precision).

    Attributes:
        labels: family → label of the code that usually runs for it.
        usual: numeric type of most kernels.
        weights: of the terms of a call, ``[11]``.
        log_errors: network → natural logarithm of measured over predicted, by kernels and weights that had not seen the
            network. Which code the runtime usually runs for a kind of operator is taken from all of them.
        calls_s: network → measured seconds.
    """

    labels: Mapping[str, Label]
    usual: str
    weights: tuple[float, ...]
    log_errors: Mapping[str, float]
    calls_s: Mapping[str, float]


def learn_plans(traces: Sequence[Trace], plans: Mapping[str, Plan], kernels: KernelModel, cross: CrossFit) -> LearnedPlans:
    """Learns from the traces of one setting.

    Args:
        traces: of that setting.
        plans: network → plan; traces of other networks only tell which code runs.
        kernels: learned for the runtime at that number of threads.
        cross: the same from a part of the networks each.
    """
    labels = _usual_labels(traces)
    usual = Counter(kernel.dtype for trace in traces for kernel in trace.kernels).most_common(1)[0][0]
    known = [trace for trace in traces if trace.network in plans]
    asked = _Asked([plans[trace.network] for trace in known], labels, usual)
    calls = np.array([trace.call_s for trace in known])
    weights = positive_sum(asked.terms(kernels), calls)
    fold = np.array([cross.fold(trace.network) for trace in known])
    left_out = np.empty(len(known))
    for number in sorted(set(fold.tolist())):
        rest, terms = fold != number, asked.terms(cross.without(number))
        left_out[~rest] = terms[~rest] @ positive_sum(terms[rest], calls[rest], start=weights)
    errors = map(float, np.log(calls / left_out))
    return LearnedPlans(
        labels=labels,
        usual=usual,
        weights=tuple(map(float, weights)),
        log_errors=dict(zip((trace.network for trace in known), errors, strict=True)),
        calls_s={trace.network: trace.call_s for trace in known},
    )


class _Asked:
    """Plans in one setting: their products with the code that runs them, ready for whichever kernel model times them."""

    def __init__(self, wanted: Sequence[Plan], labels: Mapping[str, Label], usual: str) -> None:
        self._counts = np.array([len(item.works) for item in wanted])
        self._rest = np.array([item.rest for item in wanted])
        fallback = {f: Label(kind=f, dtype=usual, implementation="", family=f) for item in wanted for f in item.families}
        self.labels = [labels.get(family, fallback[family]) for item in wanted for family in item.families]
        works = [work for item in wanted for work in item.works]
        pairs = zip(works, self.labels, strict=True)
        sized = [_resized(found, ELEMENT_BYTES.get(item.dtype, 4.0)) for found, item in pairs]
        self._place = np.repeat(np.arange(len(wanted)), self._counts)
        self.x = logarithms(sized)

    def terms(self, kernels: KernelModel) -> Floats:
        """``[n, 11]`` what the times of calls are sums of, their products timed by some kernels."""
        n = len(self._counts)
        sums = np.bincount(self._place, kernels.seconds(self.labels, self.x), minlength=n)
        return np.column_stack([np.ones(n), self._counts, sums, self._rest])


class PlanModel:
    """Calls of models that are not built, in one setting.

    Args:
        learned: of the setting.
        kernels: of the runtime at that number of threads.
        source: of the calibration.
    """

    def __init__(self, learned: LearnedPlans, kernels: KernelModel, source: Source) -> None:
        self._learned, self._kernels, self._source = learned, kernels, source
        self._spreads = [conformal(np.array(list(self.errors(value).values()))) for value in (0.0, LONG_S)]

    def errors(self, value_s: float) -> Mapping[str, float]:
        """Network → natural logarithm of measured over predicted, of networks like a call that takes so long.

        Long calls are told better than short ones, so that they are judged by their like alone, where there are enough.
        """
        long = {name: self._learned.log_errors[name] for name, call_s in self._learned.calls_s.items() if call_s >= LONG_S}
        return long if value_s >= LONG_S and len(long) >= FEWEST else self._learned.log_errors

    def predict(self, wanted: Plan) -> Estimate:
        """A call of a model with this plan."""
        terms = self._asked(wanted).terms(self._kernels)
        value = float((terms @ np.array(self._learned.weights))[0])
        spread = self._spreads[value >= LONG_S]
        return Estimate(
            value=value, low=value * spread.low, high=value * spread.high, source=self._source, coverage=spread.coverage
        )

    def unlike(self, wanted: Plan) -> float:
        """Factor on either end of an interval for products unlike those that were calibrated; 1 when all are like them."""
        if not wanted.works:
            return 1.0
        asked = self._asked(wanted)
        return widening(*self._kernels.predict_work(asked.labels, asked.x))

    def _asked(self, wanted: Plan) -> _Asked:
        return _Asked([wanted], self._learned.labels, self._learned.usual)


def _usual_labels(traces: Sequence[Trace]) -> dict[str, Label]:
    """Family → the label that most of its kernels bear."""
    found: dict[str, Counter[Label]] = {}
    for trace in traces:
        for kernel in trace.kernels:
            item = label(kernel)
            found.setdefault(item.family, Counter())[item] += 1
    return {family: counts.most_common(1)[0][0] for family, counts in found.items()}


def _resized(found: Work, element_bytes: float) -> Work:
    """The same work on elements of another size."""
    share = element_bytes / 4.0
    return Work(
        family=found.family, flop=found.flop, read_bytes=share * found.read_bytes, weight_bytes=share * found.weight_bytes,
        written_bytes=share * found.written_bytes, m=found.m, n=found.n, k=found.k, window=found.window,
    )  # fmt: skip
