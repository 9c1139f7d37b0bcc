"""What a stage that predicts offers for one device: a prediction of one copy of the model, and how it may be repeated."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.core.device import Device
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One copy of a model on one or several devices of a kind.

    Attributes:
        device: of the catalogue.
        prediction: of the copy: its latency and rate; memory and ``fits`` are of each device.
        group: devices that share the copy.
        copies: how many there are; ``None`` where the job's rate decides.
        first_token_s: of a language model.
        duration_s: of a training run on ``group`` devices.
        wanted_devices: devices that a training run needs, and the ends of that number.
        group_by: what sets ``group`` where it is above 1.
        missing: why no time is told, empty where one is.
    """

    device: Device
    prediction: Prediction
    group: int = 1
    copies: int | None = None
    first_token_s: Estimate | None = None
    duration_s: Estimate | None = None
    wanted_devices: Estimate | None = None
    group_by: str = ""
    missing: str = ""
