"""Throughput and first-token latency that TensorRT-LLM publishes, in tokens per second over all devices.

Two generations: static batches of version 0.6.1 (2023), whose batch is stated, and batching in flight at its highest
throughput, where the engine takes as many sequences as the memory holds, at most :data:`MOST` on each device that has all of
the attention. Mixtures of experts on several devices are taken to run so. A first-token latency enters as its inverse.
Figures that are stated "per GPU", or under such a heading, are multiplied by the number of devices.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.devices.catalogue import device
from dovetail.predict.effects import find_effects
from dovetail.predict.llm_asked import Asked
from dovetail.predict.llm_engine import Engine, engine
from dovetail.predict.llm_offline import QUANTITIES, offline, uncorrected, values
from dovetail.predict.llm_setting import Setting, machine, peak
from dovetail.predict.llm_shapes import shapes
from dovetail.predict.llm_storage import multiplied_in, stored
from dovetail.workloads.architectures import architecture
from published import llm_fit
from published.llm_rows import Errors
from published.table import Floats, Gate, Predicted, Row, folds, read_csv

FILE = "infer_trtllm.csv"
MODELS = {
    "GPT-J 6B": "GPT-J-6B",
    "LLaMA 7B": "LLaMA-7B",
    "Llama 2 7B": "Llama-2-7B",
    "Llama 2 13B": "Llama-2-13B",
    "Llama 2 70B": "Llama-2-70B",
    "LLaMA 70B": "Llama-2-70B",
    "Llama 3.1 8B": "Llama-3-8B",
    "Llama 3.1 70B": "Llama-3-70B",
    "Llama 3.3 70B": "Llama-3-70B",
    "Llama 3.1 405B": "Llama-3.1-405B",
    "Mixtral 8x7B": "Mixtral-8x7B",
    "Mixtral 8x22B": "Mixtral-8x22B",
    "Qwen3-235B-A22B": "Qwen3-235B-A22B",
    "Qwen3-30B-A3B": "Qwen3-30B-A3B",
    "DeepSeek R1": "DeepSeek-V3",
    "GPT-OSS 120B": "gpt-oss-120b",
    "GPT-OSS 20B": "gpt-oss-20b",
}
"""Model of the source → architecture; a row of another model is left out."""

DEVICES = {
    "H100 SXM 80GB": "H100 SXM 80GB",
    "H100 SXM": "H100 SXM 80GB",
    "H200": "H200 SXM 141GB",
    "B200": "B200 SXM",
    "GB200": "GB200 (per GPU)",
    "L40S": "L40S",
    "L40": "L40",
    "L4": "L4",
    "A100 80GB": "A100 SXM 80GB",
    "A100": "A100 SXM 80GB",
    "GH200": "GH200 96GB",
    "RTX PRO 6000 Server": "RTX PRO 6000 Blackwell Server",
}
"""GPU of the source → device of the catalogue; a row of another is left out."""

QUANTISATIONS = {"fp16": "", "bf16": "", "fp8": "fp8", "fp4": "nvfp4"}
MOST = 2048.0
"""``max_batch_size`` of an engine where none is stated, the default of TensorRT-LLM."""

SPREAD = {"device": 0.05, "backend on device": 0.05, "model": 0.05, "cell": 0.15, "cut": 0.1}
NOISE = 0.15
FITTED = [name for name in llm_fit.PRIORS if name not in ("arrival_s", "own", "queue", "steps", "held")]


class TrtLlm:
    """The set."""

    name = "trtllm"
    source = "NVIDIA/TensorRT-LLM, docs/source/performance.md@138f96d and performance overview"
    gates: Sequence[Gate] = ()

    def read(self, folder: Path) -> Sequence[Row]:
        """Rows of known models on known devices."""
        return [row for index, line in enumerate(read_csv(folder / FILE)) if (row := _row(line, index)) is not None]

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Tokens per second, over all devices."""
        return np.array([row["tokens_per_s"] for row in rows])

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By model, by device, by row."""
        return {
            "unseen models": [row["model"] for row in rows],
            "unseen devices": [row["device"] for row in rows],
            "unseen runs": [row["id"] for row in rows],
        }

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """Throughput of each generation; first tokens."""
        first = np.array([row["quantity"] == "prompts_per_s" for row in rows])
        static = np.array([row["backend"] == "static" for row in rows])
        return {"in flight": ~static, "static": static & ~first, "first token": first}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """Devices, ranked by throughput on equal models and lengths, whatever their number and precision, as published."""
        works = [(row["quantity"], row["backend"], row["model"], row["prompt"], row["output"]) for row in rows]
        return [(row["device"], row["devices"], row["stages"]) for row in rows], works

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Engine, corrections and spreads, as for the set ``serving``."""
        parameters = point(rows)
        errors = Errors(["both"])
        for group in ("model", "device", "id"):
            fold = folds([row[group] for row in rows])
            for number in np.unique(fold):
                rest = [row for row, mine in zip(rows, fold, strict=True) if mine != number]
                test = [row for row, mine in zip(rows, fold, strict=True) if mine == number]
                inner, question = point(rest), asked(test)
                error = np.log(self.measured(test) / _pick(test, values(inner, question)))
                errors.add("both", inner["effects"]["tokens_per_s"], question, error)
        # A few first tokens alone make no interval.
        spreads = errors.spreads()["both"]
        return {**parameters, "spreads": {name: spreads for name in QUANTITIES}}

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """Through :func:`dovetail.predict.llm_offline.offline`."""
        found = offline(parameters, asked(rows))
        value, low, high = (
            _pick(rows, {name: getattr(some, end) for name, some in found.items()}) for end in ("value", "low", "high")
        )
        return Predicted(value=value, low=low, high=high)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """A constant share of the peak, and the geometric mean."""
        share = np.median(self.measured(fitted) / _roofline(fitted))
        return {
            "share of peak": _roofline(rows) * share,
            "mean": np.full(len(rows), np.exp(np.mean(np.log(self.measured(fitted))))),
        }


def _row(line: Mapping[str, str], index: int) -> Row | None:
    model, name, quantisation = MODELS.get(line["model"]), DEVICES.get(line["gpu"]), QUANTISATIONS.get(line["dtype"])
    if model is None or name is None or quantisation is None:
        return None
    devices, stages, value, metric = float(line["tp"]), float(line["pp"]), float(line["value"]), line["metric"]
    first, static = metric.startswith("first_token"), line["batch"].isdecimal()
    if not first and not metric.startswith("total"):
        # "per GPU", or ambiguous under a heading that says so; the tables of one device do not tell the difference.
        value *= devices * stages
    replicated = architecture(model).experts > 0 and devices > 1
    return {
        "id": index,
        "quantity": "prompts_per_s" if first else "tokens_per_s",
        "backend": "static" if static else "in flight",
        "model": model,
        "device": name,
        "quantisation": quantisation,
        "devices": devices,
        "stages": stages,
        "replicated": replicated,
        "concurrency": float(line["batch"]) if static else MOST * (devices if replicated else 1.0),
        "prompt": float(line["input_len"]),
        "output": float(line["output_len"]),
        "tokens_per_s": 1e3 / value if first else value,
    }


def asked(rows: Sequence[Row]) -> Asked:
    """The rows as questions to the product."""
    models, devices = [architecture(row["model"]) for row in rows], [device(row["device"]) for row in rows]
    weights, cache = stored([row["quantisation"] for row in rows])
    number = {key: np.array([row[key] for row in rows], dtype=np.float64) for key in _NUMBERS}
    return Asked(
        models=models,
        devices=devices,
        dtypes=[multiplied_in(some, row["quantisation"]) for some, row in zip(devices, rows, strict=True)],
        backends=[row["backend"] for row in rows],
        precisions=[row["quantisation"] for row in rows],
        setting=Setting(
            **number,
            replicated=np.array([row["replicated"] for row in rows], dtype=bool),
            common_bytes=weights,
            expert_bytes=weights,
            cache_bytes=cache,
        ),
    )


_NUMBERS = ("devices", "stages", "concurrency", "prompt", "output")


def _pick(rows: Sequence[Row], columns: Mapping[str, Floats]) -> Floats:
    """Of each row its own quantity."""
    return np.where([row["quantity"] == "prompts_per_s" for row in rows], columns["prompts_per_s"], columns["tokens_per_s"])


def point(rows: Sequence[Row]) -> dict[str, Any]:
    """Engine and corrections, without spreads, from what is expected before any row is seen."""
    begin = llm_fit.start([row["backend"] for row in rows])
    question, answer = asked(rows), TABLE.measured(rows)
    sizes, facts = shapes(question.models), machine(question.devices, question.dtypes)
    first = np.array([row["quantity"] == "prompts_per_s" for row in rows])

    def predicted(efficiency: Engine) -> Floats:
        found = uncorrected(sizes, facts, question.setting, efficiency)
        return np.where(first, found["prompts_per_s"], found["tokens_per_s"])

    weights = llm_fit.even(question.keys()["cell"])
    found = llm_fit.fit(begin, FITTED, question.backends, predicted, answer, weights)
    residuals = np.log(answer / predicted(engine(found, question.backends)))
    keys = question.keys()
    effects = {}
    for name in QUANTITIES:
        mine = np.flatnonzero(first == (name == "prompts_per_s"))
        own = {level: [column[i] for i in mine] for level, column in keys.items()}
        effects[name] = find_effects(residuals[mine], own, SPREAD, NOISE)
    return {"common": found["common"], "backends": found["backends"], "effects": effects}


def _roofline(rows: Sequence[Row]) -> Floats:
    """Tokens per second if every token, read or written, took its FLOP at the peak."""
    question = asked(rows)
    active = np.array([model.active_parameters for model in question.models], dtype=np.float64)
    peaks = np.array([peak(some, dtype) for some, dtype in zip(question.devices, question.dtypes, strict=True)])
    how = question.setting
    tokens = np.array(
        [row["prompt"] if row["quantity"] == "prompts_per_s" else 1 + row["prompt"] / row["output"] for row in rows]
    )
    return peaks * how.devices * how.stages / (2 * active * tokens)


TABLE = TrtLlm()
