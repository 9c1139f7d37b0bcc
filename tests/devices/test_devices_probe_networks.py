"""The networks that a machine is calibrated with."""

import numpy as np
import onnx
import pytest

from dovetail.devices.probe_networks import KINDS, networks
from dovetail.devices.rates import disk_bytes_per_s, memory_bytes_per_s


@pytest.fixture(scope="module")
def drawn():
    return list(networks())


def test_there_are_as_many_of_each_kind_as_promised_and_the_first_are_mixed(drawn):
    counts = {kind: sum(network.kind == kind for network in drawn) for kind in KINDS}
    assert counts == {kind: count for kind, (_, count) in KINDS.items()}
    assert {network.kind for network in drawn[: len(KINDS)]} == set(KINDS)


def test_every_network_is_valid_and_its_shapes_are_those_of_the_standard(drawn):
    for network in drawn:
        onnx.checker.check_model(network.proto, full_check=True)
        inferred = onnx.shape_inference.infer_shapes(network.proto, strict_mode=True, data_prop=True)
        for stated, found in zip(network.proto.graph.output, inferred.graph.output, strict=True):
            assert [d.dim_value for d in stated.type.tensor_type.shape.dim] == [
                d.dim_value for d in found.type.tensor_type.shape.dim
            ], network.name


def test_networks_are_the_same_each_time(drawn):
    again = {network.name: network.proto.SerializeToString() for network in networks()}
    assert again == {network.name: network.proto.SerializeToString() for network in drawn}


@pytest.mark.parametrize("number", [0, 1, 2, 8])
def test_a_network_runs_and_gives_finite_numbers(drawn, number):
    import onnxruntime

    network = drawn[number]
    session = onnxruntime.InferenceSession(network.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {i.name: np.random.default_rng(0).standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
    outputs = session.run(None, feeds)
    assert [list(output.shape) for output in outputs] == [o.shape for o in session.get_outputs()]


def test_memory_and_disk_deliver_something(tmp_path):
    assert memory_bytes_per_s(1) > 1e7
    rates = disk_bytes_per_s(tmp_path)
    assert set(rates) == {"disk_write_bytes_per_s", "disk_read_bytes_per_s"} and min(rates.values()) > 0
    assert not list(tmp_path.iterdir())


def test_a_disk_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError):
        disk_bytes_per_s(tmp_path / "nowhere")
