"""Compares a lowered file with the ONNX model it came from, on samples where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array, Dataset, Feeds, Outputs
from dovetail.core.sizes import fixed_batch
from dovetail.lowering.source import Info

SAMPLES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The output that differs most.

    Attributes:
        relative: ``max|y − ŷ| / max|y|``; infinite where one is finite and the other is not.
    """

    output: str
    relative: float


def examples(inputs: Mapping[str, Info], data: Dataset | None, seed: int) -> Iterator[Feeds]:
    """A few samples, or random feeds where there are none: normal floats, and zeros for what may be an index."""
    if data is not None and len(data):
        for index in range(min(SAMPLES, len(data))):
            yield _call(inputs, data, index * len(data) // min(SAMPLES, len(data)))
        return
    random = np.random.default_rng(seed)
    yield {name: _random(info.shape, np.dtype(info.dtype), random) for name, info in inputs.items()}


def _call(inputs: Mapping[str, Info], data: Dataset, first: int) -> Feeds:
    """As many samples from ``first`` on as the lowered model takes at once."""
    feeds = data.sample(first).feeds
    shapes = {name: feed.shape for name, feed in feeds.items()}
    count = fixed_batch({name: info.shape for name, info in inputs.items()}, shapes)
    stacked = data.batch([(first + i) % len(data) for i in range(count)]) if count > 1 else None
    return feeds if stacked is None else stacked


def _random(shape: tuple[int, ...], dtype: np.dtype[np.generic], random: np.random.Generator) -> Array:
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        limits = np.iinfo(dtype.name)
        return random.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    return np.zeros(shape, dtype)


def compare(path: Path, lowered: Path, feeds: Feeds) -> Difference:
    """Runs both on one sample; integers that stand for reals count from their zero point.

    Raises:
        ModelError: either fails, or the outputs have other shapes.
    """
    names, expected = _onnxruntime(path, feeds)
    found, zeros = _litert(lowered, feeds, names)
    return _worst(names, expected, found, zeros)


def own_spread(path: Path, lowered: Path, feeds: Feeds) -> float:
    """How far ONNX Runtime with its fused integer kernels lies from itself operator by operator; as :func:`compare` says it.

    Raises:
        ModelError: it fails.
    """
    names, expected = _onnxruntime(path, feeds)
    _, zeros = _litert(lowered, feeds, names)
    return _worst(names, expected, _onnxruntime(path, feeds, fused=True)[1], zeros).relative


def _worst(names: Sequence[str], expected: Outputs, found: Outputs, zeros: Sequence[int]) -> Difference:
    worst = Difference(output=names[0], relative=0.0)
    for name, want, got, zero in zip(names, expected, found, zeros, strict=True):
        if np.shape(want) != np.shape(got):
            raise ModelError(f"output {name!r} has the shape {np.shape(got)} instead of {np.shape(want)}")
        relative = _relative(np.asarray(want), np.asarray(got), zero)
        if relative > worst.relative:
            worst = Difference(output=name, relative=relative)
    return worst


def _relative(want: Array, got: Array, zero: int) -> float:
    want, got = want.astype(np.float64) - zero, got.astype(np.float64) - zero
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)):
        return float("inf")
    scale = max(float(np.abs(want[finite]).max(initial=0.0)), float(np.finfo(np.float32).tiny))
    return float(np.abs(want[finite] - got[finite]).max(initial=0.0)) / scale


def _onnxruntime(path: Path, feeds: Feeds, *, fused: bool = False) -> tuple[list[str], Outputs]:
    import onnxruntime

    config = onnxruntime.SessionOptions()
    config.log_severity_level = 4
    # Its optimised kernels round in ways of their own, which is nothing to compare with.
    if not fused:
        config.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(path), config, providers=["CPUExecutionProvider"])
        wanted = {node.name for node in session.get_inputs()}
        outputs = session.run(None, {name: value for name, value in feeds.items() if name in wanted})
    except Exception as exc:  # its errors share no base class
        raise ModelError(f"ONNX Runtime cannot run the model to compare with: {str(exc)[:200]}") from exc
    return [node.name for node in session.get_outputs()], outputs


def _litert(path: Path, feeds: Feeds, names: list[str]) -> tuple[Outputs, list[int]]:
    """Outputs, and their zero points; 0 of those that are not quantised."""
    from ai_edge_litert.interpreter import Interpreter

    from dovetail.lowering.flatbuffer import SIGNATURE

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        run = interpreter.get_signature_runner(SIGNATURE)
        wanted = run.get_input_details()
        results = run(**{name: np.asarray(feeds[name]) for name in wanted})
        details = run.get_output_details()
    except (RuntimeError, ValueError) as exc:
        raise ModelError(f"LiteRT cannot run the lowered model: {str(exc).strip()[:200]}") from exc
    return [results[name] for name in names], [int(details[name]["quantization"][1]) for name in names]
