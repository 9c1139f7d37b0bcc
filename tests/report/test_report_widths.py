"""Tables fit terminals of 80 columns and more: no line is longer, no name and no number is broken, what is left out is said."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from dovetail.core.advice import Advice
from dovetail.core.device import Device
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Prediction
from dovetail.core.profile import Kernel
from dovetail.core.recipe import Recipe
from dovetail.core.source import Source, SourceKind
from dovetail.core.workload import Op, Workload
from dovetail.devices.catalogue import packaged
from dovetail.pipeline.advising import advise
from dovetail.pipeline.predicting import BuiltForecast, Forecasted
from dovetail.predict.call_model import CallEstimate
from dovetail.predict.op_table import op_table
from dovetail.predict.predict import predict
from dovetail.predict.setting import Setting
from dovetail.report import advice as report_advice
from dovetail.report import columns, predicted
from dovetail.report import devices as report_devices

WIDTHS = (80, 90, 100, 120, 160)
JOBS = Path(__file__).parents[2] / "examples" / "advise"
DEVICES = {entry.device.name: entry.device for entry in packaged()}
CALIBRATION = Source(kind=SourceKind.DERIVED, ref="calibration of AMD EPYC 9R14 96-Core Processor", date="2026-11-27")


def shown(render: Callable[..., None], *what: object, width: int) -> str:
    out = io.StringIO()
    render(*what, Console(file=out, width=width))
    assert all(len(line.rstrip()) <= width for line in out.getvalue().splitlines()), width
    return out.getvalue()


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=0.7312 * value, high=1.8765 * value, source=CALIBRATION)


@cache
def job(name: str) -> Advice:
    return advise(JOBS / f"{name}.yaml")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_list_of_devices_has_one_line_each(width: int) -> None:
    text = shown(report_devices.render_list, list(DEVICES.values()), width=width)
    lines = text.splitlines()
    assert all(any(line == name or line.startswith(f"{name} ") for line in lines) for name in DEVICES)
    assert len(lines) <= len(DEVICES) + 5
    header = " ".join(" ".join(lines[:2]).split())
    assert all(title in header for title in ("name", "16 bit", "memory", "bandwidth"))
    assert ("too." in " ".join(text.split())) == ("deploy" not in header)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_comparison_goes_on_below_where_not_all_devices_fit(width: int, count: int) -> None:
    names = ("A100 SXM 80GB", "RTX PRO 6000 Blackwell Server", "Instinct MI300X", "Hailo-8", "Raspberry Pi 5")[:count]
    some: list[Device] = [DEVICES[name] for name in names]
    text = shown(report_devices.render_comparison, some, width=width)
    rows = [line for line in text.splitlines() if line.startswith("power, at most ")]
    assert sum(len(line.split()) > 3 for line in rows) == len(rows) >= 1
    assert "400 W" in rows[0] and all("400 W" in row for row in rows)
    assert sum(row.count("×") for row in rows) == count - 1


@pytest.mark.parametrize("width", WIDTHS)
def test_ways_to_run_a_model_have_one_line_each(width: int) -> None:
    options = {"threads": 2, "precision": "bf16"}
    rows = [
        Forecasted(runtime=runtime, form="int8", options=options, batch=8, latency_s=estimate(value))
        for runtime, value in (("onnxruntime", 1.234e-3), ("openvino", 99.96e-6), ("litert", 0.1234))
    ]
    text = shown(predicted.render_settings, rows, width=width)
    line = next(line for line in text.splitlines() if line.startswith("onnxruntime"))
    assert "2 threads, bf16" in line and "1.23 ms" in line and "902 µs to 2.32 ms" in line
    assert "calibration of AMD EPYC" in text and "90%" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_kernels_of_a_built_model_have_one_line_each(width: int) -> None:
    kernels = tuple(
        Kernel(name=f"/model/layer{i}/block/conv/Conv[{i}]", kind="Convolution", implementation="brgconv_avx512_core_bf16")
        for i in range(20)
    )
    call = CallEstimate(latency_s=estimate(2e-3), kernels_s=tuple(1e-4 for _ in kernels), overhead_s=5e-6)
    built = BuiltForecast(recipe=Recipe(runtime="openvino"), threads=2, kernels=kernels, estimate=call, notes=("widened",))
    text = shown(predicted.render_built, built, width=width)
    assert sum(line.startswith("/model/layer") for line in text.splitlines()) == 12
    assert "Conv[0]" in text and "8 more kernels" in text and "note: widened" in text


def one_prediction(name: str) -> Prediction:
    op = Op(
        name="one", kind="Conv", flop=1e9, weight_bytes=4e6, input_bytes=4e5, output_bytes=4e5, params=10**6, dtype="float32",
        output_shapes=((1, 10, 100, 100),), attributes={"matrix_flop": "1000000000"},
    )  # fmt: skip
    work = Workload(
        model_hash="", input_shapes={"x": (1, 3, 224, 224)}, assumed_dims={}, ops=(op,), peak_activation_bytes=1e6, uncounted={}
    )
    return predict(op_table(work), DEVICES[name], Setting(precision="fp16", batch=256))


@pytest.mark.parametrize("width", WIDTHS)
def test_one_device_says_what_told_it(width: int) -> None:
    text = shown(predicted.render_device, one_prediction("GeForce RTX 4090"), width=width)
    words = " ".join(text.split())
    assert "told by: networks in PyTorch, compiled" in words and "predict/fitted/vision.json" in words
    assert any(line.startswith("latency ") and "(90%)" in line for line in text.splitlines())
    words = " ".join(shown(predicted.render_device, one_prediction("Instinct MI300X"), width=width).split())
    assert "told by: roofline" in words


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["shop-video", "chat-7b", "train-1b3"])
def test_advice_keeps_devices_numbers_and_limits(width: int, name: str) -> None:
    advice = job(name)
    text = shown(lambda found, console: report_advice.render(found, console, every=True), advice, width=width)
    lines = text.splitlines()
    for option in advice.ranked:
        (row,) = [line for line in lines if line.startswith((f"{option.device}  ", f"{option.device} *"))]
        assert option.standing.value in row
    limits = {option.binds.value for option in advice.ranked if option.binds}
    assert all(limit in text for limit in limits)
    assert ("level: what deployment takes" in " ".join(text.split())) != (" columns show " in text)


def test_columns_go_in_the_order_in_which_they_are_missed() -> None:
    widths = {"a": 10, "b": 10, "c": 10, "d": 10}
    assert columns.fitting(widths, ("c", "b"), 46) == ["a", "b", "c", "d"]
    assert columns.fitting(widths, ("c", "b"), 45) == ["a", "b", "d"]
    assert columns.fitting(widths, ("c", "b"), 25) == ["a", "d"]
    assert columns.fitting(widths, ("c", "b"), 5) == ["a", "d"]


def test_groups_of_columns_each_begin_with_the_first() -> None:
    assert columns.in_groups(20, [10, 10, 10], 44) == [range(0, 2), range(2, 3)]
    assert columns.in_groups(20, [10, 10], 10) == [range(0, 1), range(1, 2)]
    assert columns.in_groups(20, [10, 10], 44) == [range(0, 2)]
