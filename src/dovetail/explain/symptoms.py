"""What a single kernel shows of why it is slow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dovetail.core.measurement import Environment
from dovetail.core.profile import KernelTime, Profile
from dovetail.core.workload import Op, Workload
from dovetail.explain import groups

TEXTS = {
    "unfused_quantize": "quantise/dequantise kernels that run on their own instead of inside integer kernels",
    "weights_dequantized": "kernels that turn constant weights back into floating point at every call",
    "reorder": "kernels that only move data between layouts",
    "convert": "kernels that only convert numeric types",
    "fallback_kernel": "{group} kernels that are reference implementations without vector code",
    "no_vnni": "integer {group} kernels without dot-product instructions, which this processor lacks",
    "float_kernel": "{group} kernels of a quantised model that still compute in floating point",
    "misaligned_channels": "{group} kernels whose channels do not fill the processor's vectors",
    "overhead_bound": "{group} kernels so small that starting them costs more than computing",
    "memory_bound": "{group} kernels that wait for memory: less than 4 FLOP per byte moved",
    "threads": "{group} kernels too short to be shared among more threads",
    "slower_kernel": "{group} kernels that take longer than the baseline's",
    "faster_kernel": "{group} kernels that take less time than the baseline's",
    "fused_away": "{group} kernels of the baseline that are fused into others",
    "call_overhead": "what a call costs beside its kernels: entering the runtime, starting kernels, copying inputs and outputs",
    "remainder": "other kernels, to which no cause is assigned",
}
"""Cause → what it consists of."""

_INTEGER = frozenset({"int8", "uint8", "i8", "u8"})
_FLOAT = frozenset({"float32", "f32"})
_DOT_PRODUCT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
# A parallel region costs some microseconds to open and close, so a kernel this short gains nothing from more threads.
_SHORT_S = 10e-6
_TINY_FLOP = 1e5
_FLOORS = 3.0
# Far below the ridge point of any processor of the last ten years (tens of FLOP per byte), and too large for its caches.
_LOW_INTENSITY = 4.0
_LARGE_BYTES = 1e6


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Both profiles and what is known of the model and the machine."""

    baseline: Profile
    candidate: Profile
    workload: Workload | None
    environment: Environment | None

    def symptom(self, kernel: KernelTime) -> str:
        """The most telling reason why this kernel of the candidate is slow; ``slower_kernel`` when it shows none."""
        op = self._operator(kernel)
        if groups.group_of(kernel) == groups.QUANTIZE:
            return "weights_dequantized" if kernel.constant else "unfused_quantize"
        if _is_fallback(kernel):
            return "fallback_kernel"
        if kernel.dtype in _INTEGER and self._lacks_dot_product:
            return "no_vnni"
        if self._is_left_in_float(kernel):
            return "float_kernel"
        if self.candidate.threads > self.baseline.threads and kernel.time_s < _SHORT_S:
            return "threads"
        if self._is_overhead_bound(kernel, op):
            return "overhead_bound"
        if op is not None and self._is_misaligned(kernel, op):
            return "misaligned_channels"
        if op is not None and (op.intensity or _LOW_INTENSITY) < _LOW_INTENSITY and (op.bytes or 0.0) > _LARGE_BYTES:
            return "memory_bound"
        return "slower_kernel"

    def _operator(self, kernel: KernelTime) -> Op | None:
        """The costliest operator that the kernel computes."""
        ops = [self._ops[name] for name in (kernel.name, *kernel.sources) if name in self._ops]
        return max(ops, key=lambda op: op.flop or 0.0, default=None)

    @cached_property
    def _ops(self) -> dict[str, Op]:
        ops = self.workload.ops if self.workload else ()
        return {**{value: op for op in ops for value in op.outputs}, **{op.name: op for op in ops}}

    @cached_property
    def _lacks_dot_product(self) -> bool:
        return self.environment is not None and bool(self.environment.isa) and not _DOT_PRODUCT & set(self.environment.isa)

    @cached_property
    def _is_quantised(self) -> bool:
        kernels = self.candidate.kernels
        return any(groups.group_of(k) == groups.QUANTIZE for k in kernels) or any(k.dtype in _INTEGER for k in kernels)

    def _is_left_in_float(self, kernel: KernelTime) -> bool:
        computes = groups.group_of(kernel) in (groups.CONVOLUTION, groups.MATMUL)
        return computes and self._is_quantised and kernel.dtype in _FLOAT

    @cached_property
    def _floor_s(self) -> float:
        return min((k.time_s for k in self.candidate.kernels if k.time_s > 0), default=0.0)

    def _is_overhead_bound(self, kernel: KernelTime, op: Op | None) -> bool:
        """Near the runtime's floor, with next to nothing to compute."""
        return op is not None and (op.flop or 0.0) < _TINY_FLOP and kernel.time_s <= _FLOORS * self._floor_s

    def _is_misaligned(self, kernel: KernelTime, op: Op) -> bool:
        """Output channels against the width of the kernel's blocks: 16 lanes of AVX-512, or a tile row of AMX."""
        shape = op.output_shapes[0] if op.output_shapes else None
        if not shape or len(shape) < 2 or groups.group_of(kernel) not in (groups.CONVOLUTION, groups.MATMUL):
            return False
        isa = self.environment.isa if self.environment else ()
        width = 16
        if "amx_int8" in isa and kernel.dtype in _INTEGER:
            width = 64
        elif "amx_bf16" in isa and kernel.dtype in ("bf16", "bfloat16"):
            width = 32
        channels = shape[1] if groups.group_of(kernel) == groups.CONVOLUTION else shape[-1]
        return channels % width != 0


def _is_fallback(kernel: KernelTime) -> bool:
    """OpenVINO and oneDNN call kernels without vector code ``ref`` or ``simple``."""
    return any(part in ("ref", "simple") for part in kernel.implementation.lower().replace(":", "_").split("_"))
