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
SLICE_ELEMENTS = 16
"""Slices of fewer elements say nothing about the magnitude of what stands there."""
SLICE_SHARE = 0.1
"""Of the greatest value of an output: a slice counts as at least that large. Single precision leaves differences up to 1e-5 of
the greatest value where numbers cancel, however small what remains."""
TIED, TIED_OF = 2, 100
"""So many of at least so many integers may differ: one near tie lets two positions change places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far an output lies from the expected one.

    Attributes:
        relative: ``max|y − ŷ| / max|y|``; infinite where one is finite and the other is not, or nothing expected is finite.
        sliced: the same where each slice along an axis counts by its own greatest value (:data:`SLICE_SHARE`), so that the
            coordinates of boxes do not hide the scores beside them; the batch, the first axis, is not sliced.
        unequal: share of elements that differ, of integers and bools that stand for themselves; ``None`` of reals.
        narrow: they are integers of 8 or 16 bits, which often are pixels or samples.
    """

    output: str
    relative: float
    sliced: float = 0.0
    unequal: float | None = None
    narrow: bool = False


def examples(path: Path, inputs: Mapping[str, Info], data: Dataset | None, seed: int) -> Iterator[Feeds]:
    """A few samples, or random feeds where there are none."""
    if data is not None and len(data):
        for index in range(min(SAMPLES, len(data))):
            yield _call(inputs, data, index * len(data) // min(SAMPLES, len(data)))
        return
    yield _random_feeds(path, inputs, seed)


def _call(inputs: Mapping[str, Info], data: Dataset, first: int) -> Feeds:
    """As many samples from ``first`` on as the lowered model takes at once."""
    feeds = data.sample(first).feeds
    shapes = {name: feed.shape for name, feed in feeds.items()}
    count = fixed_batch({name: info.shape for name, info in inputs.items()}, shapes)
    stacked = data.batch([(first + i) % len(data) for i in range(count)]) if count > 1 else None
    return feeds if stacked is None else stacked


def _random_feeds(path: Path, inputs: Mapping[str, Info], seed: int) -> Feeds:
    """Normal floats, any narrow integers, and ones for wide ones, which may be masks; zeros where the model takes no ones."""
    random = np.random.default_rng(seed)
    feeds = {name: _random(info.shape, np.dtype(info.dtype), random) for name, info in inputs.items()}
    zeros = {name: np.zeros_like(value) for name, value in feeds.items() if _may_be_mask(value.dtype)}
    for changed in ({}, *({name: value} for name, value in zeros.items()), zeros) if zeros else ():
        try:
            _onnxruntime(path, {**feeds, **changed})
        except ModelError:  # an index into a table of one row, for instance
            continue
        return {**feeds, **changed}
    return feeds


def _may_be_mask(dtype: np.dtype[np.generic]) -> bool:
    return dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize > 2)


def _random(shape: tuple[int, ...], dtype: np.dtype[np.generic], random: np.random.Generator) -> Array:
    if _may_be_mask(dtype):
        return np.ones(shape, dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        return random.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def differences(path: Path, lowered: Path, feeds: Feeds) -> list[Difference]:
    """Runs both on one sample, and compares every output; integers that stand for reals count from their zero point.

    Raises:
        ModelError: either fails, or the outputs have other shapes.
    """
    names, expected = _onnxruntime(path, feeds)
    found, quants = _litert(lowered, feeds, names)
    return _differences(names, expected, found, quants)


def own_differences(path: Path, lowered: Path, feeds: Feeds) -> list[Difference]:
    """How far ONNX Runtime with its fused integer kernels lies from itself operator by operator; as :func:`differences`.

    Raises:
        ModelError: it fails.
    """
    names, expected = _onnxruntime(path, feeds)
    _, quants = _litert(lowered, feeds, names)
    return _differences(names, expected, _onnxruntime(path, feeds, fused=True)[1], quants)


def compare(path: Path, lowered: Path, feeds: Feeds) -> Difference:
    """The output that differs most, relative to its greatest value.

    Raises:
        ModelError: either fails, or the outputs have other shapes.
    """
    return max(differences(path, lowered, feeds), key=lambda found: found.relative)


def _differences(
    names: Sequence[str], expected: Outputs, found: Outputs, quants: Sequence[tuple[float, int]]
) -> list[Difference]:
    made = []
    for name, want, got, (scale, zero) in zip(names, expected, found, quants, strict=True):
        if np.shape(want) != np.shape(got):
            raise ModelError(f"output {name!r} has the shape {np.shape(got)} instead of {np.shape(want)}")
        made.append(difference(name, np.asarray(want), np.asarray(got), zero, quantised=scale != 0.0))
    return made


def difference(name: str, want: Array, got: Array, zero: int, *, quantised: bool) -> Difference:
    """How far one array lies from another.

    Args:
        name: of the output.
        want: what is expected.
        got: what was found, of the same shape.
        zero: the integer that stands for zero.
        quantised: integers stand for reals.
    """
    plain = want.dtype.kind in "biu" and not quantised
    error, size = _error(want.astype(np.float64) - zero, got.astype(np.float64) - zero)
    return Difference(
        output=name,
        relative=_ratio(error, size),
        sliced=0.0 if plain else _sliced(error, size),
        unequal=_unequal(want, got) if plain else None,
        narrow=want.dtype.kind in "iu" and want.dtype.itemsize <= 2,
    )


def _error(want: Array, got: Array) -> tuple[Array, Array]:
    """Distances, and magnitudes of what is expected; infinite distances where only one is finite, or nothing expected is."""
    finite = np.isfinite(want)
    error = np.abs(np.where(finite, want, 0.0) - np.where(finite, got, 0.0))
    if not np.array_equal(finite, np.isfinite(got)) or (want.size and not finite.any()):
        error = np.full(want.shape, np.inf)
    return error, np.abs(np.where(finite, want, 0.0))


def _ratio(error: Array, size: Array) -> float:
    return float(error.max(initial=0.0)) / max(float(size.max(initial=0.0)), float(np.finfo(np.float32).tiny))


def _sliced(error: Array, size: Array) -> float:
    least = max(SLICE_SHARE * float(size.max(initial=0.0)), float(np.finfo(np.float32).tiny))
    worst = 0.0
    for axis in range(1, error.ndim):
        if error.size >= SLICE_ELEMENTS * error.shape[axis] > 0:
            other = tuple(a for a in range(error.ndim) if a != axis)
            worst = max(worst, float((error.max(axis=other) / np.maximum(size.max(axis=other), least)).max()))
    return worst


def _unequal(want: Array, got: Array) -> float:
    count = int((want != got).sum())
    return 0.0 if count <= TIED and want.size >= TIED_OF else count / max(want.size, 1)


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


def _litert(path: Path, feeds: Feeds, names: list[str]) -> tuple[Outputs, list[tuple[float, int]]]:
    """Outputs, with their scales and zero points; both are 0 where numbers stand for themselves."""
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
    quants = [details[name]["quantization"] for name in names]
    return [results[name] for name in names], [(float(scale), int(zero)) for scale, zero in quants]
