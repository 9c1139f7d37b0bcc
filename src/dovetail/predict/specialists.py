"""All fitted models that are asked, in order, before the roofline tells a device."""

from __future__ import annotations

from dovetail.predict.edge.specialists import DataflowChips, Dpus, Microcontrollers
from dovetail.predict.gemm.specialist import Products
from dovetail.predict.nets.specialist import Networks
from dovetail.predict.setting import Specialist

SPECIALISTS: tuple[Specialist, ...] = (Dpus(), DataflowChips(), Microcontrollers(), Networks(), Products())
