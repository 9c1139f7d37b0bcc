"""One sweep over calibration samples: value histograms, channel maxima and means of intermediate tensors.

The sweep holds the intermediate tensors of one sample at a time, is deterministic, and serves every range method
(:mod:`dovetail.compress.ranges`), SmoothQuant and bias correction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dovetail.core.errors import DataError, ModelError
from dovetail.core.protocols import Array, Dataset

HALF_BINS = 2048
"""Bins on either side of zero."""
MAX_ELEMENTS = 1 << 16
"""Elements per tensor and sample that enter a histogram; larger tensors are strided. Extrema always see every element."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Distribution of a tensor's values over all calibration samples.

    Attributes:
        low: least value seen, in the tensor's unit.
        high: greatest value seen.
        counts: ``int64[2 * HALF_BINS]``, equal bins over ``[-limit, limit]``.
        limit: half the width that the bins cover.
    """

    low: float
    high: float
    counts: Array
    limit: float

    @property
    def centers(self) -> Array:
        """Middle of each bin, ``float64[2 * HALF_BINS]``."""
        return (np.arange(2 * HALF_BINS) - HALF_BINS + 0.5) * (self.limit / HALF_BINS)

    def added(self, values: Array) -> Histogram:
        """This histogram with the values of one more array; it widens by doubling, which merges neighbouring bins exactly."""
        low, high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        limit, counts = self.limit, self.counts
        peak = max(-low, high)
        if limit == 0.0:
            limit = peak
        while limit < peak:
            limit, counts = 2 * limit, _halved(counts)
        flat = values.ravel()[:: -(-values.size // MAX_ELEMENTS)].astype(np.float64)
        if limit == 0.0:
            return Histogram(low=low, high=high, counts=counts, limit=limit)
        bins = np.clip(np.floor(flat * (HALF_BINS / limit)) + HALF_BINS, 0, 2 * HALF_BINS - 1).astype(np.int64)
        counts = counts + np.bincount(bins, minlength=2 * HALF_BINS)
        return Histogram(low=low, high=high, counts=counts, limit=limit)


EMPTY = Histogram(low=np.inf, high=-np.inf, counts=np.zeros(2 * HALF_BINS, np.int64), limit=0.0)


def _halved(counts: Array) -> Array:
    merged = np.zeros_like(counts)
    merged[HALF_BINS // 2 : HALF_BINS // 2 + HALF_BINS] = counts.reshape(-1, 2).sum(axis=1)
    return merged


def chosen(dataset: Dataset, samples: int) -> list[int]:
    """Indices of up to ``samples`` samples, spread evenly so that sorted data are still covered."""
    count = min(samples, len(dataset))
    return [round(i * len(dataset) / count) for i in range(count)] if count else []


def sweep(
    model: Any, tensors: Sequence[str], dataset: Dataset, samples: int, progress: Progress | None = None
) -> Iterator[dict[str, Array]]:
    """Runs samples through a model and yields the named tensors of each.

    Args:
        model: ``onnx.ModelProto``.
        tensors: names of float tensors anywhere in the main graph.
        dataset: calibration samples.
        samples: how many of them at most.
        progress: told the share done.

    Raises:
        DataError: there are no samples, or they do not fit the model.
        ModelError: a tensor holds NaN or infinity on some sample.
    """
    indices = chosen(dataset, samples)
    if not indices:
        raise DataError("calibration needs at least one sample", where=dataset.name)
    names = list(dict.fromkeys(tensors))
    session = open_session(model, names)
    wanted = {i.name for i in session.get_inputs()}
    for done, index in enumerate(indices):
        feeds = {k: v for k, v in dataset.sample(index).feeds.items() if k in wanted}
        try:
            values = session.run(names, feeds)
        except Exception as exc:
            raise DataError(f"calibration sample {index} does not run: {exc}", where=dataset.name) from exc
        yield dict(zip(names, values, strict=True))
        if progress is not None:
            progress((done + 1) / len(indices), f"calibrating {done + 1}/{len(indices)}")


def open_session(model: Any, tensors: Sequence[str] = ()) -> Any:
    """An ONNX Runtime session in which the named intermediate tensors are outputs too.

    Raises:
        ModelError: ONNX Runtime cannot load the model.
    """
    import onnx
    import onnxruntime as ort

    instrumented = onnx.ModelProto()
    instrumented.CopyFrom(model)
    present = {o.name for o in model.graph.output}
    instrumented.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in present)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    try:
        return ort.InferenceSession(instrumented.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise ModelError(f"ONNX Runtime cannot load the model to calibrate it: {exc}") from exc


def histograms(
    model: Any, tensors: Sequence[str], dataset: Dataset, samples: int, progress: Progress | None = None
) -> dict[str, Histogram]:
    """Value distribution of each tensor; arguments and errors as for :func:`sweep`."""
    found = dict.fromkeys(tensors, EMPTY)
    for values in sweep(model, tensors, dataset, samples, progress):
        for name, array in values.items():
            if array.size == 0:
                continue
            if not np.isfinite(array).all():
                raise ModelError(f"tensor {name!r} is NaN or infinite on a calibration sample", hint="exclude its operator")
            found[name] = found[name].added(np.asarray(array, np.float32))
    return {name: h for name, h in found.items() if h.low <= h.high}
