"""Kinds of networks, told by their operators as the zoos' networks are told by their names."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from dovetail.core.workload import Op, Workload
from dovetail.predict.edge.network import TAGS, Network
from dovetail.predict.op_table import op_table
from dovetail.workloads.analyze import analyze

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from published.networks import known

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def analysed(path: Path) -> Network:
    return op_table(analyze(path)).network


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("light_resnet50", "resnet_v1_50"),
        ("light_squeezenet", "squeezenet"),
        ("light_inception_v1", "inception_v1"),
        ("light_inception_v2", "inceptionv2"),
        ("light_vgg19", "vgg_19"),
    ],
)
def test_a_file_tells_the_kind_and_depth_that_the_zoos_name_tells(file: str, name: str) -> None:
    found, zoo = analysed(LIGHT / f"{file}.onnx"), known(name)
    assert zoo is not None and not found.bare
    assert {tag: found.tags[tag] for tag in TAGS} == zoo.told()
    assert found.layers == pytest.approx(zoo.layers, rel=0.25)


def test_a_network_of_words_has_attention_and_no_pixels() -> None:
    plain = {"flop": 1e6, "weight_bytes": 0.0, "input_bytes": 4e3, "output_bytes": 4e3, "params": 0, "dtype": "float32"}
    layer = [("MatMul", {"matrix_flop": "1000000"}), ("Softmax", {}), ("MatMul", {"matrix_flop": "1000000"})]
    ops = tuple(
        Op(name=f"{kind}{i}", kind=kind, output_shapes=((1, 128, 64),), attributes=facts, **plain)
        for i, (kind, facts) in enumerate(layer * 4)
    )
    words = Workload(
        model_hash="", input_shapes={"ids": (1, 128)}, assumed_dims={}, ops=ops, peak_activation_bytes=None, uncounted={}
    )
    found = op_table(words).network
    assert found.tags["text"] == found.tags["attention"] == 1 and found.pixels is None


def test_sizes_alone_are_bare() -> None:
    assert Network(flop=1e9, layers=50).bare and not Network(flop=1e9, tags={"resnet": 1.0}).bare
