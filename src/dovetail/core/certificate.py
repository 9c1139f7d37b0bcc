"""A claim with its verdict and everything needed to doubt it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dovetail.core.measurement import Interval


class Verdict(StrEnum):
    """What statistics allow to be said of a claim."""

    CERTIFIED = "certified"
    REFUTED = "refuted"
    NOT_DISTINGUISHABLE = "not_distinguishable"
    CANNOT_CERTIFY = "cannot_certify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One judged claim.

    Attributes:
        claim: a full sentence, with numbers and units.
        kind: ``quality``, ``speed`` or a constraint's metric.
        verdict: what may be said.
        method: the statistical procedure with its source.
        n: independent units it rests on.
        alpha: one-sided error level used, after the correction for several candidates.
        interval: of the drop (quality, metric's unit) or of the ratio (speed).
        baseline_value: quality or seconds of what it was compared with; ``None`` where that makes no sense.
        value: the same of the candidate.
        environment: fingerprint of the machine for speed, empty for quality.
        data_hashes: split name → content hash of the data it rests on.
        looks: how often this certification set has been looked at, this time included; 0 for speed.
        reason: why it could not be certified and what would help.
    """

    claim: str
    kind: str
    verdict: Verdict
    method: str
    n: int
    alpha: float
    interval: Interval | None = None
    baseline_value: float | None = None
    value: float | None = None
    environment: str = ""
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    looks: int = 0
    reason: str = ""
