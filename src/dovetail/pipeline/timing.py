"""What is timed: the user's samples, or random feeds where there are none; and the sizes that may be taken from either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dovetail.core.errors import InputError
from dovetail.core.protocols import Array, TensorSpec
from dovetail.core.recipe import digest
from dovetail.core.sizes import Shapes, assumed_size
from dovetail.data.dataset import StoredDataset, write_split
from dovetail.data.request import InputPlan

TIMING_SAMPLES = 8
RAGGED_SAMPLES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Feeds to time on.

    Attributes:
        data: a split.
        indices: samples of it that a block goes through.
        calls: shapes of each call that a block goes through, equal ones once.
        alike: all samples have the same shapes.
        assumed: free dimension → size that was made up for it; no model may be bound to one.
    """

    data: StoredDataset
    indices: tuple[int, ...]
    calls: tuple[Shapes, ...]
    alike: bool
    assumed: Mapping[str, int] = field(default_factory=dict)

    def free_dims(self, inputs: Sequence[TensorSpec]) -> dict[str, int]:
        """Symbolic dimension, or ``input:axis``, → its size in every call; empty where one varies or was made up."""
        if not self.alike or self.assumed:
            return {}
        free: dict[str, int] = {}
        for spec in inputs:
            for axis, size in enumerate(self.calls[0].get(spec.name, ())):
                dim = spec.shape[axis]
                if not isinstance(dim, int) and free.setdefault(dim or f"{spec.name}:{axis}", size) != size:
                    return {}
        return free


def on_samples(data: StoredDataset, batch: int) -> Timing:
    """Timing on samples of the user's, a few where all have one shape, else as many as show how shapes vary.

    Raises:
        InputError: the samples cannot form a batch.
    """
    count = min(RAGGED_SAMPLES, len(data))
    indices = tuple(i * len(data) // count for i in range(count))
    if data.uniform:
        indices = indices[:: max(1, count // TIMING_SAMPLES)][:TIMING_SAMPLES]
    return Timing(data=data, indices=indices, calls=_calls(data, indices, batch), alike=data.uniform)


def made_up(inputs: Sequence[TensorSpec], plans: Sequence[InputPlan], home: Path, *, seed: int, batch: int) -> Timing:
    """Timing on random feeds, for a model without data.

    Sizes come from the model and from the shapes that the job declares; leading axes count samples; the rest is made up.

    Args:
        inputs: of the model.
        plans: of those that are fed, as the job declares them.
        home: folder of stored splits.
        seed: of the random numbers.
        batch: samples a call.

    Raises:
        InputError: values of this type cannot be made up, or the inputs cannot form a batch.
    """
    shapes, assumed = _assumed_shapes({spec.name: spec.shape for spec in inputs}, plans)
    data = _random_split(plans, [shapes] * TIMING_SAMPLES, home, seed)
    indices = tuple(range(TIMING_SAMPLES))
    return Timing(data=data, indices=indices, calls=_calls(data, indices, batch), alike=True, assumed=assumed)


def made_again(plans: Sequence[InputPlan], calls: Sequence[Shapes], home: Path, *, seed: int) -> Timing:
    """Timing on random feeds in the shapes of earlier calls; each is one call, whatever its batch.

    Raises:
        InputError: values of this type cannot be made up.
    """
    count = max(TIMING_SAMPLES, len(calls))
    fed = [plan for plan in plans if plan.spec.name in calls[0]]
    data = _random_split(fed, [calls[i % len(calls)] for i in range(count)], home, seed)
    return Timing(data=data, indices=tuple(range(count)), calls=tuple(calls), alike=len(calls) == 1)


def _calls(data: StoredDataset, indices: Sequence[int], batch: int) -> tuple[Shapes, ...]:
    """Shapes of the calls as the child process forms them."""
    if batch == 1:
        feeds = [data.sample(i).feeds for i in indices]
    else:
        stacked = data.batch([indices[i % len(indices)] for i in range(batch)])
        if stacked is None:
            what = f"samples cannot form a batch of {batch}: their shapes differ, or an input has no axis that counts them"
            raise InputError(what, where="batch", hint="leave the batch out, or give samples of one shape")
        feeds = [stacked]
    shapes = [{name: value.shape for name, value in feed.items()} for feed in feeds]
    return tuple(shape for at, shape in enumerate(shapes) if shape not in shapes[:at])


def _assumed_shapes(
    own: Mapping[str, tuple[int | str | None, ...]], plans: Sequence[InputPlan]
) -> tuple[Shapes, dict[str, int]]:
    """A shape for each input, and the sizes among them that were made up.

    Args:
        own: input name → shape in the model.
        plans: of the inputs, with the shapes that the job declares.
    """
    sizes = {
        symbol: size
        for plan in plans
        for symbol, size in zip(own[plan.spec.name], _declared(plan), strict=True)
        if isinstance(symbol, str) and isinstance(size, int)
    }
    shapes: dict[str, tuple[int, ...]] = {}
    assumed: dict[str, int] = {}
    for plan in plans:
        name, declared = plan.spec.name, _declared(plan)
        shape = []
        for axis, (symbol, size) in enumerate(zip(own[name], declared, strict=True)):
            if isinstance(size, int) and size > 0:
                shape.append(size)
                continue
            label = next((known for known in (symbol, size) if isinstance(known, str)), f"{name}:{axis}")
            if label not in sizes:
                sizes[label] = assumed_size(symbol if isinstance(symbol, str) else "", axis, len(declared))
                if axis:
                    assumed[label] = sizes[label]
            shape.append(sizes[label])
        shapes[name] = tuple(shape)
    return shapes, assumed


def _declared(plan: InputPlan) -> tuple[int | str | None, ...]:
    return plan.spec.shape if plan.value is None else _value(plan, plan.value).shape


def _value(plan: InputPlan, value: Array) -> Array:
    """A declared value with its batch axis."""
    whole = value[None] if plan.batched and value.ndim == plan.raw_rank else value
    if whole.ndim != len(plan.spec.shape):
        what = f"a value of shape {list(value.shape)} does not fit the model's {list(plan.spec.shape)}"
        raise InputError(what, where=f"inputs.{plan.spec.name}.value")
    return whole


def _random_split(plans: Sequence[InputPlan], shapes: Sequence[Shapes], home: Path, seed: int) -> StoredDataset:
    random = np.random.default_rng(seed)
    samples = [({plan.spec.name: _feed(plan, shape, random) for plan in plans}, at, None) for at, shape in enumerate(shapes)]
    folder = home / digest(["synthetic", seed, [str(plan) for plan in plans], [sorted(shape.items()) for shape in shapes]])
    return write_split(folder, samples, [plan.spec for plan in plans], name="timing")


def _feed(plan: InputPlan, shapes: Shapes, random: np.random.Generator) -> Array:
    """The declared value, uniform floats, or small whole numbers."""
    spec = plan.spec
    if plan.value is not None:
        return _value(plan, plan.value)
    kind = np.dtype(spec.dtype).kind
    if kind == "f":
        return random.random(shapes[spec.name]).astype(spec.dtype)
    if kind in "iub":
        return random.integers(0, 2, shapes[spec.name]).astype(spec.dtype)
    raise InputError(f"input {spec.name!r} takes {spec.dtype}; samples of it cannot be made up", hint="give data with --data")
