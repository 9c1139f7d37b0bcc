"""What it takes to get a model onto a device, from 1 to 5; the scale is explained in ``docs/devices.md``."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.core.device import LEAST_DEPLOYMENT, Fact, Kind
from dovetail.core.source import Source, SourceKind

_PLATFORMS = {
    1: ("pytorch-cpu", "onnxruntime", "openvino", "ai-edge-litert", "tflite", "torch", "llama.cpp", "ncnn", "metal", "mlx"),
    2: ("cuda", "rocm", "oneapi", "xla", "jax", "synapseai", "cann"),
    3: ("neuron", "qnn", "coreml"),
    4: ("hailo dataflow compiler", "edgetpu compiler", "imAIgine SDK", "vitis-ai", "x-cube-ai", "tflite-micro"),
    5: ("openvino FPGA AI suite", "groq compiler", "cerebras SDK"),
}
_LEVELS = {platform.lower(): level for level, platforms in _PLATFORMS.items() for platform in platforms}


def deployment(kind: Kind, software: Sequence[str]) -> Fact | None:
    """The level of the platform that the device is reached through, its first software; ``None`` where that is not known."""
    level = _LEVELS.get(software[0].lower()) if software else None
    if level is None:
        return None
    level = max(level, LEAST_DEPLOYMENT.get(kind, 1))
    ref = f"rule in docs/devices.md: kind {kind}, reached through {software[0]}"
    return Fact(value=float(level), source=Source(kind=SourceKind.DERIVED, ref=ref))
