"""Rate of one accelerator in the data-centre benchmarks of MLPerf Inference. What is predicted is not verified by MLCommons.

A network's rate is its share of the 8-bit peak over its FLOP; the share falls as the peak grows, because the same small
operators fill a larger device less: ``rate = share · (peak / 1 PFLOP/s)^exponent / FLOP``. A language model's rate is what
the formulas of :mod:`dovetail.predict.llm` say at full memory, on as few accelerators as hold its weights. Both are corrected
by what each benchmark, scenario and device was found to be off by (:mod:`dovetail.predict.effects`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.core.device import Device
from dovetail.core.transformer import Transformer
from dovetail.predict.effects import shift
from dovetail.predict.llm import offline_tokens_per_s
from dovetail.predict.llm_asked import Bounded, bounded
from dovetail.predict.llm_engine import engine
from dovetail.predict.llm_memory import USABLE
from dovetail.predict.llm_setting import Setting, machine, peak
from dovetail.predict.llm_shapes import shapes

Floats = NDArray[np.float64]

PETA = 1e15
_MOST_SEQUENCES = 2048.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name: without the accuracy target.
        flop: of one sample, for a network of fixed size.
        model: for one that writes text, of ``prompt`` and ``output`` tokens, ``beams`` sequences each.
        per_sample: its rate counts samples, not output tokens.
    """

    name: str
    flop: float = 0.0
    model: Transformer | None = None
    prompt: float = 0.0
    output: float = 0.0
    beams: float = 1.0
    per_sample: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What is to be predicted, ``[n]`` of each.

    Attributes:
        benchmarks: that run.
        targets: accuracy targets, ``99`` or ``99.9``; empty where a benchmark has one.
        scenarios: ``offline`` or ``server``.
        devices: accelerators.
        frameworks: what runs the network: ``TensorRT``, ``vLLM`` or another name.
    """

    benchmarks: Sequence[Benchmark]
    targets: Sequence[str]
    scenarios: Sequence[str]
    devices: Sequence[Device]
    frameworks: Sequence[str]

    def keys(self) -> dict[str, list[str]]:
        """Level → key of each question."""
        names = [benchmark.name for benchmark in self.benchmarks]
        devices = [device.name for device in self.devices]
        return {
            "benchmark": names,
            "target": [" | ".join(pair) for pair in zip(names, self.targets, strict=True)],
            "scenario": list(self.scenarios),
            "benchmark in scenario": [" | ".join(pair) for pair in zip(names, self.scenarios, strict=True)],
            "framework": list(self.frameworks),
            "device": devices,
            "cell": [" | ".join(pair) for pair in zip(devices, names, strict=True)],
        }


def roof(parameters: Mapping[str, Any], asked: Submitted) -> Floats:
    """Samples or tokens per second and accelerator before corrections, ``[n]``."""
    rates = np.zeros(len(asked.devices))
    text = np.array([benchmark.model is not None for benchmark in asked.benchmarks], dtype=bool)
    rates[~text] = [
        (eight_bit_peak(device) / PETA) ** parameters["exponent"] * PETA / benchmark.flop
        for device, benchmark in zip(asked.devices, asked.benchmarks, strict=True)
        if benchmark.model is None
    ]
    if text.any():
        rates[text] = _text(parameters, *_chosen(asked, np.flatnonzero(text)))
    return rates


def eight_bit_peak(device: Device) -> float:
    """The higher of the listed 8-bit peaks, FLOP/s; a vendor's units run one of the two types faster at times."""
    listed = [device.peak_flop_per_s[dtype].value for dtype in ("int8", "fp8") if dtype in device.peak_flop_per_s]
    return max(listed, default=0.0) or peak(device, "int8")


def _chosen(asked: Submitted, rows: NDArray[np.intp]) -> tuple[list[Benchmark], list[Device]]:
    return [asked.benchmarks[row] for row in rows], [asked.devices[row] for row in rows]


def _text(parameters: Mapping[str, Any], benchmarks: Sequence[Benchmark], devices: Sequence[Device]) -> Floats:
    models = [benchmark.model for benchmark in benchmarks if benchmark.model is not None]
    sizes, facts = shapes(models), machine(devices, ["fp8"] * len(devices))

    def column(name: str) -> Floats:
        return np.array([getattr(benchmark, name) for benchmark in benchmarks], dtype=np.float64)

    ones = np.ones(len(devices))
    # Weights in 8 bits may take four fifths of the memory; the rest holds keys and values.
    room = 0.8 * USABLE * facts.capacity_bytes
    count = np.maximum(np.exp2(np.ceil(np.log2(np.array([model.parameters for model in models]) / room))), 1.0)
    setting = Setting(
        devices=count,
        stages=ones,
        replicated=np.zeros(len(devices), dtype=bool),
        concurrency=_MOST_SEQUENCES * ones,
        prompt=column("prompt"),
        output=column("output"),
        common_bytes=ones,
        expert_bytes=ones,
        cache_bytes=ones,
    )
    tokens = offline_tokens_per_s(sizes, facts, setting, engine(parameters, [""] * len(devices))) / count
    samples = column("output") * column("beams")
    return np.where([benchmark.per_sample for benchmark in benchmarks], tokens / samples, tokens)


def values(parameters: Mapping[str, Any], asked: Submitted) -> Floats:
    """Rate of one accelerator, ``[n]``: samples or, where the benchmark counts them, output tokens per second."""
    return roof(parameters, asked) * np.exp(shift(parameters["effects"], asked.keys()))


def per_accelerator(parameters: Mapping[str, Any], asked: Submitted) -> Bounded:
    """The same with 90 % intervals.

    Args:
        parameters: of :func:`dovetail.predict.fitted_file.parameters`, ``mlperf``.
        asked: the questions.
    """
    keys, effects = asked.keys(), parameters["effects"]
    known = np.array([key in effects["device"] for key in keys["device"]], dtype=bool)
    seen = np.array([key in effects["benchmark"] for key in keys["benchmark"]], dtype=bool)
    regime = np.select([known & seen, seen, known], ["run", "device", "model"], "both")
    return bounded(values(parameters, asked), parameters["spreads"], regime)
