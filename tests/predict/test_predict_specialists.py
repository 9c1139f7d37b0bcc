"""Which fitted model tells a device, what it declines and why, and that the roofline steps in and says so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dovetail.core.prediction import Binds, Prediction
from dovetail.core.serial import encode
from dovetail.core.workload import Op, Workload
from dovetail.devices.catalogue import device
from dovetail.predict.nets.quantities import KINDS, QUANTITIES, pick
from dovetail.predict.nets.terms import TERMS, limits
from dovetail.predict.op_table import OpTable, op_table
from dovetail.predict.predict import predict, predict_many
from dovetail.predict.setting import Setting

CARD, CHIP, BOARD = "GeForce RTX 4090", "Hailo-8", "KV260"
MANY = Setting(precision="fp16", batch=256)


def convolution(name: str, source: str, channels: int, side: int) -> tuple[Op, Op]:
    flop = 2.0 * side * side * channels * channels * 9
    size = 4.0 * channels * side * side
    shape = (1, channels, side, side)
    return (
        Op(
            name=name, kind="Conv", flop=flop, weight_bytes=4.0 * channels * channels * 9, input_bytes=size, output_bytes=size,
            params=channels * channels * 9, dtype="float32", inputs=(source,), outputs=(f"{name}.c",), output_shapes=(shape,),
            attributes={"matrix_flop": str(int(flop)), "kernel_shape": "3x3"},
        ),
        Op(
            name=f"{name}.relu", kind="Relu", flop=size / 4, weight_bytes=0.0, input_bytes=size, output_bytes=size, params=0,
            dtype="float32", inputs=(f"{name}.c",), outputs=(name,), output_shapes=(shape,),
        ),
    )  # fmt: skip


def product(name: str, source: str, rows: int, width: int) -> Op:
    flop = 2 * rows * width * width
    return Op(
        name=name, kind="MatMul", flop=float(flop), weight_bytes=4.0 * width * width, input_bytes=4.0 * rows * width,
        output_bytes=4.0 * rows * width, params=width * width, dtype="float32", inputs=(source,), outputs=(name,),
        output_shapes=((1, rows, width),), attributes={"matrix_flop": str(flop)},
    )  # fmt: skip


def table(ops: list[Op], shape: tuple[int, ...]) -> OpTable:
    return op_table(
        Workload(
            model_hash="", input_shapes={"x": shape}, assumed_dims={}, ops=tuple(ops), peak_activation_bytes=1e6, uncounted={}
        )
    )


def images(side: int = 224, layers: int = 16) -> OpTable:
    names = ["x", *(f"layer{i}" for i in range(layers))]
    ops = [op for a, b in zip(names, names[1:], strict=False) for op in convolution(b, a, 64, 56)]
    return table(ops, (1, 3, side, side))


def tokens(layers: int = 24) -> OpTable:
    names = ["x", *(f"layer{i}" for i in range(layers))]
    return table([product(b, a, 128, 1024) for a, b in zip(names, names[1:], strict=False)], (1, 128, 1024))


def noted(found: Prediction, words: str) -> bool:
    return any(words in note for note in found.notes)


def test_an_image_network_on_a_card_is_told_by_the_model_of_networks() -> None:
    found = predict(images(), device(CARD), MANY)
    assert found.model == "networks in PyTorch, compiled, fitted on this device"
    assert found.latency_s is not None and found.throughput_per_s is not None
    assert found.latency_s.coverage == 0.9 and "vision" in found.latency_s.source.ref
    assert found.throughput_per_s.value == pytest.approx(256 / found.latency_s.value)
    assert noted(found, "compiled in automatic mixed precision")


def test_eager_takes_longer_and_is_said() -> None:
    compiled, eager = (predict(images(), device(CARD), replace(MANY, eager=on)) for on in (False, True))
    assert compiled.latency_s is not None and eager.latency_s is not None
    assert eager.latency_s.value > compiled.latency_s.value and ", eager," in eager.model


def test_a_card_that_was_not_fitted_has_a_wider_interval() -> None:
    own, other = (predict(images(), device(name), MANY).latency_s for name in (CARD, "A100 SXM 80GB"))
    assert own is not None and other is not None and other.high / other.low > own.high / own.low
    assert predict(images(), device("A100 SXM 80GB"), MANY).model.endswith("by the weights of other GPUs")


@pytest.mark.parametrize(
    ("what", "setting", "words"),
    [
        (images(), Setting(batch=256), "not to fp32"),
        (images(), Setting(precision="int8", batch=256), "not to int8"),
        (images(), Setting(precision="fp16"), "a larger batch can be told"),
        (images(side=32), MANY, "pixels a side"),
        (table([convolution("a", "x", 64, 56)[0]], (1, 64)), MANY, "networks that look at images"),
    ],
)
def test_what_was_not_fitted_is_left_to_the_roofline_with_the_reason(what: OpTable, setting: Setting, words: str) -> None:
    found = predict(what, device(CARD), setting)
    assert found.model == "roofline" and found.latency_s is not None and "roofline" in found.latency_s.source.ref
    assert noted(found, "the model of networks in PyTorch does not apply") and noted(found, words)


def test_the_roofline_says_the_same_where_a_model_declines_as_where_there_is_none() -> None:
    with_models, without = (predict(images(), device(CARD), Setting(), *rest) for rest in ((), ((),)))
    assert with_models.latency_s == without.latency_s and with_models.per_op == without.per_op


def test_a_network_of_products_is_told_by_the_model_of_products_on_any_card() -> None:
    for name in (CARD, "H100 SXM 80GB", "Instinct MI300X"):
        found = predict(tokens(), device(name), Setting(precision="bf16"))
        assert found.model.startswith("matrix products,") and noted(found, "products with weights take 100%")
        assert found.latency_s is not None and found.latency_s.low < found.latency_s.value < found.latency_s.high
    assert predict(tokens(), device(CARD), Setting()).model == "roofline"


def test_more_layers_of_products_take_in_proportion() -> None:
    few, many = (predict(tokens(n), device("H100 SXM 80GB"), Setting(precision="bf16", batch=16)) for n in (10, 40))
    assert few.latency_s is not None and many.latency_s is not None
    assert many.latency_s.value == pytest.approx(4 * few.latency_s.value, rel=0.02)


@pytest.mark.parametrize(("what", "setting"), [(images(), MANY), (tokens(), Setting(precision="fp16"))])
def test_operators_add_up_to_the_call(what: OpTable, setting: Setting) -> None:
    found = predict(what, device("H100 SXM 80GB"), setting)
    assert found.per_op is not None and found.latency_s is not None
    assert sum(found.per_op.time_s) == pytest.approx(found.latency_s.value)
    assert len(found.per_op.names) == len(found.per_op.time_s) == len(found.per_op.binds) and min(found.per_op.time_s) > 0
    assert json.loads(json.dumps(encode(found)))["per_op"]["names"][0] == "layer0"


def test_processors_that_were_fitted_are_told_at_one_image_in_floats() -> None:
    found = predict(images(), device("Core i9-10940X"))
    assert found.model == "networks in PyTorch, compiled, fitted on this device"
    for setting in (Setting(batch=8), Setting(threads=2), Setting(eager=True)):
        assert predict(images(), device("Core i9-10940X"), setting).model == "roofline"
    assert predict(images(), device("EPYC 9654")).model == "roofline"


ZOOS = {CHIP: "chips of the Hailo model zoo", BOARD: "boards of the Vitis AI model zoo"}


@pytest.mark.parametrize(("name", "model"), ZOOS.items())
def test_chips_of_the_edge_are_told_by_their_zoo_in_int8_alone(name: str, model: str) -> None:
    assert predict(images(), device(name)).model == model
    other = predict(images(), device(name), Setting(precision="fp16"))
    assert other.model in ("roofline", "") and noted(other, "it was fitted to int8")


def test_without_a_time_no_model_is_named() -> None:
    huge = replace(images(), params=1e12)
    found = predict(huge, device(CARD), MANY)
    assert found.latency_s is None and found.model == ""


def test_many_devices_are_told_as_each_alone_by_the_fitted_models_too() -> None:
    names = (CARD, "A100 SXM 80GB", "L4", "Instinct MI300X", CHIP, BOARD, "Core i9-10940X", "GeForce RTX 5090")
    devices = [device(name) for name in names]
    for what, setting in ((images(), MANY), (tokens(), Setting(precision="bf16", batch=4))):
        found = predict_many(what, devices, setting)
        for i, one in enumerate(devices):
            alone, among = predict(what, one, setting), found.at(i)
            assert (alone.model, alone.notes, alone.binds) == (among.model, among.notes, among.binds)
            assert (alone.latency_s is None) == (among.latency_s is None)
            if alone.latency_s is not None and among.latency_s is not None:
                assert alone.latency_s.value == pytest.approx(among.latency_s.value)
                assert alone.latency_s.source == among.latency_s.source


def test_limits_share_out_the_whole_time() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(len(TERMS)), size=50)
    quantities = np.exp(rng.normal(15, 3, (50, len(QUANTITIES))))
    found = limits(shares, quantities)
    assert found.sum(axis=1) == pytest.approx(1.0) and (found >= 0).all()


def test_what_binds_follows_the_work() -> None:
    plain = images()
    moved = [f"moved_{kind}" for kind in KINDS]
    streams = np.where(np.isin(QUANTITIES, moved), 300 * plain.quantities, plain.quantities)
    assert predict(plain, device(CARD), MANY).binds is Binds.COMPUTE
    assert predict(replace(plain, quantities=streams), device(CARD), MANY).binds is Binds.BANDWIDTH
    assert pick(plain.quantities[None], ["count_conv"])[0, 0] == 16
