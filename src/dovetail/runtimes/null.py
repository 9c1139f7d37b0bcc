"""A runtime that computes nothing, so that everything around a runtime can be tried in no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import sleep
from typing import ClassVar

import numpy as np

from dovetail.core.errors import InputError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Feeds, Knob, Model, Outputs, Runtime, Session, TensorSpec
from dovetail.core.recipe import Scalar
from dovetail.runtimes.feeds import check_feeds
from dovetail.runtimes.onnx_signature import read_signature
from dovetail.runtimes.options import Option, resolve

_OPTIONS = (Option(name="delay_s", default=0.0, is_time=True, help="seconds that a call takes"),)


class NullRuntime(Runtime):
    """Answers every call with zeros of the declared output shapes, after ``delay_s`` seconds."""

    name: ClassVar[str] = "null"
    formats: ClassVar[frozenset[str]] = frozenset({"onnx"})

    def missing(self) -> str | None:
        """Nothing ever is."""
        return None

    def knobs(self, environment: Environment) -> tuple[Knob, ...]:
        """Nothing to tune."""
        return tuple(option.knob() for option in _OPTIONS)

    def build(self, model: Model, options: Mapping[str, Scalar]) -> Session:
        """Reads the model's inputs and outputs.

        Raises:
            ModelError: not an ONNX file.
            InputError: an option it does not have.
        """
        delay_s = resolve(self.name, _OPTIONS, options)["delay_s"]
        assert isinstance(delay_s, int | float)
        inputs, outputs = read_signature(model.path)
        return _NullSession(inputs, outputs, float(delay_s))


class _NullSession(Session):
    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], delay_s: float) -> None:
        self.inputs, self.outputs, self._delay_s = inputs, outputs, delay_s
        self._closed = False

    def run(self, feeds: Feeds) -> Outputs:
        if self._closed:
            raise InputError("the session is closed")
        check_feeds(self.inputs, feeds)
        sizes = {
            size: feeds[spec.name].shape[axis]
            for spec in self.inputs
            for axis, size in enumerate(spec.shape)
            if isinstance(size, str)
        }
        if self._delay_s:
            sleep(self._delay_s)
        return [np.zeros(_concrete(spec.shape, sizes), spec.dtype) for spec in self.outputs]

    def close(self) -> None:
        self._closed = True


def _concrete(shape: Sequence[int | str | None], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Symbolic sizes as the feeds have them, unknown ones as 1."""
    return tuple(size if isinstance(size, int) else sizes.get(size or "", 1) for size in shape)
