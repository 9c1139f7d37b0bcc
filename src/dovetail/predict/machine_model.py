"""Everything that a calibration can tell of its machine: calls of built models, and of models as they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from dovetail.core.calibration import Calibration, Trace
from dovetail.core.estimate import Estimate
from dovetail.core.profile import Kernel
from dovetail.core.recipe import Scalar
from dovetail.predict.call_model import CallEstimate, CallModel, source_of
from dovetail.predict.plan_model import Plan, PlanModel, plan
from dovetail.predict.spread import conformal

FEWEST_NETWORKS = 8
"""That two settings must share for a ratio between them."""
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
        self._calls: dict[tuple[str, int], CallModel] = {}
        self._planned: dict[Setting, PlanModel] = {}

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All that were calibrated."""
        return tuple(self._traces)

    @cached_property
    def _plans(self) -> dict[str, Plan]:
        return {name: plan(workload) for name, workload in self._calibration.workloads.items()}

    def built(self, runtime: str, threads: int, kernels: Sequence[Kernel]) -> CallEstimate:
        """A call that executes these kernels.

        Raises:
            KeyError: the runtime was not calibrated at that number of threads.
        """
        return self.calls(runtime, threads).predict(kernels)

    def planned(self, runtime: str, form: str, options: Mapping[str, Scalar], wanted: Plan) -> Estimate:
        """A call of a model that the runtime has not built.

        Raises:
            KeyError: the setting was not calibrated.
        """
        return self._plan_model(setting(runtime, form, options)).predict(wanted)

    def ratio(self, one: Setting, other: Setting, wanted: Plan) -> Estimate:
        """Time of a model in one setting over its time in another.

        What is misjudged in both alike cancels out, so that the interval is narrower than those of the times: it comes from the
        differences of the two settings' errors on the same networks.

        Raises:
            KeyError: a setting was not calibrated, or the two share too few networks.
        """
        models = self._plan_model(one), self._plan_model(other)
        common = models[0].log_errors.keys() & models[1].log_errors.keys()
        if len(common) < FEWEST_NETWORKS:
            raise KeyError(f"{one} and {other} share {len(common)} networks")
        spread = conformal(np.array([models[0].log_errors[name] - models[1].log_errors[name] for name in sorted(common)]))
        value = models[0].predict(wanted).value / models[1].predict(wanted).value
        low, high = value * spread.low, value * spread.high
        return Estimate(value=value, low=low, high=high, source=self._source, coverage=spread.coverage)

    def _plan_model(self, key: Setting) -> PlanModel:
        if key not in self._planned:
            traces = self._traces[key]
            kernels = self.calls(key[0], traces[0].threads).kernels
            self._planned[key] = PlanModel(traces, self._plans, kernels, self._source)
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
