"""Design advice: what predictions with one change say against those without."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.advise.offer import Offer
from dovetail.core.advice import Change, Option
from dovetail.core.estimate import Estimate

WORTH = 1.03
"""Changes that gain less in time and in memory are not named."""


def change(before: Offer, after: Offer, what: str, note: str = "") -> Change | None:
    """The gain of one change on one device; ``None`` where it gains nothing or cannot be told."""
    gain = _gain(before, after)
    memory = _ratio(before.prediction.memory_bytes, after.prediction.memory_bytes)
    if before.group > 1 or after.group > 1:
        memory = None if memory is None else memory * before.group / after.group
    if gain is None or (gain < WORTH and (memory or 1.0) < WORTH):
        return None
    return Change(
        device=before.device.name, what=what, gain=gain, memory_gain=memory, binds_before=before.prediction.binds,
        binds_after=after.prediction.binds, note=note,
    )  # fmt: skip


def _gain(before: Offer, after: Offer) -> float | None:
    """Rate of a device after over before."""
    first, second = before.prediction.throughput_per_s, after.prediction.throughput_per_s
    found = _ratio(second, first)
    return None if found is None else found * before.group / after.group


def _ratio(first: Estimate | None, second: Estimate | None) -> float | None:
    return None if first is None or second is None else first.value / second.value


def broken(before: Option, after: Option) -> str:
    """Requirements that a change breaks, with what was compared, in words; empty for none."""
    already = {item.requirement for item in before.judged if item.standing.excludes}
    lost = [item for item in after.judged if item.standing.excludes and item.requirement not in already]
    return "; ".join(f"it breaks {item.requirement}: {item.why}" for item in lost)


def best(changes: Sequence[Change | None]) -> tuple[Change, ...]:
    """The greatest gains first, device by device in the order given."""
    found = [item for item in changes if item is not None]
    devices = list(dict.fromkeys(item.device for item in found))
    return tuple(sorted(found, key=lambda item: (devices.index(item.device), -item.gain)))
