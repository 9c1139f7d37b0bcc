"""Everything that a calibration can tell of its machine: calls of built models, and of models as they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from dovetail.core.calibration import Calibration, Trace
from dovetail.core.estimate import Estimate
from dovetail.core.profile import Kernel
from dovetail.core.recipe import Scalar
from dovetail.predict.call_model import CallEstimate, CallModel, enough, source_of
from dovetail.predict.plan_model import Plan, PlanModel, plan
from dovetail.predict.spread import BATCH_WIDENS, FEWEST, conformal, widened

FEWEST_SHARED = FEWEST
"""Networks that two settings must share for a ratio between them: fewer errors hold no 90 % interval."""
Setting = tuple[str, str, tuple[tuple[str, Scalar], ...]]
"""Runtime, form and options in the order of their names."""


class MachineModel:
    """Learns what it is asked for, once.

    Args:
        calibration: of the machine.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._source = source_of(calibration)
        self._calibration = calibration
        self._traces: dict[Setting, list[Trace]] = {}
        for trace in calibration.traces:
            if trace.kernels:
                self._traces.setdefault(setting(trace.runtime, trace.form, trace.options), []).append(trace)
        self._traces = {key: traces for key, traces in self._traces.items() if enough(traces)}
        self._calls: dict[tuple[str, int], CallModel] = {}
        self._planned: dict[Setting, PlanModel] = {}

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """All that were calibrated on enough networks whose operators are known."""
        known = self._calibration.workloads
        return tuple(key for key, traces in self._traces.items() if enough([t for t in traces if t.network in known]))

    @cached_property
    def _plans(self) -> dict[str, Plan]:
        return {name: plan(workload) for name, workload in self._calibration.workloads.items()}

    def built(self, runtime: str, threads: int, kernels: Sequence[Kernel], *, batch: int = 1) -> CallEstimate:
        """A call of so many samples that executes these kernels.

        Raises:
            KeyError: the runtime was not calibrated at that number of threads.
        """
        found = self.calls(runtime, threads).predict(kernels)
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
        common = models[0].log_errors.keys() & models[1].log_errors.keys()
        if len(common) < FEWEST_SHARED:
            raise KeyError(f"{one} and {other} share {len(common)} networks")
        spread = conformal(np.array([models[0].log_errors[name] - models[1].log_errors[name] for name in sorted(common)]))
        value = models[0].predict(wanted).value / models[1].predict(wanted).value
        low, high = value * spread.low, value * spread.high
        return Estimate(value=value, low=low, high=high, source=self._source, coverage=spread.coverage)

    def _plan_model(self, key: Setting) -> PlanModel:
        if key not in self._planned:
            if key not in self.settings:
                raise KeyError(f"{key} was not calibrated on enough networks")
            traces = self._traces[key]
            calls = self.calls(key[0], traces[0].threads)
            self._planned[key] = PlanModel(traces, self._plans, calls.kernels, calls.cross, self._source)
        return self._planned[key]

    def calls(self, runtime: str, threads: int) -> CallModel:
        """The model of one runtime at one number of threads.

        Raises:
            KeyError: there are no traces of it.
        """
        key = (runtime, threads)
        if key not in self._calls:
            traces = [t for found in self._traces.values() for t in found if (t.runtime, t.threads) == key]
            if not traces:
                raise KeyError(f"{runtime} at {threads} threads")
            self._calls[key] = CallModel(traces, self._source)
        return self._calls[key]


def setting(runtime: str, form: str, options: Mapping[str, Scalar]) -> Setting:
    """As a key."""
    return runtime, form, tuple(sorted(options.items()))
