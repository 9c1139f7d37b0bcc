"""How far predictions of this machine lie from what it then measures: ``python benchmarks/predict_here.py``.

Calibrates the machine, then measures models that calibration has not seen, in every setting (runtime, precision, threads), and
compares with what was predicted: from the kernels that the runtime built, and from the model's operators alone. Promised: a
median error of at most 10 %, a 90th percentile of at most 25 %, intervals that hold 85 to 96 %, and on four of five models a
predicted best setting within 5 % of the measured best. Appends a row to ``benchmarks/results/predict_here.jsonl``. What is
measured is kept: an interrupted run goes on where it was stopped, and ``--again`` judges new predictions on old measurements.

The models: those of the other benchmarks, and the networks that the ``onnx`` package brings along without their weights, which
are drawn at random here. Speed does not depend on weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import rows
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference

from dovetail.core.estimate import Estimate
from dovetail.core.profile import Profile
from dovetail.core.serial import decode, encode
from dovetail.devices.probe import environment
from dovetail.measure.child import Child, ChildFailure
from dovetail.measure.lock import measuring
from dovetail.pipeline import calibrate, probe_traces
from dovetail.predict.machine_model import MachineModel, learn
from dovetail.predict.plan_model import plan
from dovetail.probe_files import forms
from dovetail.workloads.analyze import analyze
from dovetail.workloads.normalize import normalize

OWN = ("resnet8", "resnet20", "resnet56", "autoencoder", "superresolution", "mobilenetv2", "minilm")
LIGHT = ("squeezenet", "shufflenet", "inception_v1", "inception_v2", "densenet121", "resnet50", "bvlc_alexnet", "zfnet512")
TOKENS = 128
BLOCK_S = 0.25
LARGE_BYTES = 5e6
LOSS = 0.05
"""A predicted best setting may be slower than the measured best by this much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One point: measured, and predicted in two ways."""

    model: str
    setting: str
    measured_s: float
    built: Estimate
    planned: Estimate


def source(name: str) -> onnx.ModelProto:
    """A model with weights and fixed sizes."""
    if name in OWN:
        return _fixed(onnx.load(str(models.REFERENCES[name].model())))
    package = Path(onnx.__file__).parent
    return _fixed(_filled(onnx.load(str(package / f"backend/test/data/light/light_{name}.onnx"))))


def _filled(model: onnx.ModelProto) -> onnx.ModelProto:
    """Stores random weights in the place of the nodes that would fill them with a constant."""
    rng = np.random.default_rng(0)
    shapes = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "ConstantOfShape" and node.input[0] in shapes:
            shape = numpy_helper.to_array(shapes[node.input[0]]).astype(int)
            positive = np.abs(rng.standard_normal(shape)) * 0.05 + (0.5 if len(shape) == 1 else -0.04)
            model.graph.initializer.append(numpy_helper.from_array(positive.astype(np.float32), node.output[0]))
        else:
            model.graph.node.append(node)
    model.ir_version = 8
    return model


def _fixed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Batch 1, and as many tokens as :data:`TOKENS` where their number is open."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value in model.graph.input:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_value <= 0:
                size.dim_value = TOKENS if axis else 1
    for value in model.graph.output:
        for size in value.type.tensor_type.shape.dim:
            size.Clear()
    del model.graph.value_info[:]
    return model


def write_files(folder: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Name, form, format and file of every model in every form; what is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*OWN, *LIGHT):
        index = folder / f"{name}.json"
        if not index.exists():
            raw, clean = folder / "raw.onnx", folder / "clean.onnx"
            onnx.save(source(name), str(raw))
            normalize(raw, clean)
            proto = shape_inference.infer_shapes(_fixed(onnx.load(str(clean))))
            index.write_text(json.dumps([encode(found) for found in forms(name, "", proto, folder)]))
        for found in json.loads(index.read_text()):
            if found["failure"]:
                print(f"{name}, {found['form']}, {found['format']}: {found['failure']}", file=sys.stderr)
            else:
                yield name, found["form"], found["format"], Path(found["path"])


def measure(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Every model in every setting, all of them in each round; finished points are read again.

    Rounds lie minutes apart: what a point differs by between them no prediction could tell.
    """
    journal = folder / "measured.jsonl"
    found = {(row["model"], row["setting"], row["round"]): row for row in rows.read(journal)}
    files = list(write_files(folder / "models"))
    with measuring(lambda text: print(text, file=sys.stderr)):
        for number, setting in itertools.product(range(rounds), probe_traces.settings(environment())):
            fit = [f for f in files if (f[1], f[2]) == (setting.form, setting.format)]
            for name, _, form, path in fit:
                key = (name, str(setting), number)
                row = None if key in found else _measured(path, form, setting, folder)
                if row is not None:
                    found[key] = {"model": name, "setting": str(setting), "round": number, **row}
                    with journal.open("a") as file:
                        file.write(json.dumps(found[key]) + "\n")
            print(f"round {number + 1}: {setting}", flush=True)
    return list(found.values())


def points(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a point: the median of its rounds, and ``spread``, half of the range of its rounds relative to that."""
    by_point: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in measured:
        by_point.setdefault((row["model"], row["setting"]), []).append(row)
    found = []
    for taken in by_point.values():
        times = [row["call_s"] for row in taken]
        call_s = float(np.median(times))
        found.append({**taken[0], "call_s": call_s, "spread": (max(times) - min(times)) / 2 / call_s})
    return found


def _measured(path: Path, form: str, setting: probe_traces.Setting, folder: Path) -> dict[str, Any] | None:
    repeats = 5 if path.stat().st_size > LARGE_BYTES else 20
    with Child(folder / "logs" / f"{setting.runtime}.log") as child:
        try:
            answer = child.call(
                "trace", path=str(path), format=form, runtime=setting.runtime, options=dict(setting.options),
                repeats=repeats, seconds=BLOCK_S,
            )  # fmt: skip
        except ChildFailure as failure:
            print(f"{path.name}, {setting}: {failure}", file=sys.stderr)
            return None
    return {"runtime": setting.runtime, "form": setting.form, "options": dict(setting.options), **answer}


def judge(machine: MachineModel, measured: Sequence[Mapping[str, Any]], folder: Path) -> list[Judged]:
    """Predicts every measured point."""
    forms = {(row["model"], row["form"]) for row in measured}
    plans = {key: plan(analyze(folder / "models" / f"{'-'.join(key)}.onnx")) for key in forms}
    found = []
    for row in measured:
        profile = decode(Profile, row["profile"])
        kernels = [kernel for kernel in profile.kernels if kernel.time_s > 0]
        planned = machine.planned(row["runtime"], row["form"], row["options"], plans[row["model"], row["form"]])
        float_plan = plans[row["model"], "float"]
        found.append(
            Judged(
                model=row["model"],
                setting=row["setting"],
                measured_s=row["call_s"],
                built=machine.built(row["runtime"], profile.threads, kernels, planned=planned).latency_s,
                planned=machine.planned(row["runtime"], row["form"], row["options"], float_plan),
            )
        )
    return found


def errors(found: Sequence[Judged], way: str) -> dict[str, Any]:
    """Of one way to predict."""
    estimates = [getattr(item, way) for item in found]
    measured = np.array([item.measured_s for item in found])
    relative: NDArray[np.float64] = np.abs(np.array([e.value for e in estimates]) / measured - 1)
    inside = [e.low <= item.measured_s <= e.high for e, item in zip(estimates, found, strict=True)]
    return {
        "n": len(found),
        "median": float(np.median(relative)),
        "p90": float(np.quantile(relative, 0.9)),
        "coverage": float(np.mean(inside)),
        "losses": _losses(found, way),
    }


def _losses(found: Sequence[Judged], way: str) -> dict[str, float]:
    """Model → how much slower the predicted best setting is than the measured best."""
    losses = {}
    for name in dict.fromkeys(item.model for item in found):
        own = [item for item in found if item.model == name]
        chosen = min(own, key=lambda item: getattr(item, way).value)
        losses[name] = chosen.measured_s / min(item.measured_s for item in own) - 1
    return losses


def show(label: str, figures: Mapping[str, Any]) -> None:
    """One line, and the models whose predicted best is off."""
    near = [loss <= LOSS for loss in figures["losses"].values()]
    print(
        f"{label:<9} n = {figures['n']}  median {figures['median']:.1%}  90 % {figures['p90']:.1%}"
        f"  coverage {figures['coverage']:.1%}  best within {LOSS:.0%}: {sum(near)} of {len(near)}"
    )
    print("   ", ", ".join(f"{name} +{loss:.1%}" for name, loss in figures["losses"].items() if loss > LOSS) or "none is off")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=models.WORK / "predict", help="folder for everything that is made")
    parser.add_argument("--again", action="store_true", help="measure nothing: judge what is in the folder")
    parser.add_argument("--rounds", type=int, default=3, help="times that every point is measured (default: 3)")
    options = parser.parse_args()
    file = options.work / "calibration" / calibrate.FILE
    if not options.again:
        calibrate.calibrate(file.parent, lambda share, text: None)
    calibration = calibrate.load(file)
    print(f"calibrated in {calibration.seconds:.0f} s: {len(calibration.traces)} traces")
    taken = list(rows.read(options.work / "measured.jsonl")) if options.again else measure(options.work, options.rounds)
    measured = points(taken)
    spread = float(np.median([row["spread"] for row in measured]))
    print(f"the same point in {len({row['round'] for row in taken})} rounds: {spread:.1%} either side, median")
    started = time.perf_counter()
    learned = learn(calibration)
    fit_s = time.perf_counter() - started
    found = judge(MachineModel(learned), measured, options.work)
    figures = {way: errors(found, way) for way in ("built", "planned")}
    for way, shown in figures.items():
        show(way, shown)
    config = {"models": len({item.model for item in found}), "settings": len({item.setting for item in found})}
    extra = {"spread": spread, "calibration_s": calibration.seconds, "fit_s": fit_s, "runtimes": len(learned.calls)}
    rows.append("predict_here", config, {**figures, **extra, "points": [encode(item) for item in found]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
