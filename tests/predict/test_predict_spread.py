"""Intervals from errors: what they hold, and what they say they hold."""

from dataclasses import replace

import numpy as np
import pytest
from probe_kernels import traces

from dovetail.core.calibration import Calibration
from dovetail.core.workload import Op, Workload
from dovetail.devices.probe import environment
from dovetail.predict.machine_model import FEWEST_SHARED, MachineModel, learn
from dovetail.predict.plan_model import plan
from dovetail.predict.spread import FEWEST, conformal

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "coverage"), [(1, 0.0), (8, 7 / 9), (18, 17 / 19), (FEWEST, 0.9), (200, 0.9)])
def test_few_errors_state_no_more_than_they_hold(n, coverage):
    assert conformal(RNG.normal(size=n)).coverage == pytest.approx(coverage)


def test_an_interval_holds_what_it_states():
    held = []
    for _ in range(400):
        found, new = conformal(RNG.normal(size=12)), RNG.normal()
        held.append(np.log(found.low) <= new <= np.log(found.high))
    assert np.mean(held) >= 11 / 13 - 0.06


def product(kernel):
    """The operator of the model that a convolution came from."""
    (taken, weights), (given,) = kernel.inputs[:2], kernel.outputs
    flop = 2.0 * np.prod(given) * np.prod(weights[1:])
    return Op(
        name="", kind="Conv", flop=flop, weight_bytes=4.0 * np.prod(weights), input_bytes=4.0 * np.prod(taken),
        output_bytes=4.0 * np.prod(given), params=int(np.prod(weights)), dtype="float32", output_shapes=(given,),
        attributes={"matrix_flop": str(flop), "kernel_shape": f"{weights[2]}x{weights[3]}"},
    )  # fmt: skip


def workload(ops):
    return Workload(model_hash="", input_shapes={}, assumed_dims={}, ops=ops, peak_activation_bytes=None, uncounted={})


def machine(count, noise):
    """Learned from networks whose kernels all take times of their own, which tell nothing of other networks."""
    found, workloads = [], {}
    for trace in traces(count, noise=0.0):
        factor = float(np.exp(noise * RNG.normal()))
        kernels = tuple(replace(kernel, time_s=kernel.time_s * factor) for kernel in trace.kernels)
        found.append(replace(trace, kernels=kernels, call_s=trace.call_s * factor))
        ops = tuple(product(kernel) for kernel in kernels if kernel.kind == "Conv")
        workloads[trace.network] = workload(ops)
    made = Calibration(environment=environment(), date="2026-01-01", traces=tuple(found), workloads=workloads)
    return MachineModel(learn(made))


def test_errors_are_of_networks_whose_kernels_were_not_seen():
    learned = machine(32, noise=0.5)
    (key,) = learned.settings
    errors = np.array(list(learned._plan_model(key).errors(0.0).values()))
    assert 0.35 < errors.std() < 0.8
    told = learned.built(key[0], 1, traces(1, seed=5)[0].kernels).latency_s
    assert 2.0 < told.high / told.value < 8.0 and 2.0 < told.value / told.low < 8.0  # of errors of 0.5, ±1.6 deviations


def test_a_setting_with_few_networks_is_not_predicted_and_two_that_share_few_are_not_compared():
    assert machine(1, 0.1).settings == machine(7, 0.1).settings == ()
    learned = machine(FEWEST_SHARED - 1, 0.1)
    (key,) = learned.settings
    wanted = plan(workload(tuple(product(kernel) for kernel in traces(1)[0].kernels if kernel.kind == "Conv")))
    with pytest.raises(KeyError, match="not calibrated on enough"):
        machine(3, 0.1).planned(key[0], key[1], dict(key[2]), wanted)
    assert learned.planned(key[0], key[1], dict(key[2]), wanted).coverage < 0.9
