"""What it takes to get a model onto a device, from 1 to 5; the scale is explained in ``docs/devices.md``."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.core.device import Fact, Kind
from dovetail.core.source import Source, SourceKind

SCALE = {
    1: "install a package",
    2: "a driver and a framework built for it",
    3: "export the model and compile it with the vendor's compiler",
    4: "a fixed toolchain: quantised, only its operators",
    5: "design hardware, or a closed service",
}

_PLATFORMS = {
    1: ("pytorch-cpu", "onnxruntime", "openvino", "ai-edge-litert", "tflite", "torch", "llama.cpp", "ncnn", "metal", "mlx"),
    2: ("cuda", "rocm", "oneapi", "xla", "jax", "synapseai", "cann"),
    3: ("neuron", "qnn", "coreml"),
    4: ("hailo dataflow compiler", "edgetpu compiler", "imAIgine SDK", "vitis-ai", "x-cube-ai", "tflite-micro"),
    5: ("openvino FPGA AI suite", "groq compiler", "cerebras SDK"),
}
_LEVELS = {platform.lower(): level for level, platforms in _PLATFORMS.items() for platform in platforms}
_LEAST = {Kind.NPU: 3, Kind.FPGA: 4, Kind.MCU: 4}
"""A library that runs on a processor as it is still needs a compiler where the device is one of these."""


def deployment(kind: Kind, software: Sequence[str]) -> Fact | None:
    """The level of the platform that the device is reached through, its first software; ``None`` where that is not known."""
    level = _LEVELS.get(software[0].lower()) if software else None
    if level is None:
        return None
    level = max(level, _LEAST.get(kind, 1))
    ref = f"rule in docs/devices.md: kind {kind}, reached through {software[0]}"
    return Fact(value=float(level), source=Source(kind=SourceKind.DERIVED, ref=ref))
