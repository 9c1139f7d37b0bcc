"""Samples or batches from an iterable in memory, such as a torch ``DataLoader`` (which is never imported here)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from dovetail.core.errors import DataError, DovetailError
from dovetail.core.protocols import Array
from dovetail.data.request import DataRequest, pick, to_array
from dovetail.data.sources.record import Record, Records


def from_iterable(data: Iterable[Any], request: DataRequest) -> Records:
    """Reads ``(feeds, label)``, ``(feeds, group, label)`` or bare feeds; batches are taken apart."""
    return records_of(lambda: data, request, type(data).__name__, split_unlabelled=True)


def records_of(make: Callable[[], Iterable[Any]], request: DataRequest, where: str, *, split_unlabelled: bool) -> Records:
    """Records of what a callable returns; an error in the user's code is told with the number of items before it."""

    def iterate() -> Iterator[Record]:
        done = 0
        try:
            for item in make():
                yield from _unbatched(record(item, request, f"{where}, item {done}"), request, split_unlabelled)
                done += 1
        except DovetailError:
            raise
        except Exception as error:
            raise DataError(f"it fails after {done} items: {type(error).__name__}: {error}", where=where) from error

    return Records(where=where, iterate=iterate)


def record(item: Any, request: DataRequest, where: str) -> Record:
    """One item as a record.

    Raises:
        DataError: not of a known form, or feeds that the model needs are absent.
    """
    group = label = None
    if isinstance(item, tuple | list):
        if len(item) == 2:
            item, label = item
        elif len(item) == 3:
            item, group, label = item
        else:
            raise DataError(f"a tuple of {len(item)}", where=where, hint="yield (feeds, label) or (feeds, group, label)")
    if isinstance(item, Mapping):
        label_key = request.label_key(item.keys(), where) if label is None else None
        feeds = pick(item, request.input_keys(item.keys(), where))
        return Record(feeds=feeds, label=_plain(item[label_key] if label_key else label), group=_plain(group))
    if len(request.fed) != 1:
        names = ", ".join(plan.spec.name for plan in request.fed)
        raise DataError(
            f"feeds are a {type(item).__name__}, but the model takes {len(request.fed)} inputs",
            where=where,
            hint=f"yield a dict with: {names}",
        )
    return Record(feeds={request.fed[0].spec.name: to_array(item)}, label=_plain(label), group=_plain(group))


def _plain(value: Any) -> Any:
    """Tensors as arrays; groups and labels of other types as they are."""
    return to_array(value) if hasattr(value, "numpy") else value


def _unbatched(item: Record, request: DataRequest, split_unlabelled: bool) -> Iterator[Record]:
    size = _batch_size(item, request)
    if size is None or (item.label is None and not split_unlabelled):
        yield item
        return
    labels = None if item.label is None else to_array(item.label)
    batched = {plan.spec.name for plan in request.fed if plan.batched}
    for i in range(size):
        feeds: dict[str, Array] = {name: a[i, ...] if name in batched else a for name, a in item.feeds.items()}
        yield Record(feeds=feeds, label=None if labels is None else labels[i])


def _batch_size(item: Record, request: DataRequest) -> int | None:
    """Samples in an item whose inputs all carry one batch axis that the labels share; ``None`` for a single sample."""
    plans = [plan for plan in request.fed if plan.batched]
    sizes = {item.feeds[p.spec.name].shape[0] for p in plans if item.feeds[p.spec.name].ndim == p.raw_rank + 1}
    all_carry = all(item.feeds[p.spec.name].ndim == p.raw_rank + 1 for p in plans)
    if not plans or not all_carry or len(sizes) != 1 or item.group is not None:
        return None
    size: int = sizes.pop()
    if item.label is None:
        return size
    labels = to_array(item.label)
    return size if labels.ndim and len(labels) == size else None
