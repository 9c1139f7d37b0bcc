"""Says which feed is wrong. Called only after a runtime has refused a call, so that good calls cost nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, Feeds, TensorSpec


def check_feeds(inputs: Sequence[TensorSpec], feeds: Feeds) -> None:
    """Compares feeds with a model's inputs: names, dtypes, ranks and fixed sizes.

    Raises:
        DataError: names the first feed that does not fit.
    """
    names = [spec.name for spec in inputs]
    missing = [name for name in names if name not in feeds]
    unknown = [name for name in feeds if name not in names]
    if missing or unknown:
        what = f"no feed for input {missing[0]!r}" if missing else f"the model has no input {unknown[0]!r}"
        raise DataError(what, where=(missing or unknown)[0], hint=f"the model's inputs: {', '.join(names)}")
    for spec in inputs:
        _check_feed(spec, feeds[spec.name])


def _check_feed(spec: TensorSpec, value: Array) -> None:
    if not isinstance(value, np.ndarray):
        raise DataError(f"a feed is a numpy array, not a {type(value).__name__}", where=spec.name)
    if value.dtype.name != spec.dtype:
        hint = f"convert it: feeds[{spec.name!r}].astype({spec.dtype!r})"
        raise DataError(f"the model takes {spec.dtype}, the feed is {value.dtype.name}", where=spec.name, hint=hint)
    fits = len(value.shape) == len(spec.shape) and all(
        not isinstance(size, int) or size == got for size, got in zip(spec.shape, value.shape, strict=True)
    )
    if not fits:
        raise DataError(f"the model takes shape {_show(spec.shape)}, the feed has {_show(value.shape)}", where=spec.name)


def _show(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
