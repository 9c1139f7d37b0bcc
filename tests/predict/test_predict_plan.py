"""What a workload is to a prediction of a model that nobody has built."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_predict_spread import machine, product, traces, workload

from dovetail.devices.probe_networks import networks
from dovetail.predict.plan_model import form, plan
from dovetail.probe_files import forms
from dovetail.workloads.analyze import analyze


@pytest.mark.parametrize("name", ["residual-0", "dense-1", "transformer-1"])
def test_a_quantised_model_counts_as_the_float_one_that_it_was(name: str, tmp_path: Path) -> None:
    (network,) = [found for found in networks() if found.name == name]
    files = {file.form: file.path for file in forms(name, network.kind, network.proto, tmp_path) if file.format == "onnx"}
    found = {form: analyze(Path(path)) for form, path in files.items()}
    assert {name: form(workload) for name, workload in found.items()} == {
        name: name if name in ("float", "int8") else None for name in files
    }
    one, other = plan(found["float"]), plan(found["int8"])
    assert one.families == other.families
    for a, b in zip(one.works, other.works, strict=True):
        assert (a.flop, a.m, a.n, a.k, a.weight_bytes) == (b.flop, b.m, b.n, b.k, b.weight_bytes)


def test_ways_that_contradict_each_other_leave_it_to_the_kernels() -> None:
    learned = machine(32, noise=0.3)
    (key,) = learned.settings
    kernels = traces(1, seed=5)[0].kernels
    own = learned.built(key[0], 1, kernels)
    far = replace(own.latency_s, value=own.latency_s.low / 9, low=own.latency_s.low / 10, high=own.latency_s.low / 8)
    assert learned.built(key[0], 1, kernels, planned=far) == own


def test_two_ways_to_tell_a_call_meet_in_the_middle() -> None:
    learned = machine(32, noise=0.3)
    (key,) = learned.settings
    kernels = traces(1, seed=5)[0].kernels
    own = learned.built(key[0], 1, kernels)
    wanted = plan(workload(tuple(product(kernel) for kernel in kernels if kernel.kind == "Conv")))
    planned = learned.planned(key[0], key[1], dict(key[2]), wanted)
    both = learned.built(key[0], 1, kernels, planned=planned)
    middle = (own.latency_s.value * planned.value) ** 0.5
    assert both.latency_s.value == pytest.approx(middle)
    assert both.latency_s.high / both.latency_s.value < max(e.high / e.value for e in (own.latency_s, planned))
    scale = middle / own.latency_s.value
    assert both.kernels_s == pytest.approx([scale * seconds for seconds in own.kernels_s])
