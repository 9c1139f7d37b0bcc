"""Calls of several samples, told from a calibration that holds single ones: the interval is wider, and holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from probe_kernels import BANDWIDTH_BYTES_PER_S, FIXED_S, RATE_FLOP_PER_S, network, traces

from dovetail.core.calibration import Calibration
from dovetail.core.estimate import Estimate
from dovetail.core.measurement import Environment
from dovetail.core.profile import KernelTime
from dovetail.core.source import Source, SourceKind
from dovetail.core.workload import Op, Workload
from dovetail.predict.machine_model import MachineModel, learn
from dovetail.predict.plan_model import plan
from dovetail.predict.spread import BATCH_WIDENS, widened

PC = Environment(fingerprint="f", cpu="made up", cores=2, isa=(), memory_bytes=8e9, os="linux", python="3.11", versions={})
SETTING = ("onnxruntime", "float", {"threads": 1})


def op(number: int, kernel: KernelTime, batch: int) -> Op:
    _, channels, side, _ = kernel.outputs[0]
    size = 4.0 * batch * channels * side * side
    plain = {
        "name": f"{kernel.name}{number}", "kind": kernel.kind, "dtype": "float32", "output_bytes": size,
        "output_shapes": ((batch, channels, side, side),),
    }  # fmt: skip
    if kernel.kind != "Conv":
        return Op(**plain, flop=size / 4, weight_bytes=0.0, input_bytes=size, params=0)
    weights = math.prod(kernel.inputs[1])
    flop = 2.0 * batch * side * side * weights
    facts = {"matrix_flop": str(flop), "kernel_shape": "x".join(map(str, kernel.inputs[1][2:]))}
    taken = 4.0 * batch * math.prod(kernel.inputs[0])
    return Op(**plain, flop=flop, weight_bytes=4.0 * weights, input_bytes=taken, params=weights, attributes=facts)


def workload(kernels: tuple[KernelTime, ...], batch: int = 1) -> Workload:
    ops = tuple(op(number, kernel, batch) for number, kernel in enumerate(kernels))
    shapes = {"x": (batch, 3, 56, 56)}
    return Workload(model_hash="", input_shapes=shapes, assumed_dims={}, ops=ops, peak_activation_bytes=None, uncounted={})


def true_s(kernels: tuple[KernelTime, ...], batch: int) -> float:
    """By the law that the kernels follow."""
    ops = workload(kernels, batch).ops
    moved = sum(one.bytes or 0.0 for one in ops) / BANDWIDTH_BYTES_PER_S
    return 5e-6 + FIXED_S * len(ops) + moved + sum(one.flop or 0.0 for one in ops if one.params) / RATE_FLOP_PER_S


@pytest.fixture(scope="module")
def machine() -> MachineModel:
    found = traces(30)
    workloads = {trace.network: workload(trace.kernels) for trace in found}
    return MachineModel(learn(Calibration(environment=PC, date="2026-01-01", traces=tuple(found), workloads=workloads)))


def width(found: Estimate) -> float:
    return found.high / found.low


@pytest.mark.parametrize("batch", [2, 8, 32])
def test_more_samples_widen_what_is_told_of_a_model_as_it_stands(machine: MachineModel, batch: int) -> None:
    rng = np.random.default_rng(7)
    for _ in range(5):
        kernels = network(rng)
        one = machine.planned(*SETTING, plan(workload(kernels)))
        many = machine.planned(*SETTING, plan(workload(kernels, batch)), batch=batch)
        assert width(many) >= 0.999 * width(one) * batch ** (2 * BATCH_WIDENS)
        assert one.value < many.value < 2 * batch * one.value
        assert many.low < true_s(kernels, batch) < many.high


def test_more_samples_widen_what_is_told_of_built_kernels(machine: MachineModel) -> None:
    kernels = network(np.random.default_rng(8))
    one, eight = (machine.built("onnxruntime", 1, kernels, batch=batch) for batch in (1, 8))
    assert one.kernels_s == eight.kernels_s and one.latency_s.value == eight.latency_s.value
    assert width(eight.latency_s) == pytest.approx(width(one.latency_s) * 8 ** (2 * BATCH_WIDENS))


def test_a_widened_estimate_keeps_its_value() -> None:
    plain = Estimate(value=2.0, low=1.0, high=3.0, source=Source(kind=SourceKind.ASSUMED, ref="this test"))
    assert widened(plain, 1.0) == plain
    assert (widened(plain, 2.0).low, widened(plain, 2.0).value, widened(plain, 2.0).high) == (0.5, 2.0, 6.0)
