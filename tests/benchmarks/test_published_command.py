"""What ``dovetail predict --device`` says is what the validation of published rows judges, and holds on real networks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dovetail.core.prediction import Prediction
from dovetail.core.workload import Op, Workload
from dovetail.devices.catalogue import catalogue, device
from dovetail.pipeline.predicting import predict_on
from dovetail.predict.fitted_file import parameters
from dovetail.predict.gemm.model import GemmModel
from dovetail.predict.gemm.on_device import on_device
from dovetail.predict.gemm.shapes import Gemms
from dovetail.predict.nets import specialist
from dovetail.predict.nets.quantities import FLOP, QUANTITIES
from dovetail.predict.op_table import OpTable, op_table
from dovetail.predict.predict import predict
from dovetail.predict.setting import Setting

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from published import hailo, vision, vitis_2_5, vitis_zoo
from published.table import read_csv
from published.vision_profiles import Profiles

TYPES = {"amp": "fp16", "bf16": "bf16", "fp32": "fp32"}
CHIPS = {"HAILO8": "Hailo-8", "HAILO8L": "Hailo-8L", "HAILO10H": "Hailo-10H", "HAILO15H": "Hailo-15H"}


@cache
def small(kind: str = "Conv") -> OpTable:
    """One operator, whose place the sums of a published network take."""
    op = Op(
        name="one", kind=kind, flop=1e6, weight_bytes=4e3, input_bytes=4e3, output_bytes=4e3, params=1000, dtype="float32",
        output_shapes=((1, 10, 10, 10),), attributes={"matrix_flop": "1000000"},
    )  # fmt: skip
    shapes = {"x": (1, 3, 10, 10)}
    return op_table(
        Workload(model_hash="", input_shapes=shapes, assumed_dims={}, ops=(op,), peak_activation_bytes=1e4, uncounted={})
    )


def image_network(quantities: np.ndarray, side: float) -> OpTable:
    table = small()
    return replace(table, quantities=quantities, network=replace(table.network, pixels=side * side))


def told(row: Mapping[str, Any]) -> Prediction | None:
    """By the command's path, where it would run the network as the row did."""
    way = row["setting"]
    if way.training or way.precision not in TYPES:
        return None
    table = image_network(row["quantities"], row["size"])
    setting = Setting(precision=TYPES[way.precision], batch=int(row["batch"]), eager=not way.compiled)
    if specialist._way(table, device(way.device), setting) != way:
        return None
    return predict(table, device(way.device), setting)


def test_timm_rows_come_out_as_they_are_judged(shared_data: Path) -> None:
    rows = vision.TABLE.read(shared_data.parent / "validation")[::7]
    judged = vision.TABLE.predict(parameters("vision"), rows)
    same = [(i, found) for i, row in enumerate(rows) if (found := told(row))]
    by_model = [(i, found) for i, found in same if found.model.startswith("networks in PyTorch")]
    assert len(by_model) > 200 and len(by_model) > 0.95 * len(same)
    assert {rows[i]["setting"].device for i, _ in by_model} == {row["setting"].device for row in rows}
    for i, found in by_model:
        assert found.latency_s is not None and "vision" in found.latency_s.source.ref
        ends = (found.latency_s.value, found.latency_s.low, found.latency_s.high)
        wanted = (judged.value[i], judged.low[i], judged.high[i])
        assert ends == pytest.approx([rows[i]["batch"] * value for value in wanted], rel=1e-9)
        assert found.latency_s.coverage == 0.9


@pytest.mark.parametrize("name", CHIPS)
def test_hailo_rows_come_out_as_they_are_judged(name: str, shared_data: Path) -> None:
    rows = [row for row in hailo.TABLE.read(shared_data.parent / "validation") if row["chip"].name == name][::9]
    judged = hailo.TABLE.predict(parameters("hailo"), rows)
    for i, row in enumerate(rows):
        found = predict(replace(small(), network=row["network"]), device(CHIPS[name]), Setting(batch=row["chip"].batch))
        assert found.throughput_per_s is not None and found.model == "chips of the Hailo model zoo"
        assert 1 / found.throughput_per_s.value == pytest.approx(judged.value[i], rel=1e-9)


@pytest.mark.parametrize(
    ("table", "board"), [(vitis_2_5.TABLE, "ZCU102"), (vitis_2_5.TABLE, "KV260"), (vitis_zoo.TABLE, "VEK280")]
)
def test_vitis_rows_come_out_as_they_are_judged(table: Any, board: str, shared_data: Path) -> None:
    (name,) = [name for name in catalogue() if board in name]
    all_rows = table.read(shared_data.parent / "validation")
    found = predict(small(), device(name))
    rows: Sequence[Any] = [row for row in all_rows if f"as {row['run'].dpu.name}," in " ".join(found.notes)][::7]
    judged = table.predict(parameters(table.name), rows)
    assert len(rows) > 3
    for i, row in enumerate(rows):
        found = predict(replace(small(), network=row["network"]), device(name))
        said = found.throughput_per_s if row["run"].multi else found.latency_s
        assert said is not None and found.model == "boards of the Vitis AI model zoo"
        assert (1 / said.value if row["run"].multi else said.value) == pytest.approx(judged.value[i], rel=1e-9)


@pytest.mark.parametrize("name", ["A100 SXM 80GB", "H100 SXM 80GB", "Instinct MI300X"])
def test_a_product_comes_out_as_the_model_of_products_tells_it(name: str) -> None:
    m, n, k = 512, 11008, 4096
    op = Op(
        name="up", kind="MatMul", flop=2.0 * m * n * k, weight_bytes=4.0 * n * k, input_bytes=4.0 * m * k,
        output_bytes=4.0 * m * n, params=n * k, dtype="float32", output_shapes=((m, n),),
        attributes={"matrix_flop": str(2 * m * n * k)},
    )  # fmt: skip
    shapes = {"x": (m, k)}
    work = Workload(model_hash="", input_shapes=shapes, assumed_dims={}, ops=(op,), peak_activation_bytes=1e6, uncounted={})
    found = predict(op_table(work), device(name), Setting(precision="bf16", batch=2 * m))
    place = on_device(device(name), 1)
    assert place is not None and found.latency_s is not None
    sizes = [np.array([float(size)]) for size in (2 * m, n, k)]
    wanted = GemmModel(parameters("gemm")).predict(Gemms(m=sizes[0], n=sizes[1], k=sizes[2], role=[""]), place)
    ends = (found.latency_s.value, found.latency_s.low, found.latency_s.high)
    assert ends == pytest.approx((wanted.seconds[0], wanted.low_s[0], wanted.high_s[0]))
    assert found.model.startswith("matrix products") and found.per_op is not None
    assert found.per_op.names == ("up",) and sum(found.per_op.time_s) == pytest.approx(found.latency_s.value)


def resnet34(folder: Path) -> Path:
    """As timm has it, batch norms apart (He et al. 2016, table 1), without values in its weights."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, tuple[int, ...]] = {}

    def convolve(name: str, x: str, shape: tuple[int, ...], stride: int) -> str:
        weights[f"{name}.w"] = shape
        size, parts = shape[2], ["scale", "bias", "mean", "variance"]
        window = {"kernel_shape": [size] * 2, "pads": [size // 2] * 4, "strides": [stride] * 2}
        nodes.append(helper.make_node("Conv", [x, f"{name}.w"], [f"{name}.c"], name, **window))
        inputs = [f"{name}.c", *(f"{name}.{part}" for part in parts)]
        weights.update(dict.fromkeys(inputs[1:], (shape[0],)))
        nodes.append(helper.make_node("BatchNormalization", inputs, [f"{name}.n"], f"{name}.norm"))
        return f"{name}.n"

    def relu(x: str) -> str:
        nodes.append(helper.make_node("Relu", [x], [f"{x}.r"], f"{x}.relu"))
        return f"{x}.r"

    x = relu(convolve("stem", "image", (64, 3, 7, 7), 2))
    nodes.append(helper.make_node("MaxPool", [x], ["pooled"], "pool", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]))
    x, width = "pooled", 64
    for stage, (channels, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            y = relu(convolve(f"{name}a", x, (channels, width, 3, 3), stride))
            y = convolve(f"{name}b", y, (channels, channels, 3, 3), 1)
            short = x if stride == 1 and width == channels else convolve(f"{name}s", x, (channels, width, 1, 1), stride)
            nodes.append(helper.make_node("Add", [y, short], [f"{name}.sum"], f"{name}.add"))
            x, width = relu(f"{name}.sum"), channels
    weights |= {"fc.w": (1000, 512), "fc.b": (1000,)}
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"], "gap"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"], "flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "fc.w", "fc.b"], ["logits"], "fc", transB=1))
    graph = helper.make_graph(
        nodes,
        "resnet34",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])],
        [numpy_helper.from_array(np.full(shape, 0.01, dtype=np.float32), name) for name, shape in weights.items()],
    )
    path = folder / "resnet34.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


PUBLISHED = [
    # huggingface/pytorch-image-models results/benchmark-infer-*.csv: resnet34 at 224, images a second.
    ("RTX 4090", "fp16", 256, False, "pt240", 15291.59),
    ("RTX 4090", "fp16", 1024, True, "pt240", 8192.41),
    ("RTX 5090", "fp16", 1024, True, "pt291", 12206.42),
    ("RTX PRO 6000 Max-Q", "fp16", 2048, False, "pt291", 21512.4),
    ("RTX PRO 6000 Max-Q", "bf16", 2048, False, "pt291", 19163.53),
    ("Core i9-10940X", "fp32", 1, False, "pt240", 80.61),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return resnet34(tmp_path_factory.mktemp("resnet34"))


@pytest.mark.parametrize(
    ("name", "precision", "batch", "eager", "torch", "rate"),
    [*PUBLISHED[:1], *(pytest.param(*row, marks=pytest.mark.slow) for row in PUBLISHED[1:])],
)
def test_a_model_file_is_told_as_fast_as_it_was_published(
    network: Path, name: str, precision: str, batch: int, eager: bool, torch: str, rate: float
) -> None:
    found = predict_on(network, name, precision, {}, batch=batch, eager=eager)
    assert found.throughput_per_s is not None and found.model.startswith("networks in PyTorch")
    assert found.throughput_per_s.low < rate < found.throughput_per_s.high
    assert 0.75 < found.throughput_per_s.value / rate < 1.33
    assert found.per_op is not None and found.latency_s is not None
    assert sum(found.per_op.time_s) == pytest.approx(found.latency_s.value)


def test_the_published_rates_are_those_of_the_file(shared_data: Path) -> None:
    lines = read_csv(shared_data.parent / "validation" / vision.FILE)
    rates = {(line["device"], line["torch"], line["samples_per_s"]) for line in lines if line["model"] == "resnet34"}
    assert {(name, torch, str(rate)) for name, _, _, _, torch, rate in PUBLISHED} <= rates


def test_a_model_file_has_the_sums_of_the_traced_network(network: Path) -> None:
    from dovetail.pipeline.describe import analyze_file

    traced = dict(zip(QUANTITIES, Profiles.load().find("resnet34", 224, 3.67).tolist(), strict=True))
    read = dict(zip(QUANTITIES, op_table(analyze_file(network, {})).quantities.tolist(), strict=True))
    for name in (*FLOP, "count_conv", "count_pw", "count_bn", "params", "roof_100"):
        assert read[name] == pytest.approx(traced[name], rel=0.03), name
