"""ONNX Runtime on the processor."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import psutil

from dovetail.core.errors import ModelError
from dovetail.core.measurement import Environment
from dovetail.core.profile import Kernel, Profile
from dovetail.core.protocols import Feeds, Knob, Model, Runtime, Session
from dovetail.core.recipe import Scalar
from dovetail.runtimes.onnxruntime_trace import read_kernels, read_trace
from dovetail.runtimes.options import Option, flag, resolve, thread_counts
from dovetail.runtimes.timing import call_times, median
from dovetail.runtimes.wrapped import WrappedSession, source_with

if TYPE_CHECKING:
    from dovetail.runtimes.standalone import onnxruntime_session

_LEVELS = ("all", "layout", "extended", "basic", "disable")
_OPERATOR = re.compile(r"No Op registered for (\S+)|Fatal error: (\S+?)\(|implementation for (\S+?)\(")


class OnnxRuntime(Runtime):
    """ONNX Runtime's CPU provider with the options that can make a difference there."""

    name: ClassVar[str] = "onnxruntime"
    formats: ClassVar[frozenset[str]] = frozenset({"onnx"})
    requirement: ClassVar[str] = "onnxruntime"

    def missing(self) -> str | None:
        """One line when the package is absent."""
        found = importlib.util.find_spec("onnxruntime")
        return None if found else "onnxruntime is not installed: pip install onnxruntime"

    def knobs(self, environment: Environment) -> tuple[Knob, ...]:
        """Threads first, since they decide most; what trades speed for nothing here (less optimisation) is not tried."""
        return tuple(option.knob() for option in _options(environment.cores))

    def build(self, model: Model, options: Mapping[str, Scalar]) -> Session:
        """Loads and optimises the model.

        Raises:
            ModelError: not a valid model, or an operator that ONNX Runtime lacks.
            InputError: an option it does not have.
        """
        return _OnnxRuntimeSession(model.path, resolve(self.name, _options(1), options))

    def run_source(self, options: Mapping[str, Scalar]) -> str:
        """The session's own source file with these options written in."""
        from dovetail.runtimes.standalone import onnxruntime_session

        return source_with(onnxruntime_session, resolve(self.name, _options(1), options))


def _options(cores: int) -> tuple[Option, ...]:
    return (
        Option(name="threads", default=None, tries=thread_counts(cores), help="threads inside an operator"),
        flag("io_binding", False, "copy through preallocated buffers instead of new tensors", tries=(True,)),
        flag("spinning", True, "waiting threads spin instead of sleeping", tries=(False,) if cores > 1 else ()),
        Option(name="graph_opt", default="all", values=_LEVELS, help="level of graph optimisation"),
        Option(name="mode", default="sequential", values=("sequential", "parallel"), help="order of independent operators"),
        flag("arena", True, "keep freed memory for the next call"),
        flag("prepacking", True, "reorder weights once when loading"),
        flag("denormals_zero", False, "treat denormal numbers as zero", lossless=False),
    )


class _OnnxRuntimeSession(WrappedSession["onnxruntime_session.Session"]):
    vendor: ClassVar[str] = "ONNX Runtime"

    def __init__(self, path: Path, options: Mapping[str, Scalar]) -> None:
        super().__init__(path, _load(path, options))
        self._options = options

    def _reason(self, error: Exception) -> str:
        return _last_line(error)

    def profile(self, feeds: Feeds, repeats: int = 30) -> Profile:
        self.run(feeds)
        call_s = median(call_times(self._call, feeds, repeats))
        with tempfile.TemporaryDirectory() as folder:
            traced = _load(self._path, {**self._options, "io_binding": False}, trace=Path(folder) / "trace")
            traced_s = median(call_times(traced.run, feeds, repeats))
            trace = Path(traced.vendor.end_profiling())
            kernels = read_trace(trace.read_text(), call_s=call_s, traced_call_s=traced_s)
        shapes = {kernel.name: kernel.inputs for kernel in self.kernels(feeds)}
        kernels = tuple(replace(kernel, inputs=shapes.get(kernel.name, kernel.inputs)) for kernel in kernels)
        return Profile(runtime=OnnxRuntime.name, call_s=call_s, kernels=kernels, threads=self._threads())

    def kernels(self, feeds: Feeds) -> tuple[Kernel, ...]:
        """Weights that are reordered when a model is loaded bear no shape any more, so here they are left as they are."""
        plain = {**self._options, "io_binding": False, "prepacking": False}
        with tempfile.TemporaryDirectory() as folder:
            traced = _load(self._path, plain, trace=Path(folder) / "trace")
            traced.run(feeds)
            return read_kernels(Path(traced.vendor.end_profiling()).read_text())

    def _threads(self) -> int:
        chosen = self._options["threads"]
        return chosen if isinstance(chosen, int) else psutil.cpu_count(logical=False) or 1


def _load(path: Path, options: Mapping[str, Scalar], trace: Path | None = None) -> onnxruntime_session.Session:
    from dovetail.runtimes.standalone import onnxruntime_session

    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    config = onnxruntime_session.configure(options)
    if trace is not None:
        config.enable_profiling = True
        config.profile_file_prefix = str(trace)
    try:
        session = onnxruntime_session.Session(str(path), options, config)
    except Exception as error:
        raise _refused(path, error) from error
    for name, dtype, _ in (*session.inputs, *session.outputs):
        if "(" in dtype:
            raise ModelError(f"{name} is a {dtype}; only tensors are taken", where=str(path))
    return session


def _refused(path: Path, error: Exception) -> ModelError:
    """ONNX Runtime's errors share no base class, so its own text decides; the only place that reads it."""
    found = _OPERATOR.search(str(error))
    if found:
        operator = next(group for group in found.groups() if group)
        return ModelError(f"ONNX Runtime has no operator {operator} for this model", where=str(path))
    return ModelError(f"ONNX Runtime cannot load the model: {_last_line(error)}", where=str(path))


def _last_line(error: Exception) -> str:
    return str(error).rpartition("[ONNXRuntimeError] : ")[2].strip().replace("\n", " ")[:300]
