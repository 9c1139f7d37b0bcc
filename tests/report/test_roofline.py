"""Work and traffic of fused operators, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sample

from dovetail.core.profile import KernelTime, Profile
from dovetail.report.roofline import place, roofline


def test_fused_operators_do_not_count_what_stays_between_them() -> None:
    workload = sample.workload()
    first, relu = workload.ops[:2]
    kernel = KernelTime(name="k", kind="FusedConv", time_s=1e-6, sources=(first.name, relu.name))
    (placed,) = place(Profile(runtime="r", call_s=1e-6, kernels=(kernel,), threads=1), workload)
    assert first.flop is not None and relu.flop is not None
    assert placed.flop == first.flop + relu.flop
    image, weights, activation = 4 * 3 * 32 * 32, 4 * 16 * 3 * 9, 4 * 16 * 32 * 32
    assert placed.moved_bytes == pytest.approx(image + weights + activation)


def test_an_inner_tensor_that_others_read_is_written_once() -> None:
    workload = sample.workload()
    first, relu = workload.ops[:2]
    branch = replace(relu, name="branch", outputs=("elsewhere",))
    branched = replace(workload, ops=(*workload.ops, branch))
    kernel = KernelTime(name="k", kind="FusedConv", time_s=1e-6, sources=(first.name, relu.name))
    profile = Profile(runtime="r", call_s=1e-6, kernels=(kernel,), threads=1)
    activation = 4 * 16 * 32 * 32
    assert place(profile, branched)[0].moved_bytes - place(profile, workload)[0].moved_bytes == activation


def test_kernels_without_known_work_are_counted_in_words_not_drawn() -> None:
    result = sample.fit()
    figure = roofline(result)
    assert "20 of 20 kernels, 100 % of their time" in figure.caption
    assert "20 of 21 kernels" in figure.caption
    assert figure.svg.count("<circle") == 40


def test_what_is_missing_is_named() -> None:
    assert "the workload was not analysed" in roofline(sample.bare()).caption
    assert "no profile was taken" in roofline(replace(sample.bare(), workload=sample.workload())).caption
