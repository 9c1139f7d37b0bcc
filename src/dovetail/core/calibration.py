"""What was measured of a machine, so that it can be predicted, there or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dovetail.core.gpu import GpuCalibration
from dovetail.core.measurement import Environment
from dovetail.core.profile import KernelTime
from dovetail.core.recipe import Scalar
from dovetail.core.workload import Workload

SCHEMA = 2
"""Of the file."""
READ = (1, 2)
"""Versions of the file that are read. The first had no graphics processors, and is otherwise the same."""
TRACE_SCHEMA = 2
"""Of the traces alone."""
CALIBRATED = frozenset({"threads", "precision"})
"""Options of runtimes whose effect is measured; the others stay as the runtime has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Kernel times of one probe network in one setting.

    Attributes:
        network: its name; ``kind`` what it resembles.
        form: ``float``, ``int8`` or ``int8-dynamic`` (ranges found at each call).
        runtime: registry name; ``options`` as in a recipe.
        threads: that it computed with.
        call_s: median seconds of a call.
    """

    network: str
    kind: str
    form: str
    runtime: str
    options: Mapping[str, Scalar]
    threads: int
    call_s: float
    kernels: tuple[KernelTime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A probe network that has no trace in one setting.

    Attributes:
        setting: runtime, form and options, in words.
        network: its name.
        reason: why not.
    """

    setting: str
    network: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Everything that was measured of one machine.

    Attributes:
        schema: version of this layout.
        environment: machine and library versions.
        date: ISO, of the last measurement.
        rates: name → measured rate (``memory_bytes_per_s``, ``fp32_flop_per_s``, ``disk_read_bytes_per_s``), SI.
        traces: of probe networks; none where only a graphics processor was calibrated.
        workloads: network → its operators.
        seconds: that calibration of the processor took.
        gpus: graphics processors that were calibrated.
        left_out: what the traces lack.
    """

    environment: Environment
    date: str
    traces: tuple[Trace, ...]
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    gpus: tuple[GpuCalibration, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    schema: int = SCHEMA
