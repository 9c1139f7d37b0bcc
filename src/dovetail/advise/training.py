"""Offers to train a transformer: how many devices finish it in time, and hold what the optimizer needs.

Work is 6 FLOP a parameter and token (Kaplan et al. 2020, arXiv:2001.08361, section 2.1: 2 forward, 4 backward), at a share of
the dense 16-bit peak (model FLOP utilisation, MFU). Known to be off: attention's own operations are left out (a few per cent at
contexts below 8 widths), and beyond one server the network decides where in the range of the MFU a run lies.
"""

from __future__ import annotations

import math

from dovetail.advise.job import AdviseJob
from dovetail.advise.offer import Offer
from dovetail.advise.work import TrainingWork
from dovetail.core import units
from dovetail.core.constraint import Answer
from dovetail.core.device import Device
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Binds, Prediction
from dovetail.core.source import Source, SourceKind

FLOP_PER_PARAMETER_AND_TOKEN = 6.0
MFU = (0.4, 0.3, 0.5)
"""Value and ends (assumed)."""
BYTES_PER_PARAMETER = (16.0, 16.0, 18.0)
"""Mixed precision with Adam: 2 for weights, 2 for gradients, 12 for 32-bit weights and two moments (Rajbhandari et al. 2020,
arXiv:1910.02054, section 3.1); 18 where gradients are kept in 32 bits. Cut over all devices (ZeRO stage 3)."""
ACTIVATION_SHARE = 0.4
"""Of the memory, kept for activations and buffers (assumed; recomputation keeps them there)."""
_TYPES = ("bf16", "fp16")
_FAST_LINK = 1e11
_SLOW_LINK = "no link above 100 GB/s is known between several of it: its MFU may lie below the range"

_SOURCE = Source(kind=SourceKind.ASSUMED, ref="6 N D FLOP over peak x MFU of 0.3 to 0.5 (assumed)")


def offer(device: Device, job: AdviseJob, work: TrainingWork) -> Offer:
    """How one kind of device would do it."""
    wanted = (job.precision,) if job.precision else _TYPES
    dtype = next((name for name in wanted if name in device.peak_flop_per_s), "")
    needed = _by_memory(device, work)
    rates = [device.peak_flop_per_s[dtype].value * mfu for mfu in MFU] if dtype else []
    flop = FLOP_PER_PARAMETER_AND_TOKEN * work.parameters * work.tokens
    count = _by_time(job, [flop / rate for rate in rates], needed)
    number = max(1, round(count.value)) if count else needed or 1
    times = [flop / rate / number for rate in rates]
    by_memory = needed is not None and number == needed > 1
    state = _state(work, number)
    rate = _rate([work.tokens / seconds for seconds in times])
    return Offer(
        device=device,
        prediction=Prediction(
            device=device.name,
            precision=dtype,
            batch=job.batch,
            latency_s=None,
            throughput_per_s=rate,
            memory_bytes=state,
            fits=Answer.UNKNOWN if needed is None else Answer.YES,
            fits_reason=_reason(device, state, number),
            energy_j=None,
            cost_usd_per_million=None,
            binds=Binds.MEMORY if by_memory else Binds.COMPUTE if dtype else None,
            notes=(_SLOW_LINK,) if dtype and number > 1 and not _linked(device) else (),
        ),
        group=number,
        duration_s=_range(times[0], times[2], times[1]) if times else None,
        wanted_devices=count,
        group_by="memory size" if by_memory else "time" if number > 1 else "one is enough",
        missing="" if dtype else "no time can be told: its peak in 16 bits is not known",
    )


def _linked(device: Device) -> bool:
    link = device.link
    rate = (link.all_bytes_per_s or link.pair_bytes_per_s) if link else None
    return rate is not None and rate.value >= _FAST_LINK


def _by_memory(device: Device, work: TrainingWork) -> int | None:
    if device.capacity_bytes is None:
        return None
    return max(1, math.ceil(BYTES_PER_PARAMETER[0] * work.parameters / ((1 - ACTIVATION_SHARE) * device.capacity_bytes.value)))


def _by_time(job: AdviseJob, alone_s: list[float], needed: int | None) -> Estimate | None:
    """Devices that finish in time and hold the optimizer; ``None`` where no time is told."""
    if not alone_s:
        return None
    within, least = job.quantity("within"), needed or 1
    value, high, low = (max(least, math.ceil(seconds / within)) if within else least for seconds in alone_s)
    return _range(value, low, high)


def _range(value: float, low: float, high: float) -> Estimate:
    """Its ends are those of the MFU."""
    return Estimate(value=value, low=low, high=high, source=_SOURCE, coverage=None)


def _state(work: TrainingWork, number: int) -> Estimate:
    value, low, high = (size * work.parameters / number for size in BYTES_PER_PARAMETER)
    source = Source(kind=SourceKind.DERIVED, ref="16 to 18 bytes a parameter")
    return Estimate(value=value, low=low, high=high, source=source, coverage=None)


def _rate(rates: list[float]) -> Estimate | None:
    return _range(rates[0], rates[1], rates[2]) if rates else None


def _reason(device: Device, state: Estimate, number: int) -> str:
    room = units.size(device.capacity_bytes.value) if device.capacity_bytes else "memory of unknown size"
    return f"optimizer, weights and gradients take {units.size(state.value)} of {room} on each of {number}, activations beside"
