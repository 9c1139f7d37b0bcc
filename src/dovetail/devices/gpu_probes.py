"""Measures one thing of a torch device: products, convolutions, copies, launches, the link to the host.

The same code runs on ``cuda:0`` (cuBLAS, cuDNN) and on ``cpu``. Bytes are counted once an operand; triad is STREAM's
``a = b + s·c`` (McCalpin, https://www.cs.virginia.edu/stream/ref.html).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from dovetail.core.device import STORED_BYTES
from dovetail.core.gpu import GpuProbe, GpuRow
from dovetail.devices.gpu_timer import timer

_TORCH = {
    "fp64": "float64", "fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp8": "float8_e4m3fn",
    "int8": "int8",
}  # fmt: skip
_LINK = ("to_device", "to_host")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What a probe does: an action, and what one call of it computes and moves."""

    action: Callable[[], Any]
    flop: float
    bytes: float


def measure(probe: GpuProbe, device: str) -> GpuRow | None:
    """One measurement; ``None`` where the device has no such thing, as a processor has no link to the host.

    Raises:
        RuntimeError: the device does not take that type, or has too little memory.
    """
    import torch

    if probe.kind in _LINK and not device.startswith("cuda"):
        return None
    with _precision(torch, probe.dtype), torch.inference_mode():
        work = _KINDS[probe.kind](torch, probe, device)
        clock = timer(torch, device)
        seconds = clock.typical_s(_waiting(work.action, clock.wait) if probe.kind == "call" else work.action, probe.seconds)
    return GpuRow(probe=probe, time_s=seconds, flop=work.flop, bytes=work.bytes)


def identity(device: str) -> dict[str, Any]:
    """Name, uuid and memory of a device as torch tells them, and torch's version.

    Raises:
        RuntimeError: torch has no such device.
    """
    import torch

    if not device.startswith("cuda"):
        torch.empty(1, device=device)
        return {"torch": torch.__version__, "name": device, "uuid": "", "memory_bytes": None, "capability": ""}
    facts = torch.cuda.get_device_properties(device)
    found = str(getattr(facts, "uuid", ""))
    return {
        "torch": torch.__version__,
        "name": facts.name,
        "uuid": found if not found or found.startswith("GPU-") else f"GPU-{found}",
        "memory_bytes": float(facts.total_memory),
        "capability": f"{facts.major}.{facts.minor}",
    }


def _waiting(action: Callable[[], Any], wait: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        action()
        wait()

    return call


def _precision(torch: Any, dtype: str) -> AbstractContextManager[Any]:
    """fp32 in full, or as tf32 on tensor cores, in products and convolutions alike."""
    return _Tf32(torch, dtype == "tf32") if dtype in ("fp32", "tf32") and torch.cuda.is_available() else nullcontext()


class _Tf32:
    """Sets both switches for a while."""

    def __init__(self, torch: Any, allowed: bool) -> None:
        self._places = (torch.backends.cuda.matmul, torch.backends.cudnn)
        self._allowed = allowed

    def __enter__(self) -> None:
        self._before = [place.allow_tf32 for place in self._places]
        for place in self._places:
            place.allow_tf32 = self._allowed

    def __exit__(self, *details: object) -> None:
        for place, value in zip(self._places, self._before, strict=True):
            place.allow_tf32 = value


def _tensor(torch: Any, shape: tuple[int, ...], dtype: str, device: str) -> Any:
    """Random numbers: power, and with it the clock, depends on them."""
    kind = getattr(torch, _TORCH[dtype])
    if dtype == "int8":
        return torch.randint(-128, 128, shape, dtype=kind, device=device)
    values = torch.randn(shape, device=device)
    return values if kind is values.dtype else values.to(kind)


def _gemm(torch: Any, probe: GpuProbe, device: str) -> _Work:
    m, n, k = probe.sizes
    a, b = _tensor(torch, (m, k), probe.dtype, device), _tensor(torch, (n, k), probe.dtype, device).t()
    element = STORED_BYTES[probe.dtype]
    moved = (m * k + k * n) * element + m * n * (4.0 if probe.dtype == "int8" else max(element, 2.0))
    action: Callable[[], Any]
    if probe.dtype == "int8":
        action = lambda: torch._int_mm(a, b)  # noqa: E731 - one call, nothing around it
    elif probe.dtype == "fp8":
        one = torch.ones((), device=device)
        action = lambda: torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)  # noqa: E731
    else:
        out = torch.empty((m, n), dtype=a.dtype, device=device)
        action = lambda: torch.mm(a, b, out=out)  # noqa: E731
    return _Work(action=action, flop=2.0 * m * n * k, bytes=moved)


def _conv(torch: Any, probe: GpuProbe, device: str) -> _Work:
    batch, channels, height, out, kernel, stride, groups = probe.sizes
    image = _tensor(torch, (batch, channels, height, height), probe.dtype, device).to(memory_format=torch.channels_last)
    weight = _tensor(torch, (out, channels // groups, kernel, kernel), probe.dtype, device)
    weight = weight.to(memory_format=torch.channels_last)
    convolve, padding = torch.nn.functional.conv2d, kernel // 2
    size = (height + 2 * padding - kernel) // stride + 1
    results = batch * out * size * size
    return _Work(
        action=lambda: convolve(image, weight, stride=stride, padding=padding, groups=groups),
        flop=2.0 * results * channels // groups * kernel * kernel,
        bytes=(image.numel() + weight.numel() + results) * STORED_BYTES[probe.dtype],
    )


def _copy(torch: Any, probe: GpuProbe, device: str) -> _Work:
    source = _tensor(torch, probe.sizes, probe.dtype, device)
    target = torch.empty_like(source)
    return _Work(action=lambda: target.copy_(source), flop=0.0, bytes=2 * source.numel() * STORED_BYTES[probe.dtype])


def _triad(torch: Any, probe: GpuProbe, device: str) -> _Work:
    b, c = (_tensor(torch, probe.sizes, probe.dtype, device) for _ in range(2))
    a, elements = torch.empty_like(b), b.numel()
    moved = 3 * elements * STORED_BYTES[probe.dtype]
    return _Work(action=lambda: torch.add(b, c, alpha=3.0, out=a), flop=2.0 * elements, bytes=moved)


def _reduce(torch: Any, probe: GpuProbe, device: str) -> _Work:
    rows = _tensor(torch, probe.sizes, probe.dtype, device)
    out = torch.empty_like(rows)
    moved = 2 * rows.numel() * STORED_BYTES[probe.dtype]
    return _Work(action=lambda: torch.softmax(rows, 1, out=out), flop=5.0 * rows.numel(), bytes=moved)


def _launch(torch: Any, probe: GpuProbe, device: str) -> _Work:
    """The least that can be asked for: one element is added to, in place."""
    one = _tensor(torch, probe.sizes, probe.dtype, device)
    return _Work(action=lambda: one.add_(1.0), flop=0.0, bytes=0.0)


def _link(torch: Any, probe: GpuProbe, device: str) -> _Work:
    """Over pinned memory, which the device reads by itself."""
    here = _tensor(torch, probe.sizes, probe.dtype, "cpu").pin_memory()
    there = torch.empty(probe.sizes, dtype=here.dtype, device=device)
    source, target = (here, there) if probe.kind == "to_device" else (there, here)
    moved = here.numel() * STORED_BYTES[probe.dtype]
    return _Work(action=lambda: target.copy_(source, non_blocking=True), flop=0.0, bytes=moved)


_KINDS: dict[str, Callable[[Any, GpuProbe, str], _Work]] = {
    "gemm": _gemm, "conv": _conv, "depthwise": _conv, "copy": _copy, "triad": _triad, "reduce": _reduce, "launch": _launch,
    "call": _launch, "to_device": _link, "to_host": _link,
}  # fmt: skip
