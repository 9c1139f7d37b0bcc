"""A float graph together with the range of each activation: what static quantisation needs, whichever layers stay float."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dovetail.compress import bias_correction, calibration, onnx_file, qdq, smooth
from dovetail.compress.quantize_static import Config
from dovetail.compress.ranges import tensor_range
from dovetail.core.protocols import Dataset, Model

WEIGHTED_TYPES = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A float model and how it is to be quantised.

    Attributes:
        proto: ``onnx.ModelProto`` with inferred shapes, smoothed and bias-corrected where that was asked for.
        ranges: tensor name → (low, high), in the tensor's unit.
        scope: which operators are quantised.
        grid: the integer types.
    """

    proto: Any
    ranges: Mapping[str, tuple[float, float]]
    scope: qdq.Scope
    grid: qdq.Grid

    def quantised(self, also_float: Collection[str] = ()) -> Any:
        """The QDQ ``onnx.ModelProto``, with further operators kept in float.

        Raises:
            ModelError: nothing is left to quantise, or ONNX Runtime's quantiser refuses the graph.
        """
        scope = replace(self.scope, exclude=self.scope.exclude | set(also_float))
        return qdq.quantize(self.proto, self.ranges, self.grid, scope)

    def layers(self) -> list[str]:
        """Names of the quantised operators that have weights, in graph order."""
        weights = onnx_file.constants(self.proto)
        nodes = [n for n in self.proto.graph.node if n.op_type in WEIGHTED_TYPES and self.scope.covers(n)]
        return [n.name for n in nodes if n.input[1] in weights]


def calibrate(model: Model, config: Config, dataset: Dataset, progress: calibration.Progress) -> Calibrated:
    """Reads a model and finds the range of every activation to be quantised.

    Raises:
        ModelError: the model cannot be quantised.
        DataError: the samples do not fit the model.
        InputError: ``exclude`` names no operator of the graph.
    """
    proto = onnx_file.load(model, where="quantize_static")
    onnx_file.check_names(proto, config.exclude, "quantize_static.exclude")
    scope = qdq.scope(proto, config.scheme, config.include_types, config.exclude_types, config.exclude)
    if config.smooth is not None:
        proto = smooth.smoothed(proto, scope, dataset, config.samples, config.smooth)
    found = calibration.histograms(proto, qdq.activations(proto, scope), dataset, config.samples, progress)
    scope = replace(scope, exclude=scope.exclude | qdq.masks(proto, found))
    ranges = {
        name: tensor_range(h, config.method, percentile=config.percentile, symmetric=config.symmetric_activation)
        for name, h in found.items()
    }
    result = Calibrated(proto=proto, ranges=ranges, scope=scope, grid=config.grid())
    if not config.bias_correction:
        return result
    corrected = bias_correction.corrected(proto, result.quantised(), dataset, config.samples)
    return replace(result, proto=corrected)
