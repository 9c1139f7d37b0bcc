"""Everything that a calibration can tell of its machine: calls of built models, and of models as they stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dovetail.core.calibration import Calibration, Trace
from dovetail.core.estimate import Estimate, joint_coverage
from dovetail.core.profile import Kernel
from dovetail.core.recipe import Scalar
from dovetail.core.source import Source, SourceKind
from dovetail.predict.best_rates import best_rates
from dovetail.predict.call_model import CallEstimate, CallModel, LearnedCalls, enough, learn_calls
from dovetail.predict.plan_model import LearnedPlans, Plan, PlanModel, learn_plans, plan
from dovetail.predict.spread import BATCH_WIDENS, FEWEST, conformal, widened

FEWEST_SHARED = FEWEST
"""Networks that two settings must share for a ratio between them: fewer errors hold no 90 % interval."""
Setting = tuple[str, str, tuple[tuple[str, Scalar], ...]]
"""Runtime, form and options in the order of their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What was learned from a calibration.

    Attributes:
        calls: (runtime, threads) → what its kernels and calls take.
        plans: setting → (threads, what calls of models take that are not built).
        calibration: without its traces and workloads.
        best_rates: see :func:`dovetail.predict.best_rates.best_rates`.
    """

    calls: Mapping[tuple[str, int], LearnedCalls]
    plans: Mapping[Setting, tuple[int, LearnedPlans]]
    calibration: Calibration
    best_rates: Mapping[str, float]

    @property
    def source(self) -> Source:
        """What estimates rest on."""
        return _source(self.calibration)


def learn(calibration: Calibration, progress: Callable[[float, str], None] = lambda share, text: None) -> Learned:
    """Learns all that a calibration can tell: seconds of work.

    Args:
        calibration: of a machine.
        progress: called with the share done, and with what comes next.
    """
    traces: dict[Setting, list[Trace]] = {}
    for trace in calibration.traces:
        if trace.kernels:
            traces.setdefault(setting(trace.runtime, trace.form, trace.options), []).append(trace)
    traces = {key: found for key, found in traces.items() if enough(found)}
    together: dict[tuple[str, int], list[Setting]] = {}
    for key, found in traces.items():
        together.setdefault((key[0], found[0].threads), []).append(key)
    workloads = {name: plan(workload) for name, workload in calibration.workloads.items()}
    calls: dict[tuple[str, int], LearnedCalls] = {}
    plans: dict[Setting, tuple[int, LearnedPlans]] = {}
    for number, ((runtime, threads), keys) in enumerate(together.items()):
        progress(number / len(together), f"learning {runtime}, {threads} thread{'s' * (threads != 1)}")
        calls[runtime, threads], cross = learn_calls([trace for key in keys for trace in traces[key]])
        model = CallModel(calls[runtime, threads], _source(calibration)).kernels
        for key in keys:
            if enough([trace for trace in traces[key] if trace.network in workloads]):
                plans[key] = threads, learn_plans(traces[key], workloads, model, cross)
    rest = replace(calibration, traces=(), workloads={})
    return Learned(calls=calls, plans=plans, calibration=rest, best_rates=best_rates(calibration))


def _source(calibration: Calibration) -> Source:
    return Source(kind=SourceKind.DERIVED, ref=f"calibration of {calibration.environment.cpu}", date=calibration.date[:10])


class MachineModel:
    """Tells calls on one machine.

    Args:
        learned: from its calibration.
    """

    def __init__(self, learned: Learned) -> None:
        self._learned = learned
        self._source = learned.source
        self._calls: dict[tuple[str, int], CallModel] = {}
        self._planned: dict[Setting, PlanModel] = {}

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All that were calibrated on enough networks whose operators are known."""
        return tuple(self._learned.plans)

    def built(
        self, runtime: str, threads: int, kernels: Sequence[Kernel], *, batch: int = 1, planned: Estimate | None = None
    ) -> CallEstimate:
        """A call of so many samples that executes these kernels.

        Args:
            runtime: that executes them.
            threads: with so many.
            kernels: in any order.
            batch: samples a call.
            planned: the same call as told by the model's operators alone, as if it were of one sample. Both err, and for
                different reasons: one knows kernels, the other whole calls. Their geometric mean errs less than either. Where
                they contradict each other, kernels tell.

        Raises:
            KeyError: the runtime was not calibrated at that number of threads.
        """
        found = self.calls(runtime, threads).predict(kernels)
        if planned is not None and planned.low <= found.latency_s.high and found.latency_s.low <= planned.high:
            found = _mean(found, planned)
        return replace(found, latency_s=widened(found.latency_s, batch**BATCH_WIDENS))

    def planned(self, runtime: str, form: str, options: Mapping[str, Scalar], wanted: Plan, *, batch: int = 1) -> Estimate:
        """A call of so many samples of a model that the runtime has not built; the plan is of the whole call.

        Raises:
            KeyError: the setting was not calibrated.
        """
        model = self._plan_model(setting(runtime, form, options))
        found = model.predict(wanted)
        return found if batch == 1 else widened(found, model.unlike(wanted) * batch**BATCH_WIDENS)

    def ratio(self, one: Setting, other: Setting, wanted: Plan) -> Estimate:
        """Time of a model in one setting over its time in another.

        What is misjudged in both alike cancels out, so that the interval is narrower than those of the times: it comes from the
        differences of the two settings' errors on the same networks.

        Raises:
            KeyError: a setting was not calibrated, or the two share too few networks.
        """
        models = self._plan_model(one), self._plan_model(other)
        if one == other:
            return Estimate(value=1.0, low=1.0, high=1.0, source=self._source, coverage=1.0)
        times = [model.predict(wanted).value for model in models]
        errors = [model.errors(min(times)) for model in models]
        common = errors[0].keys() & errors[1].keys()
        if len(common) < FEWEST_SHARED:
            errors = [model.errors(0.0) for model in models]
            common = errors[0].keys() & errors[1].keys()
        if len(common) < FEWEST_SHARED:
            raise KeyError(f"{one} and {other} share {len(common)} networks")
        spread = conformal(np.array([errors[0][name] - errors[1][name] for name in sorted(common)]))
        value = times[0] / times[1]
        low, high = value * spread.low, value * spread.high
        return Estimate(value=value, low=low, high=high, source=self._source, coverage=spread.coverage)

    def _plan_model(self, key: Setting) -> PlanModel:
        if key not in self._planned:
            if key not in self._learned.plans:
                raise KeyError(f"{key} was not calibrated on enough networks")
            threads, found = self._learned.plans[key]
            self._planned[key] = PlanModel(found, self.calls(key[0], threads).kernels, self._source)
        return self._planned[key]

    def calls(self, runtime: str, threads: int) -> CallModel:
        """The model of one runtime at one number of threads.

        Raises:
            KeyError: there are no traces of it.
        """
        key = (runtime, threads)
        if key not in self._calls:
            if key not in self._learned.calls:
                raise KeyError(f"{runtime} at {threads} threads")
            self._calls[key] = CallModel(self._learned.calls[key], self._source)
        return self._calls[key]


def _mean(found: CallEstimate, planned: Estimate) -> CallEstimate:
    """Geometric mean of two estimates of one call, whose errors are taken to be independent; kernels are scaled along."""
    own = found.latency_s
    value = math.sqrt(own.value * planned.value)
    low, high = (math.exp(math.hypot(*pair) / 2) for pair in (_logs(own, planned, low=True), _logs(own, planned, low=False)))
    latency = replace(own, value=value, low=value / low, high=value * high, coverage=joint_coverage(own, planned))
    scale = value / own.value
    kernels = tuple(scale * seconds for seconds in found.kernels_s)
    return CallEstimate(latency_s=latency, kernels_s=kernels, overhead_s=scale * found.overhead_s)


def _logs(*estimates: Estimate, low: bool) -> tuple[float, ...]:
    """Distance of one end of each from its value, as a logarithm."""
    return tuple(math.log(item.value / item.low if low else item.high / item.value) for item in estimates)


def setting(runtime: str, form: str, options: Mapping[str, Scalar]) -> Setting:
    """As a key."""
    return runtime, form, tuple(sorted(options.items()))
