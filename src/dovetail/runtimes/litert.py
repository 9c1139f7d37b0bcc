"""LiteRT (formerly TensorFlow Lite) on the processor, through XNNPACK."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.measurement import Environment
from dovetail.core.profile import Kernel, Profile
from dovetail.core.protocols import Feeds, Knob, Model, Runtime, Session
from dovetail.core.recipe import Scalar
from dovetail.runtimes.options import Option, flag, resolve, thread_counts
from dovetail.runtimes.timing import call_times, median
from dovetail.runtimes.wrapped import WrappedSession, source_with

if TYPE_CHECKING:
    from dovetail.runtimes.standalone import litert_session

_IDENTIFIER = b"TFL3"
_LACKING = re.compile(
    r"unresolved custom op: (\S+)|Select TensorFlow op.*\((\S+)\) failed|builtin opcode '(\w+)' version '(\d+)'", re.DOTALL
)
_FAILING = re.compile(r"\s*Node number \d+ \((\S+)\) failed to \w+\.?")
_NUMBERS = "biuf"
# For up to 0.1 s the scheduler may leave a new thread on the core of the one that waits for it.
_SETTLING_S = 0.15


class LiteRt(Runtime):
    """LiteRT's interpreter.

    The vendor's newer ``CompiledModel`` runs the same kernels, and costs 0.8 to 2 µs more per call.
    """

    name: ClassVar[str] = "litert"
    formats: ClassVar[frozenset[str]] = frozenset({"litert"})
    requirement: ClassVar[str] = "ai-edge-litert"

    def missing(self) -> str | None:
        """One line when the package is absent."""
        found = importlib.util.find_spec("ai_edge_litert")
        return None if found else "ai-edge-litert is not installed: pip install ai-edge-litert"

    def knobs(self, environment: Environment) -> tuple[Knob, ...]:
        """Threads alone: plain kernels in place of XNNPACK's were never faster, and the interpreter offers nothing else."""
        return tuple(option.knob() for option in _options(environment.cores))

    def build(self, model: Model, options: Mapping[str, Scalar]) -> Session:
        """Loads the model and packs its weights.

        Raises:
            ModelError: not a LiteRT model, a damaged one, or an operator that LiteRT lacks.
            InputError: an option it does not have.
        """
        return _LiteRtSession(model.path, resolve(self.name, _options(1), options))

    def run_source(self, options: Mapping[str, Scalar]) -> str:
        """The session's own source file with these options written in."""
        from dovetail.runtimes.standalone import litert_session

        return source_with(litert_session, resolve(self.name, _options(1), options))


def _options(cores: int) -> tuple[Option, ...]:
    """Left alone, LiteRT takes one thread, so here all cores are a choice of their own, and one is not."""
    counts = tuple(count for count in dict.fromkeys((cores, *thread_counts(cores))) if count > 1)
    return (
        Option(name="threads", default=None, tries=counts, help="threads inside an operator; LiteRT's own choice is one"),
        flag("xnnpack", True, "compute with XNNPACK instead of LiteRT's own kernels"),
    )


class _LiteRtSession(WrappedSession["litert_session.Session"]):
    vendor: ClassVar[str] = "LiteRT"

    def __init__(self, path: Path, options: Mapping[str, Scalar]) -> None:
        super().__init__(path, _load(path, options))
        self._options = options

    def _reason(self, error: Exception) -> str:
        return _reason(error)

    def profile(self, feeds: Feeds, repeats: int = 30) -> Profile:
        from dovetail.runtimes.litert_profile import operator_times

        start = perf_counter()
        while perf_counter() - start < _SETTLING_S:
            self.run(feeds)
        call_s = median(call_times(self._call, feeds, repeats))
        kernels = operator_times(self._path, self._options, feeds, repeats, call_s)
        return Profile(runtime=LiteRt.name, call_s=call_s, kernels=kernels, threads=self._threads())

    def kernels(self, feeds: Feeds) -> tuple[Kernel, ...]:
        from dovetail.runtimes.litert_profile import operators

        return operators(self._path, feeds)

    def _threads(self) -> int:
        chosen = self._options["threads"]
        return chosen if isinstance(chosen, int) else 1


def _load(path: Path, options: Mapping[str, Scalar]) -> litert_session.Session:
    from dovetail.runtimes.standalone import litert_session

    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    with path.open("rb") as file:
        if file.read(8)[4:] != _IDENTIFIER:
            raise ModelError("not a LiteRT model: it does not bear the mark TFL3", where=str(path))
    try:
        session = litert_session.Session(str(path), options)
    except Exception as error:
        raise _refused(path, error) from error
    for name, dtype, _ in (*session.inputs, *session.outputs):
        if np.dtype(dtype).kind not in _NUMBERS:
            raise ModelError(f"{name} holds {dtype}; only tensors of numbers are taken", where=str(path))
    return session


def _refused(path: Path, error: Exception) -> ModelError:
    """LiteRT raises ValueErrors and RuntimeErrors for everything, so its own text decides; the only place that reads it."""
    text = str(error)
    lacking = _LACKING.search(text)
    if lacking:
        operator = lacking[1] or lacking[2] or f"{lacking[3]} in version {lacking[4]}"
        return ModelError(f"LiteRT has no operator {operator} for this model", where=str(path))
    failing = _FAILING.search(text)
    if failing:
        return ModelError(f"LiteRT cannot take the model's operator {failing[1]}: {_reason(error)}", where=str(path))
    if "not a valid Flatbuffer" in text:
        return ModelError("the file is damaged or cut short", where=str(path), hint="copy or convert it again")
    return ModelError(f"LiteRT cannot load the model: {_reason(error)}", where=str(path))


def _reason(error: Exception) -> str:
    return " ".join(_FAILING.sub("", str(error)).split())[:300] or type(error).__name__
