"""Tokens per second of LLaMA-3 with llama.cpp on one or several GPUs: written (decode) and read (prefill), one sequence.

Left out: runs that ended out of memory (their cells hold no number) and GPUs that neither the catalogue nor :data:`BESIDE`
knows. GPUs of one kind are one group, however many of them ran.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from dovetail.core.device import Device, Fact, Kind, Memory
from dovetail.core.errors import InputError
from dovetail.core.source import Source, SourceKind
from dovetail.devices.catalogue import device as catalogued
from dovetail.predict.effects import find_effects
from dovetail.predict.llm_shapes import shapes
from dovetail.predict.llm_stream import QUANTITIES, Streamed, read_s, stream, stream_machine, stream_values, write_s
from dovetail.workloads.architectures import architecture
from published.llm_fit import even
from published.llm_rows import Errors
from published.table import Floats, Gate, Predicted, Row, folds, read_csv

FILE = "infer_llamacpp_gpus.csv"
WEIGHT_BYTES = {"Q4_K_M": 4.85 / 8, "F16": 2.0}
"""Format → bytes of one weight. Q4_K_M mixes 4- and 6-bit blocks: 4.8 to 4.9 bits a weight in LLaMA-3 files (assumed: from
memory)."""

PRIORS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "written_per_s": {
        "plain_share": (0.9, 0.2),
        "packed_share": (0.9, 0.2),
        "unpack_flop": (4.0, 1.0),
        "cache_share": (0.4, 0.7),
        "layer_s": (60e-6, 0.7),
        "stacked_factor": (2.0, 0.5),
        "hop_s": (1e-4, 1.0),
    },
    "read_per_s": {
        "plain_share": (0.5, 0.5),
        "packed_share": (0.4, 0.5),
        "stacked_share": (0.7, 0.5),
        "attention_share": (0.3, 0.5),
        "score_passes": (6.0, 0.5),
        "layer_s": (60e-6, 0.7),
        "hop_s": (1e-3, 1.0),
        "pipeline_share": (0.7, 0.3),
    },
}
"""Quantity → parameter → what is expected before any row is seen, and the standard deviation of its logarithm.
``stacked_factor`` is from the data's description: decoding reaches 0.42–0.55 of bytes over bandwidth on A100 and H100,
0.74–0.91 on GDDR parts."""

NOISE = {"written_per_s": 0.1, "read_per_s": 0.3}
SPREAD = {"device": 0.1, "model": 0.03, "cell": 0.1}


def _beside(name: str, bandwidth: float, plain: float, eight: float) -> Device:
    source = Source(kind=SourceKind.ASSUMED, ref="NVIDIA's product page, from memory")
    return Device(
        name=name,
        vendor="NVIDIA",
        kind=Kind.GPU,
        peak_flop_per_s={
            "fp32": Fact(value=plain, source=source),
            "fp16": Fact(value=eight / 4, source=source),
            "int8": Fact(value=eight, source=source),
        },
        memory=(Memory(name="GDDR", bandwidth_bytes_per_s=Fact(value=bandwidth, source=source)),),
    )


BESIDE = {
    "3070 8GB": _beside("GeForce RTX 3070", 448e9, 20.3e12, 162.6e12),
    "3080 Ti 12GB": _beside("GeForce RTX 3080 Ti", 912e9, 34.1e12, 272.8e12),
}
"""GPUs of the source that the catalogue lacks."""


class LlamaCpp:
    """The set."""

    name = "llamacpp"
    source = "XiongjieDai/GPU-Benchmarks-on-LLM-Inference, README.md"
    gates = (Gate(split="unseen devices", statistic="median", limit=0.15, part="decode"),)

    def read(self, folder: Path) -> Sequence[Row]:
        """Rows with a number."""
        return [row for index, line in enumerate(read_csv(folder / FILE)) if (row := _row(line, index)) is not None]

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Tokens per second."""
        return np.array([row["tokens_per_s"] for row in rows])

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By kind of GPU; by model, of which there are two: one predicts the other; by model and format."""
        return {
            "unseen devices": [row["device"].name for row in rows],
            "unseen models": [row["model"] for row in rows],
            "unseen formats of a model": [(row["model"], row["format"]) for row in rows],
        }

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """Written and read tokens."""
        written = np.array([row["quantity"] == "written_per_s" for row in rows])
        return {"decode": written, "prefill": ~written}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """GPUs and their number, ranked on equal phase, model, format and tokens."""
        works = [(row["quantity"], row["model"], row["format"], row["tokens"]) for row in rows]
        return [(row["device"].name, row["count"]) for row in rows], works

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Parameters, corrections and spreads. The errors that spreads rest on are of rows left out of an inner fit."""
        errors = Errors(QUANTITIES)
        for groups in (*self.groups(rows).values(), [row["id"] for row in rows]):
            fold = folds(groups)
            for number in np.unique(fold):
                rest = [row for row, mine in zip(rows, fold, strict=True) if mine != number]
                test = [row for row, mine in zip(rows, fold, strict=True) if mine == number]
                point = _point(rest)
                for name in QUANTITIES:
                    some = [row for row in test if row["quantity"] == name]
                    if some:
                        question = asked(some)
                        error = np.log(self.measured(some) / stream_values(point, question)[name])
                        errors.add(name, point["effects"]["written_per_s"], question, error)
        return {**_point(rows), "spreads": errors.spreads()}

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """Through :func:`dovetail.predict.llm_stream.stream`."""
        found = stream(parameters, asked(rows))
        written = np.array([row["quantity"] == "written_per_s" for row in rows])
        value, low, high = (
            np.where(written, *(getattr(found[name], end) for name in QUANTITIES)) for end in ("value", "low", "high")
        )
        return Predicted(value=value, low=low, high=high)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """A constant share of the bandwidth (written) or of the peak (read)."""
        share = np.zeros(len(rows))
        for name in QUANTITIES:
            known = [row for row in fitted if row["quantity"] == name]
            mine = np.array([row["quantity"] == name for row in rows])
            share[mine] = np.median(self.measured(known) / _roofline(known)) if known else 1.0
        return {"share of roofline": _roofline(rows) * share}


def _row(line: Mapping[str, str], index: int) -> Row | None:
    found = _device(line["gpu"])
    model, _, name = line["model_quant"].partition(" ")
    if found is None or name not in WEIGHT_BYTES or not re.fullmatch(r"[\d.]+", line["tokens_per_s"]):
        return None
    return {
        "id": index,
        "quantity": "written_per_s" if line["phase"] == "decode" else "read_per_s",
        "device": found[0],
        "count": found[1],
        "model": f"Llama-3-{model}",
        "format": name,
        "tokens": float(line["n_tokens"]),
        "tokens_per_s": float(line["tokens_per_s"]),
    }


def _device(called: str) -> tuple[Device, float] | None:
    """``4090 24GB * 8`` → the device and 8; ``M1 Max 32-Core GPU 64GB`` is one of Apple's."""
    name, _, count = (part.strip() for part in called.partition("*"))
    if name in BESIDE:
        return BESIDE[name], float(count or 1)
    apple = re.match(r"(M\d(?: Pro| Max| Ultra)?)\b", name)
    tries = (
        [f"Apple {apple[1]}"]
        if apple
        else [name, f"RTX {name}", re.sub(r" \d+GB$", "", name), re.sub(r" \d+GB$", "", f"RTX {name}")]
    )
    for guess in tries:
        try:
            return catalogued(guess), float(count or 1)
        except InputError:
            continue
    return None


def asked(rows: Sequence[Row]) -> Streamed:
    """The rows as questions to the product."""
    return Streamed(
        models=[architecture(row["model"]) for row in rows],
        devices=[row["device"] for row in rows],
        counts=np.array([row["count"] for row in rows]),
        weight_bytes=np.array([WEIGHT_BYTES[row["format"]] for row in rows]),
        tokens=np.array([row["tokens"] for row in rows]),
        formats=[row["format"] for row in rows],
    )


def _point(rows: Sequence[Row]) -> dict[str, Any]:
    """Parameters and corrections, without spreads."""
    found: dict[str, Any] = {"effects": {}}
    for name, seconds in (("written_per_s", write_s), ("read_per_s", read_s)):
        some = [row for row in rows if row["quantity"] == name]
        found[name], found["effects"][name] = _phase(name, seconds, some)
    return found


def _phase(
    name: str, seconds: Callable[..., Floats], rows: Sequence[Row]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    priors, question = PRIORS[name], asked(rows)
    sizes, facts = shapes(question.models), stream_machine(question.devices)
    rate = np.array([row["tokens_per_s"] for row in rows])
    answer = 1 / rate if name == "written_per_s" else question.tokens / rate
    centre, spread = np.log([value for value, _ in priors.values()]), np.array([width for _, width in priors.values()])
    weights = even(question.keys()["cell"])

    def errors(logs: Floats) -> Floats:
        return np.log(seconds(sizes, facts, question, dict(zip(priors, np.exp(logs), strict=True))) / answer)

    def residuals(logs: Floats) -> Floats:
        return np.concatenate([weights * errors(logs) / NOISE[name], (logs - centre) / spread])

    logs = least_squares(residuals, centre, loss="soft_l1", xtol=1e-6).x
    effects = find_effects(errors(logs), question.keys(), SPREAD, NOISE[name])
    return dict(zip(priors, (float(value) for value in np.exp(logs)), strict=True)), effects


def _roofline(rows: Sequence[Row]) -> Floats:
    question = asked(rows)
    sizes, facts = shapes(question.models), stream_machine(question.devices)
    weights = sizes.active + sizes.head
    written = facts.bandwidth_bytes_per_s / (weights * question.weight_bytes)
    return np.where([row["quantity"] == "written_per_s" for row in rows], written, facts.matrix_flop_per_s / (2 * weights))


TABLE = LlamaCpp()
