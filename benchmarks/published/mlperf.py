"""MLPerf Inference v4.1, data-centre systems: rate of one accelerator. What is derived here is not verified by MLCommons.

Kept: the closed division, valid results, the scenarios Offline and Server, per accelerator (rate over accelerators of all
nodes). Left
out: the open division, which changes the models; single and multiple streams, of which there are few; systems whose power was
limited (``MaxQ``), because the limit is not stated; accelerators that the catalogue does not know.

The FLOP of a sample only matter for a benchmark that was never fitted: a fitted one has an offset of its own. They are known
for ResNet-50 and BERT and rough for the others.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from dovetail.core.device import Device
from dovetail.core.errors import InputError
from dovetail.devices.catalogue import device as catalogued
from dovetail.predict.effects import find_effects, shift
from dovetail.predict.fitted_file import parameters as fitted_parameters
from dovetail.predict.mlperf import Benchmark, Submitted, per_accelerator, roof
from dovetail.workloads.architectures import architecture
from published import trtllm
from published.llm_rows import envelope, spread_of
from published.table import Floats, Gate, Predicted, Row, folds, read_csv

FILE = "infer_mlperf_v4_1.csv"
BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        # 4.1 G multiply-adds at 224x224; 335 M weights at 384 tokens (MLPerf Inference, arXiv:1911.02549, table 1).
        Benchmark(name="resnet50", flop=8.2e9),
        Benchmark(name="bert", flop=2.6e11),
        # Assumed, from memory: 800x800 inputs; sliding windows of 128^3; 20 steps of two passes through the U-Net;
        # three-layer MLPs.
        Benchmark(name="retinanet", flop=3e11),
        Benchmark(name="3d-unet", flop=6e13),
        Benchmark(name="stable-diffusion-xl", flop=2.5e14),
        Benchmark(name="dlrm-v2", flop=5e9),
        # Mean lengths of the data sets, assumed, from memory; GPT-J searches with four beams.
        Benchmark(name="gptj", model=architecture("GPT-J-6B"), prompt=778, output=69, beams=4),
        Benchmark(name="llama2-70b", model=architecture("Llama-2-70B"), prompt=294, output=294, per_sample=False),
        Benchmark(name="mixtral-8x7b", model=architecture("Mixtral-8x7B"), prompt=240, output=145, per_sample=False),
    )
}

SPREAD = {
    "benchmark": 1.5,
    "target": 0.2,
    "scenario": 0.2,
    "benchmark in scenario": 0.1,
    "framework": 0.3,
    "device": 0.15,
    "cell": 0.2,
}
NOISE = 0.05
EXPONENT = (0.85, 0.1)
"""Exponent of the peak before any row is seen, and its standard deviation."""

_NAMES = (
    (r"Grace Hopper Superchip (96|144)GB", r"GH200 \1GB"),
    (r"(MI3\d\dX)", r"Instinct \1"),
    (r"(H100|H200|B200|A100)-(SXM|PCIe|NVL)-?(\d+GB)?", r"\1 \2"),
    (r"RTX (4090|A5000)", r"RTX \1"),
    (r"\b(L4|L40|L40S|A10|A30|T4)\b", r"\1"),
    (r"(speedAI240 Slim)", r"\1"),
    (r"TPU[- ]?(v5e|v5p|v6e|v6)", r"TPU \1"),
    (r"(AGX Orin|Orin NX)", r"Jetson \1"),
)


class MlPerf:
    """The set."""

    name = "mlperf"
    source = "mlcommons/inference_results_v4.1, closed division; derived figures are not verified by MLCommons"
    gates: Sequence[Gate] = ()

    def read(self, folder: Path) -> Sequence[Row]:
        """Rows of known accelerators."""
        found = [row for index, line in enumerate(read_csv(folder / FILE)) if (row := _row(line, index)) is not None]
        engine = _EngineRows(rows=tuple(trtllm.TABLE.read(folder)), devices=frozenset(row["device"].name for row in found))
        return [{**row, "engine": engine} for row in found]

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Samples or tokens per second and accelerator."""
        return np.array([row["rate"] for row in rows])

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By accelerator, and by submitted system."""
        return {
            "unseen devices": [row["device"].name for row in rows],
            "unseen systems": [(row["submitter"], row["system"]) for row in rows],
        }

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """Language models, other networks."""
        text = np.array([BENCHMARKS[row["benchmark"]].model is not None for row in rows])
        return {"language models": text, "other networks": ~text}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """Accelerators, ranked on equal benchmark, target and scenario."""
        return [row["device"].name for row in rows], [(row["benchmark"], row["target"], row["scenario"]) for row in rows]

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Exponent, corrections and spreads.

        Language models take the engine of the set ``trtllm``, fitted without the devices that are left out here. With none left
        out it is the one that the product ships, which must be fitted first.
        """
        errors: dict[str, list[tuple[str, float]]] = {"device": [], "run": [], "model": []}
        groups = {"device": [row["device"].name for row in rows], "run": [row["system"] for row in rows]}
        groups["model"] = [row["benchmark"] for row in rows]
        for kind, names in groups.items():
            fold = folds(names, len(set(names)) if kind == "device" else 5)
            for number in np.unique(fold):
                rest = [row for row, mine in zip(rows, fold, strict=True) if mine != number]
                test = [row for row, mine in zip(rows, fold, strict=True) if mine == number]
                if rest:
                    point, question = _point(rest), asked(test)
                    value = roof(point, question) * np.exp(shift(point["effects"], question.keys()))
                    error = np.log(self.measured(test) / value)
                    errors[kind] += zip(
                        [str(name) for name, mine in zip(names, fold, strict=True) if mine == number], error, strict=True
                    )
        every = [error for some in errors.values() for error in some]
        spreads = {kind: spread_of(some or every) for kind, some in errors.items()}
        spreads |= {kind: envelope(spreads["run"], spreads[kind]) for kind in ("device", "model")}
        return {**_point(rows), "spreads": spreads | {"both": envelope(spreads["device"], spreads["model"])}}

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """Through :func:`dovetail.predict.mlperf.per_accelerator`."""
        found = per_accelerator(parameters, asked(rows))
        return Predicted(value=found.value, low=found.low, high=found.high)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """A constant share of the 8-bit peak for each benchmark and scenario."""
        flat = {"exponent": 1.0, "engine": None}
        shares: dict[Hashable, list[float]] = {}
        for row, peak in zip(fitted, _peaks(fitted, flat), strict=True):
            shares.setdefault((row["benchmark"], row["scenario"]), []).append(row["rate"] / peak)
        every = [share for some in shares.values() for share in some]
        found = [np.median(shares.get((row["benchmark"], row["scenario"]), every)) for row in rows]
        return {"share of peak": _peaks(rows, flat) * np.array(found)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _EngineRows:
    """What TensorRT-LLM's engine is fitted to, and the devices of this set."""

    rows: tuple[Row, ...]
    devices: frozenset[str]


@cache
def _engine(held: _EngineRows, hidden: frozenset[str]) -> Mapping[str, float]:
    """Shares and overheads that runs on all devices but the hidden ones have in common."""
    rows = [row for row in held.rows if row["device"] not in hidden]
    if len(rows) == len(held.rows):
        found: Mapping[str, float] = fitted_parameters("trtllm")["common"]
        return found
    known = frozenset(row["device"] for row in held.rows)
    return _engine(held, hidden & known) if hidden - known else trtllm.point(rows)["common"]


def _row(line: Mapping[str, str], index: int) -> Row | None:
    scenario, (name, _, target) = line["scenario"].lower(), line["benchmark"].rpartition("-")
    if not re.fullmatch(r"99(\.9)?", target):
        name, target = line["benchmark"], ""
    found = _device(line["accelerator"])
    stated = line["value"] and line["accelerators_per_node"] and line["nodes"]
    kept = stated and line["division"] == "closed" and line["validity"] == "VALID" and scenario in ("offline", "server")
    if not kept or name not in BENCHMARKS or found is None or "MaxQ" in line["system"]:
        return None
    return {
        "id": index,
        "submitter": line["submitter"],
        "system": line["system"],
        "device": found,
        "benchmark": name,
        "target": target,
        "scenario": scenario,
        "framework": "TensorRT" if line["framework"].startswith("TensorRT") else line["framework"].partition(" ")[0],
        "rate": float(line["value"]) / (float(line["accelerators_per_node"]) * float(line["nodes"])),
    }


def _device(called: str) -> Device | None:
    for pattern, name in _NAMES:
        match = re.search(pattern, called)
        if match:
            try:
                return catalogued(match.expand(name))
            except InputError:
                return None
    return None


def asked(rows: Sequence[Row]) -> Submitted:
    """The rows as questions to the product."""
    return Submitted(
        benchmarks=[BENCHMARKS[row["benchmark"]] for row in rows],
        targets=[row["target"] for row in rows],
        scenarios=[row["scenario"] for row in rows],
        devices=[row["device"] for row in rows],
        frameworks=[row["framework"] for row in rows],
    )


def _point(rows: Sequence[Row]) -> dict[str, Any]:
    """Exponent and corrections, without spreads."""
    held: _EngineRows = rows[0]["engine"]
    engine = {"common": dict(_engine(held, held.devices - {row["device"].name for row in rows})), "backends": {}}
    question, answer = asked(rows), TABLE.measured(rows)
    keys = question.keys()

    def corrected(exponent: float) -> tuple[dict[str, dict[str, float]], Floats]:
        residuals = np.log(answer / roof({**engine, "exponent": exponent}, question))
        effects = find_effects(residuals, keys, SPREAD, NOISE, most=np.inf)
        return effects, residuals - shift(effects, keys)

    def cost(exponent: float) -> float:
        effects, left = corrected(exponent)
        offsets = sum((value / SPREAD[level]) ** 2 for level, some in effects.items() for value in some.values())
        return float(np.sum((left / NOISE) ** 2) + offsets + ((exponent - EXPONENT[0]) / EXPONENT[1]) ** 2)

    exponent = float(minimize_scalar(cost, bounds=(0.5, 1.1), method="bounded", options={"xatol": 0.005}).x)
    return {**engine, "exponent": exponent, "effects": corrected(exponent)[0]}


def _peaks(rows: Sequence[Row], flat: Mapping[str, Any]) -> Floats:
    """8-bit peaks; FLOP drop out of a share that each benchmark has for itself."""
    question = asked(rows)
    networks = Submitted(
        benchmarks=[Benchmark(name=some.name, flop=1.0) for some in question.benchmarks],
        targets=question.targets,
        scenarios=question.scenarios,
        devices=question.devices,
        frameworks=question.frameworks,
    )
    return roof(flat, networks)


TABLE = MlPerf()
