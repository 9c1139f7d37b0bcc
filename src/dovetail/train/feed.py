"""Batches of tensors: read from the sample store, padded or augmented, and made ready ahead of use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, Dataset
from dovetail.train.augment import Augment, Mix
from dovetail.train.batching import Batching, Sizes, items_of, sizes_of

T = TypeVar("T")
AHEAD = 2
"""Batches that are made ready ahead of use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples for one forward call.

    Attributes:
        feeds: input name → tensor, ``[B, ...]`` where the input counts samples.
        labels: ``[B, ...]`` int64 or float32; ``None`` without, and for text.
        indices: ``[B]`` sample numbers.
        mix: whose image, and label, each sample partly is; ``None`` when they are unmixed.
    """

    feeds: dict[str, Any]
    labels: Any
    indices: Array
    mix: Mix | None = None

    def __len__(self) -> int:
        return len(self.indices)


class Feed:
    """The batches of a data set.

    Args:
        dataset: samples; preprocessing that the job declares has been applied to them.
        indices: of the samples to serve.
        batch: samples per batch.
        seed: of order and augmentation.
        pairs: serve the two samples of every group side by side.
        augment: changes the images of training batches; ``None`` for none.
        sizes: of all samples, where they are known already.

    Raises:
        DataError: no sample; pairs are asked for and a group is none.
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: Array,
        *,
        batch: int,
        seed: int = 0,
        pairs: bool = False,
        augment: Augment | None = None,
        sizes: Sizes | None = None,
    ) -> None:
        if not len(indices):
            raise DataError("there is no sample to train on", where="training data")
        self._dataset, self._augment = dataset, augment
        self._labels = _numeric(dataset.labels)
        items = items_of(np.asarray(indices), np.asarray(dataset.groups), pairs=pairs)
        sizes = sizes or sizes_of(dataset)
        self._padded = not sizes.alike and _can_pad(dataset)
        apart = not sizes.alike and not self._padded
        if apart and pairs:
            raise DataError("pairs of samples that differ in shape need a model with a mask for padding", where="training data")
        self._batching = Batching(
            items=items,
            size=batch,
            seed=seed,
            shapes=sizes.shapes[items][:, 0] if apart else None,
            lengths=sizes.lengths[items].max(axis=1) if self._padded else None,
        )

    def __len__(self) -> int:
        """Batches per epoch."""
        return self._batching.count()

    @property
    def samples(self) -> int:
        """Samples served."""
        return int(self._batching.items.size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch from number ``start`` on; each depends on seed, epoch and number alone."""
        for number, indices in enumerate(self._batching.epoch(epoch)[start:], start):
            batch = self._read(indices)
            yield batch if self._augment is None else self._augmented(self._augment, batch, epoch, number)

    def in_order(self) -> Iterator[Batch]:
        """Every sample once, without augmentation."""
        for indices in self._batching.in_order():
            yield self._read(indices)

    def _augmented(self, augment: Augment, batch: Batch, epoch: int, number: int) -> Batch:
        images, mix = augment(batch.feeds[augment.input], (epoch, number))
        return Batch(feeds={**batch.feeds, augment.input: images}, labels=batch.labels, indices=batch.indices, mix=mix)

    def _read(self, indices: Array) -> Batch:
        feeds = self._pad(indices) if self._padded else self._dataset.batch(indices.tolist())
        if feeds is None:
            raise DataError("samples of different shapes, or of a model without a batch axis, cannot form a batch",
                            where="training data", hint="train with batch 1")  # fmt: skip
        tensors = {name: torch.from_numpy(np.require(array, requirements="W")) for name, array in feeds.items()}
        labels = None if self._labels is None else torch.from_numpy(self._labels[indices])
        return Batch(feeds=tensors, labels=labels, indices=indices)

    def _pad(self, indices: Array) -> dict[str, Array]:
        """Stacks samples, each filled up with zeros to the longest: padding ids, and 0 in the mask."""
        samples = [self._dataset.sample(int(i)).feeds for i in indices]
        stacked = {}
        for name, first in samples[0].items():
            if not first.ndim:
                stacked[name] = first
                continue
            feeds = [sample[name] for sample in samples]
            whole = np.zeros((len(feeds), *np.max([f.shape[1:] for f in feeds], axis=0).astype(int)), first.dtype)
            for row, feed in zip(whole, feeds, strict=True):
                row[tuple(slice(0, size) for size in feed.shape[1:])] = feed[0]
            stacked[name] = whole
        return stacked


def _numeric(labels: Array | None) -> Array | None:
    """Labels as int64 or float32; ``None`` where they are text or of several shapes."""
    if labels is None or labels.dtype.kind not in "biuf":
        return None
    return labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)


def _can_pad(dataset: Dataset) -> bool:
    """Whether the samples carry a mask that tells padding from content."""
    return any("mask" in name.lower() for name in dataset.sample(0).feeds)


def prefetched(batches: Iterator[T], ahead: int = AHEAD) -> Generator[T, None, None]:
    """The same batches, made in a thread so that the next one is ready when it is asked for.

    The thread's own operators run on one core: its share of the work is small, and a second team of threads would get in the
    way of the training step's.
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=ahead)
    stop, settled = threading.Event(), threading.Event()
    threads = torch.get_num_threads()

    def work() -> None:
        torch.set_num_threads(1)  # of this thread, and the default of threads still to come
        settled.set()
        try:
            for batch in batches:
                if not _put(ready, (True, batch), stop):
                    return
            _put(ready, (False, None), stop)
        except BaseException as error:
            _put(ready, (False, error), stop)

    worker = threading.Thread(target=work, name="dovetail-feed", daemon=True)
    worker.start()
    settled.wait()
    torch.set_num_threads(threads)
    try:
        while True:
            more, value = ready.get()
            if more:
                yield value
            elif value is not None:
                raise value
            else:
                return
    finally:
        stop.set()
        worker.join()


def _put(ready: queue.Queue[Any], value: object, stop: threading.Event) -> bool:
    """Waits for room; false once nobody wants the value."""
    while not stop.is_set():
        try:
            ready.put(value, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
