"""PyTorch on the processor, eager or compiled. It runs ONNX models through our own conversion (:mod:`.torch_graph`)."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dovetail.core.errors import DataError, DovetailError, InputError, MissingDependency, ModelError
from dovetail.core.measurement import Environment
from dovetail.core.profile import KernelTime, Profile
from dovetail.core.protocols import Feeds, Knob, Model, Outputs, Runtime, Session
from dovetail.core.recipe import Scalar
from dovetail.runtimes.feeds import check_feeds
from dovetail.runtimes.onnx_signature import read_signature
from dovetail.runtimes.options import Option, flag, resolve, thread_counts
from dovetail.runtimes.timing import call_times, median

_EXTRA = "dovetail[torch]"


_MOST_SHAPES = 64
"""Input shapes whose graphs are kept; the oldest goes first."""


class TorchRuntime(Runtime):
    """Eager or compiled torch in float32 or bfloat16; the module is specialised to each set of input shapes."""

    name: ClassVar[str] = "torch"
    formats: ClassVar[frozenset[str]] = frozenset({"onnx"})
    requirement: ClassVar[str] = _EXTRA
    integer_forms: ClassVar[frozenset[str]] = frozenset()

    def missing(self) -> str | None:
        """One line when the extra is absent."""
        return None if importlib.util.find_spec("torch") else f"torch is not installed: pip install '{_EXTRA}'"

    def knobs(self, environment: Environment) -> tuple[Knob, ...]:
        """Compilation is offered where a C++ compiler is found, bfloat16 where the processor computes in it."""
        return tuple(option.knob() for option in _options(environment.cores, environment.isa, compiler() is not None))

    def build(self, model: Model, options: Mapping[str, Scalar]) -> Session:
        """Reads the model; it is converted at the first call with given shapes.

        Raises:
            ModelError: not a valid model, or operators that have no conversion.
            InputError: an option it does not have.
            MissingDependency: no torch, or ``compile`` without a C++ compiler.
        """
        missing = self.missing()
        if missing:
            raise MissingDependency("torch is not installed", hint=f"pip install '{_EXTRA}'")
        chosen = resolve(self.name, _options(1), options)
        if chosen["compile"] and compiler() is None:
            raise MissingDependency("torch.compile needs a C++ compiler", hint="install g++ or clang++, or set CXX")
        return _TorchSession(model.path, chosen)


def compiler() -> str | None:
    """The C++ compiler that torch.compile would find."""
    return next((found for name in (os.environ.get("CXX"), "g++", "clang++") if name and (found := shutil.which(name))), None)


def _options(cores: int, isa: tuple[str, ...] = (), can_compile: bool = False) -> tuple[Option, ...]:
    low = ("bf16",) if {"avx512_bf16", "amx_bf16", "bf16"} & set(isa) else ()
    return (
        flag("compile", False, "compile with TorchInductor", tries=(True,) if can_compile else ()),
        Option(name="threads", default=None, tries=thread_counts(cores), help="threads inside an operator"),
        Option(name="precision", default="f32", values=("f32", "bf16"), tries=low, lossless=False, help="numeric type"),
    )


class _TorchSession(Session):
    def __init__(self, path: Path, options: Mapping[str, Scalar]) -> None:
        import torch

        from dovetail.runtimes.torch_graph import check_operators
        from dovetail.runtimes.torch_ops import LOWERINGS

        self._path, self._options, self._torch = path, options, torch
        self.inputs, self.outputs = read_signature(path)
        self._model = _read(path)
        check_operators(self._model, LOWERINGS)
        self._names = [spec.name for spec in self.inputs]
        self._modules: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self._weights: Any = None
        if isinstance(options["threads"], int):
            torch.set_num_threads(options["threads"])

    def run(self, feeds: Feeds) -> Outputs:
        try:
            return self._call(feeds)
        except DovetailError:
            raise
        except Exception as error:
            raise self._explained(feeds, error) from error

    def _call(self, feeds: Feeds) -> Outputs:
        if len(feeds) != len(self._names):
            raise KeyError(f"the model takes {self._names}, not {list(feeds)}")
        values = [feeds[name] for name in self._names]
        key = tuple([(value.shape, value.dtype) for value in values])
        module = self._modules[key] if key in self._modules else self._specialise(key, feeds)
        with self._torch.inference_mode():
            results = module(*[self._torch.from_numpy(np.require(value, requirements=["C", "W"])) for value in values])
        return [result.numpy() for result in results]

    def _specialise(self, key: tuple[Any, ...], feeds: Feeds) -> Callable[..., Any]:
        """Converts, and compiles where asked to, for these shapes."""
        from dovetail.runtimes.torch_graph import Weights, convert
        from dovetail.runtimes.torch_ops import LOWERINGS

        if self._model is None:
            raise InputError("the session is closed", where=str(self._path))
        check_feeds(self.inputs, feeds)
        if self._weights is None:
            dtype = self._torch.bfloat16 if self._options["precision"] == "bf16" else self._torch.float32
            self._weights = Weights(self._model, dtype)
        module = convert(self._model, feeds, LOWERINGS, self._weights).eval()
        if len(self._modules) >= _MOST_SHAPES:
            self._modules.pop(next(iter(self._modules)))
        self._modules[key] = self._torch.compile(module, dynamic=False) if self._options["compile"] else module
        return self._modules[key]

    def _explained(self, feeds: Feeds, error: Exception) -> DovetailError:
        try:
            check_feeds(self.inputs, feeds)
        except DataError as wrong_feed:
            return wrong_feed
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        return ModelError(f"torch failed while it computed: {type(error).__name__}: {reason}", where=str(self._path))

    def profile(self, feeds: Feeds, repeats: int = 30) -> Profile:
        """The profiler's own cost is shared out: kernels are scaled to fit an unprofiled call."""
        profiler = self._torch.profiler
        call_s = median(call_times(self.run, feeds, repeats))
        with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as trace:
            for _ in range(repeats):
                self.run(feeds)
        spent = {event.key: event.self_cpu_time_total * 1e-6 / repeats for event in trace.key_averages()}
        scale = min(1.0, call_s / max(sum(spent.values()), call_s))
        kernels = tuple(KernelTime(name=key, kind=key, time_s=time * scale) for key, time in spent.items())
        return Profile(runtime=TorchRuntime.name, call_s=call_s, kernels=kernels, threads=self._torch.get_num_threads())

    def close(self) -> None:
        self._model = self._weights = None
        self._modules.clear()


def _read(path: Path) -> Any:
    import onnx

    try:
        return onnx.load(str(path))
    except Exception as error:
        raise ModelError(f"the model cannot be read: {error}", where=str(path)) from error
