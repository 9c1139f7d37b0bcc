"""Checks user records against the model's inputs and turns them into feeds; nothing runs before this has passed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, TensorSpec
from dovetail.data.dataset import LabeledFeeds
from dovetail.data.request import DataRequest, InputPlan
from dovetail.data.sources.record import Record, Records

_FEW_BITS = (np.dtype(np.uint8), np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.uint16))


class Intake:
    """Iterates over checked samples.

    Attributes:
        warnings: what was accepted but looks doubtful; complete after the iteration.
    """

    def __init__(self, records: Records, request: DataRequest) -> None:
        self._records, self._request = records, request
        self._where = records.where
        self._units: dict[Any, int] = {}
        self._warnings: dict[str, None] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Each once, in the order of their occurrence."""
        return tuple(self._warnings)

    def __iter__(self) -> Iterator[LabeledFeeds]:
        """Yields feeds with their batch axis, unit number and label.

        Raises:
            DataError: a sample does not fit the model; names input and sample.
        """
        empty = True
        for index, record in enumerate(self._records.iterate()):
            empty = False
            yield self._feeds(record, index), self._unit(record, index), self._label(record, index)
        if empty:
            raise DataError("the data are empty: 0 samples", where=self._where)

    def _unit(self, record: Record, index: int) -> int:
        # A sample without a group is a unit of its own; the tuple keeps it apart from groups called 0, 1, …
        group = ("sample", index) if record.group is None else ("group", _hashable(record.group))
        return self._units.setdefault(group, len(self._units))

    def _label(self, record: Record, index: int) -> Any:
        label, classes = record.label, self._request.classes
        if not classes or not isinstance(label, str):
            return label
        if label not in classes:
            raise self._error(f"label {str(label)!r} is not one of the declared classes ({', '.join(classes[:8])})", index)
        return classes.index(label)

    def _feeds(self, record: Record, index: int) -> dict[str, Array]:
        feeds: dict[str, Array] = {}
        sizes: dict[str, tuple[int, str]] = {}
        for plan in self._request.inputs:
            name = plan.spec.name
            raw = plan.value if plan.value is not None else record.feeds[name]
            feeds[name] = self._prepared(raw, plan, index)
            self._check_symbols(plan.spec, feeds[name], sizes, index)
        return feeds

    def _prepared(self, raw: Array, plan: InputPlan, index: int) -> Array:
        """One feed: batch axis off, preprocessing, batch axis on, dtype, checks."""
        if raw.dtype.kind not in "biuf":
            raise self._error(f"input {plan.spec.name!r} takes numbers; the data hold {raw.dtype} values", index)
        block = plan.batched and raw.ndim == plan.raw_rank + 1 and raw.shape[0] != 1
        if block and (plan.spec.shape[0] == 1 or plan.preprocess.raw_rank is not None):
            raise self._shape_error(raw, plan, index)
        x = raw[0] if plan.batched and not block and raw.ndim == plan.raw_rank + 1 else raw
        try:
            x = plan.preprocess.apply(x)
        except DataError as error:
            raise self._error(f"input {plan.spec.name!r}: {error.what}", index, hint=error.hint) from error
        x = np.expand_dims(x, 0) if plan.batched and not block else x
        if not _fits(x.shape, plan.spec.shape):
            raise self._shape_error(raw, plan, index)
        x = self._cast(x, plan, index)
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            bad = x.ravel()[~np.isfinite(x.ravel())]
            raise self._error(
                f"input {plan.spec.name!r} holds {'NaN' if np.isnan(bad[0]) else 'infinity'} ({bad.size} of {x.size} values)",
                index,
                hint="remove such samples or fill their gaps",
            )
        return x

    def _cast(self, x: Array, plan: InputPlan, index: int) -> Array:
        """The model's dtype, where no value is lost by it beyond rounding.

        Raises:
            DataError: fractions for an integer input, values out of range, or a dtype that numpy does not know.
        """
        name = plan.spec.name
        try:
            wanted: np.dtype[Any] = np.dtype(plan.spec.dtype)
        except TypeError as error:
            raise self._error(f"input {name!r} takes {plan.spec.dtype}, which data cannot hold", index) from error
        if x.dtype == wanted:
            return x
        if x.dtype.kind == "f" and wanted.kind in "iub":
            raise self._error(
                f"input {name!r} takes {wanted}; the data hold {x.dtype}",
                index,
                hint=f"store integers, or declare in fit.yaml:\ninputs:\n  {name}:\n    dtype: {wanted}",
            )
        if x.dtype in _FEW_BITS and wanted.kind == "f":
            self._warn(
                f"input {name!r}: {x.dtype} values are fed as {wanted} without scaling; if the model takes 0..1, "
                f"declare `scale: {1 / 255:.9f}` for it in fit.yaml"
            )
        with np.errstate(over="ignore"):
            cast = x.astype(wanted)
        lost = not np.array_equal(cast, x) if wanted.kind in "iub" else not np.array_equal(np.isfinite(cast), np.isfinite(x))
        if lost:
            raise self._error(
                f"input {name!r} takes {wanted}; values {x.min()}..{x.max()} of {x.dtype} are out of its range", index
            )
        return cast

    def _check_symbols(self, spec: TensorSpec, x: Array, sizes: dict[str, tuple[int, str]], index: int) -> None:
        """Axes of one symbolic name have one size within a sample."""
        for symbol, size in zip(spec.shape, x.shape, strict=True):
            if not isinstance(symbol, str):
                continue
            known, other = sizes.setdefault(symbol, (size, spec.name))
            if known != size:
                raise self._error(
                    f"inputs {other!r} and {spec.name!r} share the axis {symbol!r}, but their sizes are {known} and {size}",
                    index,
                )

    def _warn(self, text: str) -> None:
        self._warnings.setdefault(text)

    def _error(self, what: str, index: int, hint: str | None = None) -> DataError:
        return DataError(f"sample {index}: {what}", where=self._where, hint=hint)

    def _shape_error(self, raw: Array, plan: InputPlan, index: int) -> DataError:
        wanted = ", ".join("?" if d is None else str(d) for d in plan.spec.shape)
        return self._error(
            f"input {plan.spec.name!r} takes {plan.spec.dtype} [{wanted}]; the data hold {raw.dtype} {list(raw.shape)} "
            "per sample",
            index,
            hint=_conversion_hint(raw, plan),
        )


def _hashable(group: Any) -> Any:
    return (
        group.tobytes() if isinstance(group, np.ndarray) and group.ndim else group.item() if hasattr(group, "item") else group
    )


def _fits(shape: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(not isinstance(w, int) or w == s for s, w in zip(shape, wanted, strict=True))


def _conversion_hint(raw: Array, plan: InputPlan) -> str | None:
    """The lines of ``fit.yaml`` that would make an image fit, where some do."""
    target = plan.spec.shape[plan.batched :]
    shape = raw.shape[1:] if raw.ndim == len(plan.spec.shape) and plan.batched and raw.ndim > 3 else raw.shape
    if plan.spec.shape and isinstance(plan.spec.shape[0], int) and plan.spec.shape[0] > 1:
        return (
            f"the model's first axis is fixed at {plan.spec.shape[0]}: give that many per sample, or export it with a free one"
        )
    for layout, moved, resized in _image_layouts(shape, target):
        lines = [f"    layout: {layout}"]
        if not _fits(moved, target):
            lines.insert(0, f"    resize: [{resized[0]}, {resized[1]}]")
        if raw.dtype == np.uint8 and np.dtype(plan.spec.dtype).kind == "f":
            lines.append(f"    scale: {1 / 255:.9f}   # if the model takes 0..1; leave it out for 0..255")
        return "\n".join([f"declare in fit.yaml:\ninputs:\n  {plan.spec.name}:", *lines])
    return None


def _image_layouts(
    shape: tuple[int, ...], target: tuple[int | str | None, ...]
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, int]]]:
    """Layouts that bring an image's channels where the model has them: name, shape after it, the model's height and width."""
    if len(target) != 3:
        return
    channel_first = tuple(d if isinstance(d, int) else 0 for d in target)
    if len(shape) == 3 and target[0] in (shape[2], None) and shape[2] <= 4:
        yield "NHWC->NCHW", (shape[2], shape[0], shape[1]), (channel_first[1] or shape[0], channel_first[2] or shape[1])
    elif len(shape) == 3 and target[2] in (shape[0], None) and shape[0] <= 4:
        yield "NCHW->NHWC", (shape[1], shape[2], shape[0]), (channel_first[0] or shape[1], channel_first[1] or shape[2])
    elif len(shape) == 3 and target[2] == shape[2]:
        yield "NHWC->NHWC", shape, (channel_first[0] or shape[0], channel_first[1] or shape[1])
    elif len(shape) == 2 and target[0] == 1:
        yield "NHW->NCHW", (1, *shape), (channel_first[1] or shape[0], channel_first[2] or shape[1])
    elif len(shape) == 2 and target[2] == 1:
        yield "NHW->NHWC", (*shape, 1), (channel_first[0] or shape[0], channel_first[1] or shape[1])
