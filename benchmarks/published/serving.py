"""Measured serving runs collected by aiconfigurator: time between tokens (TPOT), to the first token (TTFT), of a request.

Left out: disaggregated runs, whose prompts are read by devices whose number is mostly not stated, and runs over more than eight
devices, which cross nodes. Runs that the collection lists several times (same figures under another file or model name) count
once. Three conventions are mixed in the source and told apart here: where a run is listed with experts cut both ways
(``moe_tp_size = moe_ep_size > 1``), ``tp_size`` is their product and the number of devices its root; where attention is data
parallel beside ``tp_size > 1``, it runs on ``tp_size`` devices; and the concurrency is that of the whole run where it is
stated, else ``batch_size``. Speculative decoding is not stated; runs that used it look faster than predicted.

Each run gives three rows: ``tpot``, ``ttft`` and ``request`` (``ttft + (output − 1) · tpot``, from which throughput follows:
concurrency over it).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.devices.catalogue import catalogue
from dovetail.predict.effects import find_effects
from dovetail.predict.llm import Served, serve
from dovetail.predict.llm_asked import Asked
from dovetail.predict.llm_engine import Engine
from dovetail.predict.llm_serving import QUANTITIES, serving, uncorrected, values
from dovetail.predict.llm_setting import Setting, machine
from dovetail.predict.llm_shapes import shapes
from dovetail.predict.llm_storage import WEIGHT_BYTES, label, multiplied_in, outside_experts, stored
from dovetail.workloads.architectures import architecture
from published import llm_fit
from published.llm_rows import Errors
from published.table import Floats, Gate, Predicted, Row, folds, read_csv

FILE = "infer_serving_silicon_aiconfigurator.csv"
MODELS = {
    "DeepSeek-R1": "DeepSeek-V3",
    "DeepSeek-V3": "DeepSeek-V3",
    "GLM-5": "GLM-5",
    "Kimi-K2.5": "Kimi-K2.5",
    "Llama-3.1-70B": "Llama-3-70B",
    "Llama-3.1-8B-Instruct": "Llama-3-8B",
    "Llama-3.1-8B-Instruct-FP8": "Llama-3-8B",
    "Llama-3.1-405B": "Llama-3.1-405B",
    "Llama-3.3-70B-Instruct": "Llama-3-70B",
    "MiniMax-M2.5": "MiniMax-M2.5",
    "Qwen3-235B-A22B-FP8": "Qwen3-235B-A22B",
    "Qwen3-235B-A22B": "Qwen3-235B-A22B",
    "Qwen3-30B-A3B": "Qwen3-30B-A3B",
    "Qwen3-8B": "Qwen3-8B",
    "Qwen3-32B": "Qwen3-32B",
    "Qwen3-32B-FP8": "Qwen3-32B",
    "Qwen3-32B-NVFP4": "Qwen3-32B",
    "Qwen3.5-397B-A17B": "Qwen3.5-397B-A17B",
    "gpt-oss-120b": "gpt-oss-120b",
    "gpt-oss-20b": "gpt-oss-20b",
}
"""Model of the source → architecture; runs of another are left out."""

SYSTEMS = {
    "h100_sxm": "H100 SXM 80GB",
    "h200_sxm": "H200 SXM 141GB",
    "b200_sxm": "B200 SXM",
    "b300_sxm": "B300 SXM",
    "gb200": "GB200 (per GPU)",
    "gb300": "GB300 (per GPU)",
    "a100_sxm": "A100 SXM 80GB",
    "h100_pcie": "H100 PCIe 80GB",
    "l40s": "L40S",
    "rtx_pro_6000_server": "RTX PRO 6000 Blackwell Server",
}
"""System of the source → device of the catalogue; runs on another are left out."""

MOST_DEVICES = 8
TOKEN_STAGE = [name for name in llm_fit.PRIORS if name not in ("arrival_s", "own", "queue", "steps", "held")]
ARRIVAL_STAGE = ["arrival_s", "own", "queue", "steps", "held"]
SPREAD = {"device": 0.03, "backend on device": 0.03, "model": 0.05, "cell": 0.2, "cut": 0.15}
NOISE = 0.15


class Serving:
    """The set."""

    name = "serving"
    source = "ai-dynamo/aiconfigurator, silicon_sample.csv@095f58a"
    gates = (Gate(split="unseen models", statistic="median", limit=0.20, part="tpot"),
             Gate(split="unseen devices", statistic="median", limit=0.20, part="tpot"))  # fmt: skip

    def read(self, folder: Path) -> Sequence[Row]:
        """Three rows for each run."""
        runs: dict[tuple[Any, ...], Row] = {}
        for line in read_csv(folder / FILE):
            run = _run(line)
            if run is not None:
                key = (
                    run["backend"],
                    run["system"],
                    run["prompt"],
                    run["output"],
                    round(run["ttft"], 4),
                    round(run["tpot"], 5),
                )
                runs.setdefault(key, run)
        return [{**run, "quantity": quantity} for run in runs.values() for quantity in QUANTITIES]

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Seconds."""
        return np.array([_seconds(row) for row in rows])

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By model, by device, and by run; the rows of a run stay together."""
        return {
            "unseen models": [row["model"] for row in rows],
            "unseen devices": [row["system"] for row in rows],
            "unseen runs": [row["id"] for row in rows],
        }

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """Each quantity, and the TPOT of each backend."""
        quantity = np.array([row["quantity"].removesuffix("_s") for row in rows])
        backend = np.array([row["backend"] for row in rows])
        split = {f"tpot, {name}": (quantity == "tpot") & (backend == name) for name in sorted(set(backend))}
        return {name.removesuffix("_s"): quantity == name.removesuffix("_s") for name in QUANTITIES} | split

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """Systems, ranked within equal model, precision, backend, lengths, concurrency and number of devices.

        Times to the first token rank nothing: which request comes first decides them more than the device does.
        """
        facts = ("quantity", "backend", "model", "precision", "prompt", "output", "concurrency", "devices")
        works = [row["id"] if row["quantity"] == "ttft_s" else tuple(row[fact] for fact in facts) for row in rows]
        return [row["system"] for row in rows], works

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Engine, corrections and spreads. The errors that spreads rest on are of runs left out of an inner fit."""
        runs = _runs(rows)
        return {**_point(runs), "spreads": _spreads(runs)}

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """Through :func:`dovetail.predict.llm_serving.serving`."""
        found = serving(parameters, asked(rows))
        pick = np.array([QUANTITIES.index(row["quantity"]) for row in rows])
        every = np.arange(len(rows))
        ends = (np.stack([getattr(found[name], end) for name in QUANTITIES])[pick, every] for end in ("value", "low", "high"))
        value, low, high = ends
        return Predicted(value=value, low=low, high=high)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """A constant share of the memory roofline, and the geometric mean of each quantity."""
        roof, known = _roofline(rows), _roofline(fitted)
        answer, ratio = self.measured(fitted), np.zeros(len(rows))
        mean = np.zeros(len(rows))
        for name in QUANTITIES:
            mine, theirs = (np.array([row["quantity"] == name for row in some]) for some in (rows, fitted))
            ratio[mine] = np.median(answer[theirs] / known[theirs])
            mean[mine] = np.exp(np.mean(np.log(answer[theirs])))
        return {"share of bandwidth": roof * ratio, "mean": mean}


def _run(line: Mapping[str, str]) -> Row | None:
    """One run in our terms, or ``None`` where it is left out."""
    model = MODELS.get(line["model_path"].rpartition("/")[2])
    known = line["system"] in SYSTEMS and line["moe_quant_mode"] in WEIGHT_BYTES
    if line["mode"] != "agg" or model is None or not known:
        return None
    cut, stated = _cut(line), re.search(r"silicon_concurrency=(\d+)", line["silicon_data_source"])
    batch = float(line["batch_size"] or 0)
    # A run of several copies of the model states the requests of all of them, and one copy's as its batch.
    copies = "gtl_task_id" in line["silicon_data_source"]
    concurrency = batch if copies or stated is None else float(stated[1])
    if cut is None or not concurrency:
        return None
    return {
        **cut,
        "id": line["id"],
        "backend": line["backend"],
        "model": model,
        "system": line["system"],
        "precision": label(line["moe_quant_mode"]),
        "quantisation": line["moe_quant_mode"],
        "prompt": float(line["isl"]),
        "output": float(line["osl"]),
        "concurrency": concurrency,
        "tpot": float(line["silicon_tpot_ms"]) / 1e3,
        "ttft": float(line["silicon_ttft_ms"]) / 1e3,
    }


def _cut(line: Mapping[str, str]) -> dict[str, Any] | None:
    """Devices of one copy, whether each has all of the attention, whether experts lie apart."""
    tensor, data, inner, outer = (
        float(line[key] or 0) for key in ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    )
    squared = inner == outer > 1 and inner * outer in (tensor, data)
    devices = outer if squared else max(tensor, data) if data > 1 else tensor
    if not 1 <= devices <= MOST_DEVICES:
        return None
    return {"devices": devices, "replicated": data > 1, "apart": outer > 1}


def _seconds(row: Row) -> float:
    whole = row["ttft"] + (row["output"] - 1) * row["tpot"]
    return float({"tpot_s": row["tpot"], "ttft_s": row["ttft"], "request_s": whole}[row["quantity"]])


def _runs(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["quantity"] == "tpot_s"]


def _setting(rows: Sequence[Row]) -> Setting:
    """Of the runs."""

    def column(key: str) -> Floats:
        return np.array([row[key] for row in rows], dtype=np.float64)

    weights, cache = stored([row["quantisation"] for row in rows])
    return Setting(
        devices=column("devices"),
        stages=np.ones(len(rows)),
        replicated=column("replicated").astype(bool),
        concurrency=column("concurrency"),
        prompt=column("prompt"),
        output=column("output"),
        common_bytes=outside_experts([architecture(row["model"]) for row in rows], weights),
        expert_bytes=weights,
        cache_bytes=cache,
    )


def asked(rows: Sequence[Row]) -> Asked:
    """The runs as questions to the product."""
    found = catalogue()
    devices = [found[SYSTEMS[row["system"]]] for row in rows]
    return Asked(
        models=[architecture(row["model"]) for row in rows],
        devices=devices,
        dtypes=[multiplied_in(device, row["quantisation"]) for device, row in zip(devices, rows, strict=True)],
        backends=[row["backend"] for row in rows],
        precisions=[row["precision"] for row in rows],
        setting=_setting(rows),
    )


def _point(runs: Sequence[Row]) -> dict[str, Any]:
    """Engine and corrections, without spreads, from what is expected before any run is seen."""
    begin = llm_fit.start([run["backend"] for run in runs])
    question = asked(runs)
    sizes, facts, backends = shapes(question.models), machine(question.devices, question.dtypes), question.backends
    weights = llm_fit.even(question.keys()["cell"])
    tpot, ttft = (np.array([run[name] for run in runs]) for name in ("tpot", "ttft"))

    def served(efficiency: Engine) -> Served:
        return serve(sizes, facts, question.setting, efficiency)

    common = {"backends": backends, "weights": weights}
    found = llm_fit.fit(begin, TOKEN_STAGE, predicted=lambda some: served(some).tpot_s, measured=tpot, **common)
    found = llm_fit.fit(
        found, ARRIVAL_STAGE, predicted=lambda some: served(some).ttft_s, measured=ttft, noise=2 * llm_fit.NOISE, **common
    )
    plain, keys = uncorrected(found, question), question.keys()
    effects = {
        "tpot_s": find_effects(np.log(tpot / plain.tpot_s), keys, SPREAD, NOISE),
        "ttft_s": find_effects(np.log(ttft / plain.ttft_s), keys, SPREAD, 2 * NOISE, most=1.5),
    }
    return {"common": found["common"], "backends": found["backends"], "effects": effects}


def _spreads(runs: Sequence[Row]) -> dict[str, Any]:
    """Quantity → regime → spread, from runs whose group was left out."""
    errors = Errors(QUANTITIES)
    for group in ("model", "system", "id"):
        fold = folds([run[group] for run in runs])
        for number in np.unique(fold):
            rest = [run for run, mine in zip(runs, fold, strict=True) if mine != number]
            test = [run for run, mine in zip(runs, fold, strict=True) if mine == number]
            point, question = _point(rest), asked(test)
            for name, value in values(point, question).items():
                answer = np.array([_seconds({**run, "quantity": name}) for run in test])
                errors.add(name, point["effects"]["tpot_s"], question, np.log(answer / value))
    return errors.spreads()


def _roofline(rows: Sequence[Row]) -> Floats:
    """Bytes of all weights that a step touches over the bandwidth of all devices; for a prompt, FLOP over their peaks."""
    question = asked(rows)
    sizes, facts, how = shapes(question.models), machine(question.devices, question.dtypes), question.setting
    size = sizes.common * how.common_bytes + sizes.touched(how.concurrency) * how.expert_bytes
    step = size / (facts.bandwidth_bytes_per_s * how.devices)
    prompt = 2 * sizes.active * how.prompt / (facts.peak_flop_per_s * how.devices)
    quantity = np.array([QUANTITIES.index(row["quantity"]) for row in rows])
    return np.choose(quantity, [step, prompt, prompt + how.output * step])


TABLE = Serving()
