"""Runs one ONNX model with ONNX Runtime. Needs numpy and onnxruntime, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

OPTIONS: dict[str, Any] = {}

_LEVELS = {"all": "ORT_ENABLE_ALL", "layout": "ORT_ENABLE_LAYOUT", "extended": "ORT_ENABLE_EXTENDED",
           "basic": "ORT_ENABLE_BASIC", "disable": "ORT_DISABLE_ALL"}  # fmt: skip
_MODES = {"sequential": "ORT_SEQUENTIAL", "parallel": "ORT_PARALLEL"}
_DTYPES = {"float": "float32", "double": "float64"}
_FATAL = 4

Feeds = Mapping[str, Any]
Outputs = Sequence[Any]


def configure(options: Mapping[str, Any]) -> Any:
    """Session options for ``options``; what is absent stays as the vendor has it, except that nothing is logged."""
    config = onnxruntime.SessionOptions()
    config.log_severity_level = _FATAL
    config.intra_op_num_threads = options.get("threads") or 0
    config.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[options.get("graph_opt", "all")])
    config.execution_mode = getattr(onnxruntime.ExecutionMode, _MODES[options.get("mode", "sequential")])
    config.enable_cpu_mem_arena = options.get("arena", True)
    config.add_session_config_entry("session.intra_op.allow_spinning", _flag(options.get("spinning", True)))
    config.add_session_config_entry("session.set_denormal_as_zero", _flag(options.get("denormals_zero", False)))
    config.add_session_config_entry("session.disable_prepacking", _flag(not options.get("prepacking", True)))
    return config


def _flag(value: bool) -> str:
    return "1" if value else "0"


def _spec(node: Any) -> tuple[str, str, tuple[Any, ...]]:
    element = node.type.removeprefix("tensor(").removesuffix(")")
    return node.name, _DTYPES.get(element, element), tuple(node.shape)


class Session:
    """A model ready to run.

    Attributes:
        inputs: name, numpy dtype and shape of each input; a string or ``None`` in a shape is a size that may vary.
        outputs: the same of each output.
        run: ``run(feeds) -> list of arrays`` in the order of ``outputs``; the arrays belong to the caller.
    """

    def __init__(self, path: str, options: Mapping[str, Any] | None = None, config: Any = None) -> None:
        options = OPTIONS if options is None else options
        onnxruntime.disable_telemetry_events()
        self.vendor = onnxruntime.InferenceSession(str(path), config or configure(options), providers=["CPUExecutionProvider"])
        self.inputs = tuple(_spec(node) for node in self.vendor.get_inputs())
        self.outputs = tuple(_spec(node) for node in self.vendor.get_outputs())
        self._names = [name for name, _, _ in self.outputs]
        self.run: Callable[[Feeds], Outputs] = self._run
        if options.get("io_binding"):
            self.run = _Bound(self.vendor, self._names)

    def _run(self, feeds: Feeds) -> Outputs:
        outputs: Outputs = self.vendor.run(self._names, feeds)
        return outputs


class _Bound:
    """Calls with preallocated buffers: feeds are copied in and results copied out, which is cheaper than new tensors.

    Buffers are made for one set of input shapes and made anew when it changes.
    """

    def __init__(self, vendor: Any, names: list[str]) -> None:
        self._vendor, self._names = vendor, names
        self._expected = {node.name for node in vendor.get_inputs()}
        self._feeds: dict[str, Any] = {}
        self._results: list[Any] = []
        self._binding: Any = None
        self._fixed_outputs = True

    def __call__(self, feeds: Feeds) -> Outputs:
        if self._binding is None or len(feeds) != len(self._feeds):
            return self._first(feeds)
        for name, buffer in self._feeds.items():
            value = feeds.get(name)
            if type(value) is not np.ndarray or value.shape != buffer.shape or value.dtype != buffer.dtype:
                return self._first(feeds)
            buffer[...] = value
        try:
            self._vendor.run_with_iobinding(self._binding)
        except Exception:
            # An output whose shape depends on values does not fit its buffer: such a model is never bound again.
            self._fixed_outputs, self._binding = False, None
            return self._first(feeds)
        return [result.copy() for result in self._results]

    def _first(self, feeds: Feeds) -> Outputs:
        outputs: Outputs = self._vendor.run(self._names, feeds)
        if self._fixed_outputs and feeds.keys() == self._expected:
            self._bind({name: np.asarray(value) for name, value in feeds.items()}, outputs)
        return outputs

    def _bind(self, feeds: Feeds, outputs: Outputs) -> None:
        self._feeds = {name: np.empty(value.shape, value.dtype) for name, value in feeds.items()}
        self._results = [np.empty(value.shape, value.dtype) for value in outputs]
        self._binding = self._vendor.io_binding()
        for name, buffer in self._feeds.items():
            self._binding.bind_input(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
        for name, buffer in zip(self._names, self._results, strict=True):
            self._binding.bind_output(name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
