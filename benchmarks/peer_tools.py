"""Makes a peer's model as its documentation says, in a process of its own: ``python benchmarks/peer_tools.py TOOL TASK OUT``.

TASK is a JSON file (:class:`Task`). The model is written to the folder OUT beside ``built.json``, which names it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.constraint import DropKind, MaxDrop
from dovetail.core.protocols import Array, Feeds, Outputs, Session, TensorSpec
from dovetail.core.serial import decode
from dovetail.data.dataset import open_split
from dovetail.data.evaluator import Evaluator
from dovetail.data.metrics import get_metric
from dovetail.data.outputs import StoredOutputs
from dovetail.data.split import units_of

SAMPLES = 512
"""Most calibration samples; NNCF takes 300 of them by its own default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a tool is given: the same model and data as Dovetail.

    Attributes:
        kind: ``convolutional``, ``transformer``, ``dense`` or ``recurrent``.
        calibration: split for calibration.
        selection: split on which accuracy control may look at quality.
        reference: the original's outputs on ``selection``, where the metric compares with them.
    """

    model: str
    kind: str
    calibration: str
    selection: str
    metric: Any
    max_drop: MaxDrop
    state: Mapping[str, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reference: str | None = None

    def feeds(self) -> Iterator[dict[str, Array]]:
        """Calibration samples spread over their split; of a recurrent model the first ones in order, with the state it had."""
        data = open_split(Path(self.calibration))
        if self.state:
            yield from self._sequence([dict(data.sample(i).feeds) for i in range(min(SAMPLES, len(data)))])
            return
        count = min(SAMPLES, len(data))
        for number in range(count):
            yield dict(data.sample(number * len(data) // count).feeds)

    def _sequence(self, feeds: list[dict[str, Array]]) -> Iterator[dict[str, Array]]:
        import onnxruntime

        session = onnxruntime.InferenceSession(self.model, providers=["CPUExecutionProvider"])
        specs = {spec.name: spec for spec in self.inputs}
        state = {n: np.zeros([d if isinstance(d, int) else 1 for d in specs[n].shape], specs[n].dtype) for n in self.state}
        for sample in feeds:
            yield {**sample, **state}
            state = dict(zip(self.state, session.run(list(self.state.values()), {**sample, **state}), strict=True))


# -- ONNX Runtime: onnxruntime.ai/docs/performance/model-optimizations/quantization.html ----------------------------------


def onnxruntime_static(task: Task, out: Path, *, per_channel: bool = False) -> tuple[Path, str]:
    """``quantize_static`` with its defaults (QDQ, int8 weights and activations, MinMax)."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands out the samples one by one, then ``None``."""

        def __init__(self) -> None:
            self._feeds = task.feeds()

        def get_next(self) -> dict[str, Array] | None:
            return next(self._feeds, None)

    source, note = _preprocessed(task, out)
    quantize_static(str(source), str(out / "model.onnx"), Reader(), per_channel=per_channel)
    return out / "model.onnx", note


def onnxruntime_per_channel(task: Task, out: Path) -> tuple[Path, str]:
    """The same with weights quantised per channel, which its documentation advises where accuracy is lost."""
    return onnxruntime_static(task, out, per_channel=True)


def onnxruntime_dynamic(task: Task, out: Path) -> tuple[Path, str]:
    """``quantize_dynamic``, which its documentation recommends for transformers and recurrent networks."""
    from onnxruntime.quantization import quantize_dynamic

    source, note = _preprocessed(task, out)
    quantize_dynamic(str(source), str(out / "model.onnx"))
    return out / "model.onnx", note


def _preprocessed(task: Task, out: Path) -> tuple[Path, str]:
    """The recommended, optional step before quantisation; the original where it fails."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = out / "prepared.onnx"
    try:
        quant_pre_process(task.model, str(prepared))
    except Exception as error:
        return Path(task.model), f"without quant_pre_process, which fails: {_told(error)}"
    return prepared, ""


# -- NNCF on OpenVINO: docs.openvino.ai, "Quantizing models post-training" ---------------------------------------------


def nncf_quantize(task: Task, out: Path) -> tuple[Path, str]:
    """``nncf.quantize`` with its defaults."""
    nncf, model, data, options = _nncf(task)
    return _saved(nncf.quantize(model, data, **options), out), ""


def nncf_accuracy_control(task: Task, out: Path) -> tuple[Path, str]:
    """``nncf.quantize_with_accuracy_control`` with the user's limit, validated on the selection split."""
    nncf, model, data, options = _nncf(task)
    selection, metric = open_split(Path(task.selection)), get_metric(task.metric)
    units = list(range(len(units_of(np.asarray(selection.groups)))))
    stored = None if task.reference is None else StoredOutputs(Path(task.reference))
    evaluator = Evaluator(metric, state=task.state)
    sign = 1.0 if metric.higher_is_better else -1.0

    def validate(compiled: Any, items: Any) -> tuple[float, None]:
        rows = evaluator.rows(_Compiled(compiled, task), selection, units=list(items), reference=stored)
        value = metric.value(rows)
        # A rank correlation has no value on the single pairs by which NNCF ranks layers: the pair's cosine stands in.
        return (float(rows[0, 0]) if np.isnan(value) else sign * value), None

    relative = task.max_drop.kind is DropKind.RELATIVE
    quantised = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=data,
        validation_dataset=nncf.Dataset(units),
        validation_fn=validate,
        max_drop=task.max_drop.value,
        drop_type=nncf.DropType.RELATIVE if relative else nncf.DropType.ABSOLUTE,
        **options,
    )
    return _saved(quantised, out), ""


class _Compiled(Session):
    """OpenVINO's compiled model as a session, for the metric."""

    def __init__(self, compiled: Any, task: Task) -> None:
        self._compiled = compiled
        self.inputs, self.outputs = task.inputs, task.outputs

    def run(self, feeds: Feeds) -> Outputs:
        """The documented call."""
        results = self._compiled(dict(feeds))
        return [results[port] for port in self._compiled.outputs]


def _nncf(task: Task) -> tuple[Any, Any, Any, dict[str, Any]]:
    from dovetail.compress.quiet import import_nncf

    nncf = import_nncf()
    import openvino

    model = openvino.Core().read_model(task.model)
    options = {"model_type": nncf.ModelType.TRANSFORMER} if task.kind == "transformer" else {}
    return nncf, model, nncf.Dataset(list(task.feeds())), options


def _saved(model: Any, out: Path) -> Path:
    import openvino

    openvino.save_model(model, str(out / "model.xml"))
    return out / "model.xml"


# -- Olive: microsoft.github.io/Olive ----------------------------------------------------------------------------------


def olive_static(task: Task, out: Path) -> tuple[Path, str]:
    """Olive's ``OnnxStaticQuantization`` with its defaults, in the environment whose Python ``$OLIVE_PYTHON`` names."""
    python = os.environ.get("OLIVE_PYTHON", "")
    if not python:
        raise FileNotFoundError("Olive is not installed; OLIVE_PYTHON names no interpreter")
    folder = out / "calibration"
    folder.mkdir()
    for number, feeds in enumerate(task.feeds()):
        np.savez(folder / f"{number:04d}.npz", **feeds)  # type: ignore[arg-type]
    script = Path(__file__).with_name("olive_peer.py")
    command = [python, str(script), task.model, str(folder), str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode or not (out / "model.onnx").exists():
        raise RuntimeError((done.stdout.strip().splitlines() or ["no message"])[-1])
    return out / "model.onnx", ""


TOOLS: dict[str, Callable[[Task, Path], tuple[Path, str]]] = {
    tool.__name__: tool
    for tool in (
        onnxruntime_static, onnxruntime_per_channel, onnxruntime_dynamic, nncf_quantize, nncf_accuracy_control, olive_static,
    )
}  # fmt: skip


def _told(error: BaseException) -> str:
    """An error in one line; vendors put what matters at its end."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: …{text[-300:]}" if len(text) > 300 else f"{type(error).__name__}: {text}"


def main() -> int:
    tool, task, folder = sys.argv[1:]
    out = Path(folder)
    started = time.monotonic()
    try:
        path, note = TOOLS[tool](decode(Task, json.loads(Path(task).read_text())), out)
        row = {"path": str(path), "format": "openvino" if path.suffix == ".xml" else "onnx", "note": note}
    except Exception as error:
        row = {"error": _told(error)}
    (out / "built.json").write_text(json.dumps({**row, "seconds": time.monotonic() - started}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
