"""Turns measurements into certificates: what may be said of quality, speed and limits, and how surely."""

from dovetail.certify.drop import needed_n
from dovetail.certify.quality import certify_family, quality_certificate, quality_drop
from dovetail.certify.speed import drift_note, limit_certificate, ratio_interval, speed_certificate

__all__ = [
    "certify_family",
    "drift_note",
    "limit_certificate",
    "needed_n",
    "quality_certificate",
    "quality_drop",
    "ratio_interval",
    "speed_certificate",
]
