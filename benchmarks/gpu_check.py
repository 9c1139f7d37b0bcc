"""How far predictions for a calibrated GPU lie from what it then measures: ``python benchmarks/gpu_check.py``.

Describes the GPU, calibrates it (about a minute), then predicts networks like ResNet-50 and single matrix products, and
measures them in torch: each operator launched by itself, and as one CUDA graph, which takes the launches out. Under three
minutes. Prints the error of every point, from measured rates and beside it from the data sheet, and appends a row to
``benchmarks/results/gpu_check.jsonl``. ``--device cpu`` runs the same on a processor with small sizes, to try the script.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import rows
from onnx import TensorProto, helper

from dovetail.core.device import Device
from dovetail.core.errors import InputError
from dovetail.core.gpu import GpuCalibration
from dovetail.devices.catalogue import catalogue
from dovetail.devices.gpu_device import measured_device
from dovetail.devices.gpu_names import catalogue_device
from dovetail.devices.gpu_plan import plan
from dovetail.devices.gpu_timer import timer
from dovetail.devices.nvml import graphics
from dovetail.pipeline import calibrate_gpu
from dovetail.predict.measured_gpu import MeasuredGpu
from dovetail.predict.op_table import op_table
from dovetail.predict.predict import predict
from dovetail.predict.setting import Setting
from dovetail.workloads.analyze import analyze

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks and first stride of ResNet-50's stages (He et al., https://arxiv.org/abs/1512.03385, table 1)."""
MEASURE_S = 0.5
TORCH = {"fp32": "float32", "tf32": "float32", "fp16": "float16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One comparison, seconds a call; ``None`` where it cannot be told."""

    name: str
    precision: str
    batch: int
    measured_s: float
    graph_s: float | None
    calibrated_s: float | None
    low_s: float | None
    high_s: float | None
    sheet_s: float | None

    @property
    def error(self) -> float | None:
        """Of the prediction from measured rates, relative."""
        return None if self.calibrated_s is None else self.calibrated_s / self.measured_s - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--calibration", type=Path, help="folder that keeps the calibration; a new one by default")
    options = parser.parse_args()
    quick = not options.device.startswith("cuda")
    found = graphics()
    for gpu in found.gpus or ():
        print(gpu)
    if found.gpus is None:
        print(f"GPUs unknown: {found.reason}")
    folder = options.calibration or Path(tempfile.mkdtemp(prefix="gpu-check-"))
    given = calibrate_gpu.Given(probes=plan(32)) if quick else None
    try:
        calibration = calibrate_gpu.calibrate_gpu(folder, options.device, _tell, given=given)
    except InputError as error:
        print(error)
        return 2
    device = measured_device(calibration, catalogue())
    specialist = MeasuredGpu(calibration, device)
    print(f"\ncalibrated in {calibration.seconds:.0f} s, {len(calibration.rows)} rows; {specialist.shares}")
    _show_rates(calibration, catalogue_device(calibration.gpu.name, catalogue()))
    points = list(_points(options.device, device, specialist, quick))
    _show(points)
    if not quick:
        errors = [abs(point.error) for point in points if point.error is not None]
        figures = {"median_error": statistics.median(errors), "points": [_figures(point) for point in points]}
        rows.append("gpu_check", {"model": calibration.gpu.name, "driver": calibration.gpu.driver}, figures)
    return 0


def _tell(share: float, text: str) -> None:
    print(f"\r{share:4.0%} {text:<70}", end="", file=sys.stderr, flush=True)


def _show_rates(calibration: GpuCalibration, sheet: Device | None) -> None:
    for dtype, row in sorted(calibration.peaks().items()):
        known = sheet.peak_flop_per_s.get(dtype) if sheet else None
        share = f", {row.flop_per_s / known.value:.0%} of the data sheet" if known else ""
        print(f"{dtype}: {row.flop_per_s / 1e12:.2f} TFLOP/s{share}, {row.power_w or float('nan'):.0f} W")
    best = calibration.best("copy", "triad")
    if best is not None:
        print(f"memory: {best.bytes_per_s / 1e9:.0f} GB/s; launch {1e6 * (calibration.least_s('launch') or 0):.1f} µs")


def _points(device: str, measured: Device, specialist: MeasuredGpu, quick: bool) -> Iterator[Point]:
    import torch

    sheet = catalogue_device(specialist.calibration.gpu.name, catalogue())
    precisions = ("fp32",) if quick else ("fp32", "tf32", "fp16")
    with tempfile.TemporaryDirectory() as folder:
        for name, module, shape, path in _workloads(torch, Path(folder), quick):
            table = op_table(analyze(path))
            for precision in precisions:
                if precision not in measured.peak_flop_per_s:
                    continue
                for batch in (1,) if quick or name.startswith("product") else (1, 8, 64):
                    setting = Setting(precision=precision, batch=batch)
                    own = predict(table, measured, setting, [specialist]).latency_s
                    other = predict(table, sheet, setting).latency_s if sheet else None
                    seconds, graph_s = _measured(torch, device, module, (batch, *shape), precision)
                    yield Point(
                        name=name, precision=precision, batch=batch, measured_s=seconds, graph_s=graph_s,
                        calibrated_s=own and own.value, low_s=own and own.low, high_s=own and own.high,
                        sheet_s=other and other.value,
                    )  # fmt: skip


def _workloads(torch: Any, folder: Path, quick: bool) -> Iterator[tuple[str, Any, tuple[int, ...], Path]]:
    """Name, module, shape of a sample, and the ONNX file of the same."""
    side, width = (64, 8) if quick else (224, 64)
    network = _resnet(torch, width).eval()
    path = folder / "resnet.onnx"
    torch.onnx.export(network, (torch.zeros(1, 3, side, side),), str(path), dynamo=True, verbose=False)
    yield f"resnet50 width {width}", network, (3, side, side), path
    for m, n, k in ((64, 64, 64),) if quick else ((4096, 4096, 4096), (1024, 3072, 768), (128, 11008, 4096), (1, 4096, 4096)):
        path = folder / f"{m}-{n}-{k}.onnx"
        _product(m, n, k, path)
        linear = torch.nn.Linear(k, n, bias=False).eval()
        yield f"product {m}x{n}x{k}", linear, (m, k), path


def _product(m: int, n: int, k: int, path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [value("x", TensorProto.FLOAT, [1, m, k])],
        [value("y", TensorProto.FLOAT, [1, m, n])],
        [helper.make_tensor("w", TensorProto.FLOAT, [k, n], bytes(4 * k * n), raw=True)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def _resnet(torch: Any, width: int) -> Any:
    """ResNet-50 of that width with batch normalisation folded away, as runtimes leave it."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inside: int, middle: int, stride: int) -> None:
            super().__init__()
            out = 4 * middle
            self.path = nn.Sequential(
                nn.Conv2d(inside, middle, 1), nn.ReLU(), nn.Conv2d(middle, middle, 3, stride, 1), nn.ReLU(),
                nn.Conv2d(middle, out, 1),
            )  # fmt: skip
            same = inside == out and stride == 1
            self.short = nn.Identity() if same else nn.Conv2d(inside, out, 1, stride)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.path(x) + self.short(x))

    layers: list[Any] = [nn.Conv2d(3, width, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = width
    for middle, blocks, stride in STAGES:
        for number in range(blocks):
            layers.append(Block(inside, middle * width // 64, stride if number == 0 else 1))
            inside = 4 * middle * width // 64
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 1000))


def _measured(torch: Any, device: str, module: Any, shape: tuple[int, ...], precision: str) -> tuple[float, float | None]:
    """Seconds a call, and as a CUDA graph where there is CUDA."""
    dtype = getattr(torch, TORCH[precision])
    for place in (torch.backends.cuda.matmul, torch.backends.cudnn):
        place.allow_tf32 = precision == "tf32"
    layout = {"memory_format": torch.channels_last} if len(shape) == 4 else {}
    with torch.inference_mode():
        moved = module.to(device=device, dtype=dtype, **layout)
        x = torch.randn(shape, device=device).to(dtype=dtype, **layout)
        clock = timer(torch, device)
        plain = clock.typical_s(lambda: moved(x), MEASURE_S)
        graph_s = None if not device.startswith("cuda") else clock.typical_s(_graph(torch, moved, x), MEASURE_S)
    return plain, graph_s


def _graph(torch: Any, module: Any, x: Any) -> Callable[[], None]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            module(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(x)
    return graph.replay


def _show(points: list[Point]) -> None:
    print(f"\n{'workload':<28}{'type':>6}{'batch':>6}{'measured':>12}{'graph':>12}{'predicted':>12}{'error':>8}{'held':>6}{'sheet':>8}")
    for p in points:
        held = "" if p.low_s is None or p.high_s is None else "yes" if p.low_s <= p.measured_s <= p.high_s else "no"
        error = "" if p.error is None else f"{p.error:+.0%}"
        sheet = "" if p.sheet_s is None else f"{p.sheet_s / p.measured_s - 1:+.0%}"
        print(
            f"{p.name:<28}{p.precision:>6}{p.batch:>6}{_ms(p.measured_s):>12}{_ms(p.graph_s):>12}{_ms(p.calibrated_s):>12}"
            f"{error:>8}{held:>6}{sheet:>8}"
        )
    errors = [abs(p.error) for p in points if p.error is not None]
    sheets = [abs(p.sheet_s / p.measured_s - 1) for p in points if p.sheet_s is not None]
    if errors:
        print(f"median error {statistics.median(errors):.1%} from measured rates", end="")
        print(f", {statistics.median(sheets):.1%} from the data sheet" if sheets else "; it is not in the catalogue")


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3f} ms"


def _figures(point: Point) -> dict[str, Any]:
    return {name: getattr(point, name) for name in Point.__slots__}


if __name__ == "__main__":
    sys.exit(main())
