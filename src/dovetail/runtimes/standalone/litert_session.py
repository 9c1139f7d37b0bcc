"""Runs one LiteRT model (``.tflite``). Needs numpy and ai-edge-litert (or tflite-runtime, where a board has that alone)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
except ModuleNotFoundError:
    from tflite_runtime.interpreter import Interpreter, OpResolverType  # type: ignore[import-not-found]

OPTIONS: dict[str, Any] = {}

_SIGNATURE = "serving_default"

Feeds = Mapping[str, Any]
Outputs = Sequence[Any]


def configure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the vendor's interpreter for ``options``; what is absent stays as the vendor has it."""
    chosen: dict[str, Any] = {"num_threads": options.get("threads") or 1}
    if not options.get("xnnpack", True):
        chosen["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return chosen


def _spec(name: str, tensor: Mapping[str, Any]) -> tuple[str, str, tuple[int | None, ...]]:
    shape, signature = tensor["shape"], tensor["shape_signature"]
    sizes = signature if len(signature) == len(shape) else shape
    return name, np.dtype(tensor["dtype"]).name, tuple(None if size < 0 else int(size) for size in sizes)


def _specs(tensors: Sequence[Mapping[str, Any]], named: Mapping[str, Mapping[str, Any]]) -> tuple[Any, ...]:
    """Tensors in the model's order under the names of its signature, which lists them by name alone."""
    names: dict[int, list[str]] = {}
    for name, tensor in named.items():
        names.setdefault(tensor["index"], []).append(name)
    return tuple(_spec((names.get(t["index"]) or [t["name"]]).pop(0), t) for t in tensors)


def _signature(vendor: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs by the names of the signature that stands for the main graph; empty without one."""
    places = [{(t["index"], t["name"]) for t in side} for side in (vendor.get_input_details(), vendor.get_output_details())]
    for key in sorted(vendor.get_signature_list(), key=lambda key: key != _SIGNATURE):
        runner = vendor.get_signature_runner(key)
        named = runner.get_input_details(), runner.get_output_details()
        if [{(t["index"], t["name"]) for t in side.values()} for side in named] == places:
            return named
    return {}, {}


class Session:
    """A model ready to run.

    The interpreter's own methods are called past its Python layer, which costs 0.3 µs per call. They copy inputs in and outputs
    out, and check dtype and shape of each input. Views of tensors, once checked, cost as much, and dangle when sizes change.

    Attributes:
        inputs: name, numpy dtype and shape of each input; ``None`` in a shape is a size that may vary.
        outputs: the same of each output.
        vendor: the interpreter, with its tensors allocated.
    """

    def __init__(
        self, path: str, options: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None
    ) -> None:
        options = OPTIONS if options is None else options
        self.vendor = Interpreter(model_path=str(path), **{**configure(options), **(properties or {})})
        self.vendor.allocate_tensors()
        inputs, outputs = self.vendor.get_input_details(), self.vendor.get_output_details()
        named_inputs, named_outputs = _signature(self.vendor)
        self.inputs = _specs(inputs, named_inputs)
        self.outputs = _specs(outputs, named_outputs)
        self.places = [(name, int(tensor["index"])) for (name, _, _), tensor in zip(self.inputs, inputs, strict=True)]
        self._results = [int(tensor["index"]) for tensor in outputs]
        self._shapes = [tuple(map(int, tensor["shape"])) for tensor in inputs]
        self._inner = self.vendor._interpreter
        self._set, self._invoke, self._get = self._inner.SetTensor, self._inner.Invoke, self._inner.GetTensor

    def run(self, feeds: Feeds) -> Outputs:
        """Outputs in the order of ``outputs``; the arrays belong to the caller."""
        if len(feeds) != len(self.places):
            raise KeyError(f"the model takes {[name for name, _ in self.places]}, not {list(feeds)}")
        try:
            for name, index in self.places:
                self._set(index, feeds[name])
        except ValueError:
            if not self._resize([np.shape(feeds[name]) for name, _ in self.places]):
                raise
            for name, index in self.places:
                self._set(index, feeds[name])
        self._invoke()
        return [self._get(index) for index in self._results]

    def _resize(self, shapes: list[tuple[int, ...]]) -> bool:
        """Makes room for other shapes, where the model lets these sizes vary; whether it did."""
        if shapes == self._shapes or not all(map(_fits, shapes, self.inputs)):
            return False
        try:
            self._allocate(shapes)
        except Exception:
            self._allocate(self._shapes)
            raise
        self._shapes = shapes
        return True

    def _allocate(self, shapes: list[tuple[int, ...]]) -> None:
        for (_, index), shape in zip(self.places, shapes, strict=True):
            self._inner.ResizeInputTensor(index, np.array(shape, np.int32), False)
        self._inner.AllocateTensors()


def _fits(shape: tuple[int, ...], spec: tuple[str, str, tuple[int | None, ...]]) -> bool:
    declared = spec[2]
    return len(shape) == len(declared) and all(size in (known, None) for known, size in zip(shape, declared, strict=True))
