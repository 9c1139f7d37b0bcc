"""Runs one model with OpenVINO on the processor. Needs numpy and openvino, nothing else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

# Importing openvino reports the import over the network unless its reporter is absent, for which it has a silent stand-in.
if "openvino_telemetry" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import numpy as np
import openvino

OPTIONS: dict[str, Any] = {}

_PROPERTIES = {
    "threads": "INFERENCE_NUM_THREADS",
    "precision": "INFERENCE_PRECISION_HINT",
    "mode": "PERFORMANCE_HINT",
    "streams": "NUM_STREAMS",
    "pinning": "ENABLE_CPU_PINNING",
    "hyper_threading": "ENABLE_HYPER_THREADING",
    "dynamic_quantization": "DYNAMIC_QUANTIZATION_GROUP_SIZE",
}
# Copying a smaller input into a tensor that is already set costs less than setting another tensor.
_COPY_BYTES = 1 << 16
_MAX_STATIC = 8

Feeds = Mapping[str, Any]
Outputs = Sequence[Any]


def configure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Compile properties for ``options``; what is absent or ``None`` stays as the vendor has it."""
    chosen = {_PROPERTIES[key]: value for key, value in options.items() if key in _PROPERTIES and value is not None}
    if chosen.get("INFERENCE_PRECISION_HINT") == "default":
        del chosen["INFERENCE_PRECISION_HINT"]
    if "PERFORMANCE_HINT" in chosen:
        chosen["PERFORMANCE_HINT"] = chosen["PERFORMANCE_HINT"].upper()
    return chosen


def _spec(port: Any) -> tuple[str, str, tuple[int | None, ...]]:
    """A port may have several names; the node's own, where it is one of them, is the model's."""
    names = port.get_names()
    own = port.get_node().friendly_name.removesuffix("/sink_port_0")
    name = own if own in names or not names else min(names)
    shape = port.partial_shape
    sizes = tuple(size.get_length() if size.is_static else None for size in shape) if shape.rank.is_static else ()
    return name, np.dtype(port.element_type.to_dtype()).name, sizes


class Session:
    """A model ready to run.

    Attributes:
        inputs: name, numpy dtype and shape of each input; ``None`` in a shape is a size that may vary.
        outputs: the same of each output.
    """

    def __init__(
        self, path: str, options: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None
    ) -> None:
        options = OPTIONS if options is None else options
        self._core = openvino.Core()
        self._model = self._core.read_model(str(path))
        self._properties = {**configure(options), **(properties or {})}
        self.inputs = tuple(_spec(port) for port in self._model.inputs)
        self.outputs = tuple(_spec(port) for port in self._model.outputs)
        self._names = [name for name, _, _ in self.inputs]
        varies = any(size is None for _, _, shape in self.inputs for size in shape)
        self._static: dict[tuple[Any, ...], Any] | None = {} if options.get("static") and varies else None
        if self._static is None:
            self._take(self._core.compile_model(self._model, "CPU", self._properties))

    def _take(self, compiled: Any) -> None:
        self.compiled = compiled
        self._request = compiled.create_infer_request()
        self._buffers: list[Any] = [None] * len(self._names)

    def run(self, feeds: Feeds) -> Outputs:
        """Outputs in the order of ``outputs``; the arrays belong to the caller.

        Inputs are copied into tensors that stay set, and ``infer`` without arguments returns copies: that spares the vendor's
        own dispatch of inputs, which costs about 10 µs per call.
        """
        if len(feeds) != len(self._names):
            raise KeyError(f"the model takes {self._names}, not {list(feeds)}")
        if self._static is not None:
            self._specialise(tuple(feeds[name].shape for name in self._names))
        for index, name in enumerate(self._names):
            value, buffer = feeds[name], self._buffers[index]
            if buffer is None or value.shape != buffer.shape:
                buffer = self._set(index, value)
            if buffer is not None:
                if value.dtype != buffer.dtype:
                    raise TypeError(f"{name} is {buffer.dtype}, not {value.dtype}")
                buffer[...] = value
        return list(self._request.infer().values())

    def _set(self, index: int, value: Any) -> Any:
        """Sets an input tensor over the caller's memory where that is large, else over a buffer, which is returned."""
        expected = np.dtype(self.inputs[index][1])
        shareable = value.nbytes > _COPY_BYTES and value.flags.c_contiguous and value.flags.writeable
        if shareable and value.dtype == expected:
            self._buffers[index] = None
            self._request.set_input_tensor(index, openvino.Tensor(value, shared_memory=True))
            return None
        buffer = np.zeros(value.shape, expected)
        self._request.set_input_tensor(index, openvino.Tensor(buffer, shared_memory=True))
        self._buffers[index] = buffer
        return buffer

    def _specialise(self, shapes: tuple[Any, ...]) -> None:
        """Switches to a model compiled for these shapes alone; the eight latest are kept."""
        assert self._static is not None
        known = self._static.get(shapes)
        if known is None:
            model = self._model.clone()
            model.reshape(dict(zip(model.inputs, shapes, strict=True)))
            known = self._core.compile_model(model, "CPU", self._properties)
            if len(self._static) == _MAX_STATIC:
                del self._static[next(iter(self._static))]
            self._static[shapes] = known
            self._take(known)
        elif known is not self.compiled:
            self._take(known)
