"""Sessions around those of ``standalone/``, which artifacts hold too: what the wrapping adds is clear errors and an end."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from dovetail.core.errors import DataError, DovetailError, InputError, ModelError
from dovetail.core.protocols import Feeds, Outputs, Session, TensorSpec
from dovetail.core.recipe import Scalar
from dovetail.runtimes.feeds import check_feeds

_OPTIONS = "OPTIONS: dict[str, Any] = {}"


class Standalone(Protocol):
    """What every session of ``standalone/`` has: name, numpy dtype and shape of each port, and the call."""

    @property
    def inputs(self) -> Sequence[Any]:
        """Of the model, in its order."""
        ...

    @property
    def outputs(self) -> Sequence[Any]:
        """The same."""
        ...

    @property
    def run(self) -> Callable[[Feeds], Outputs]:
        """The call."""
        ...


S = TypeVar("S", bound=Standalone)


class WrappedSession(Session, Generic[S]):
    """A vendor's session.

    Args:
        path: of the model, for messages.
        inner: the standalone session.
    """

    vendor: ClassVar[str]

    def __init__(self, path: Path, inner: S) -> None:
        self._path = path
        self._inner: S | None = inner
        self.inputs = tuple(TensorSpec(name=n, dtype=d, shape=s) for n, d, s in inner.inputs)
        self.outputs = tuple(TensorSpec(name=n, dtype=d, shape=s) for n, d, s in inner.outputs)
        self._call = inner.run

    def run(self, feeds: Feeds) -> Outputs:
        """The vendor's call; feeds are checked when it fails, so that good ones cost nothing."""
        try:
            return self._call(feeds)
        except Exception as error:
            raise self._explained(feeds, error) from error

    def _explained(self, feeds: Feeds, error: Exception) -> DovetailError:
        if self._inner is None:
            return InputError("the session is closed", where=str(self._path))
        try:
            check_feeds(self.inputs, feeds)
        except DataError as wrong_feed:
            return wrong_feed
        return ModelError(f"{self.vendor} failed while it computed: {self._reason(error)}", where=str(self._path))

    @abstractmethod
    def _reason(self, error: Exception) -> str:
        """What the vendor's error says, in one line."""

    def close(self) -> None:
        """Lets the vendor's session go."""
        self._inner = None
        self._call = _refuse


def _refuse(feeds: Feeds) -> Outputs:
    raise InputError("the session is closed")


def source_with(module: ModuleType, options: Mapping[str, Scalar]) -> str:
    """Source of a module of ``standalone/`` with options written in."""
    source = inspect.getsource(module)
    assert _OPTIONS in source, f"{module.__name__} has no line {_OPTIONS!r}"
    return source.replace(_OPTIONS, f"OPTIONS: dict[str, Any] = {dict(options)!r}")
