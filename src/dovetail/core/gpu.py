"""A graphics processor as its driver tells it, and what was measured on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.core.recipe import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """What the driver tells; ``None`` for what it does not.

    Attributes:
        index: as the driver counts, which is not always as CUDA counts.
        name: ``NVIDIA H100 80GB HBM3``.
        uuid: of this very part; empty when not told.
        driver: its version; empty when not told.
        capability: CUDA's compute capability, ``9.0``; empty when not told.
        memory_bytes: in all.
        clock_hz: highest of the processors; ``memory_clock_hz`` of the memory.
        power_limit_w: that it keeps to now.
        link: to the host, ``PCIe 5 ×16``; empty when not told.
        power_w: drawn when it was read; ``temperature_c`` likewise.
    """

    index: int
    name: str
    uuid: str = ""
    driver: str = ""
    capability: str = ""
    memory_bytes: float | None = None
    clock_hz: float | None = None
    memory_clock_hz: float | None = None
    power_limit_w: float | None = None
    link: str = ""
    power_w: float | None = None
    temperature_c: float | None = None

    @property
    def fingerprint(self) -> str:
        """Of all that decides how fast it is: part, driver, clocks and power limit."""
        decides = [self.name, self.driver, self.memory_bytes, self.clock_hz, self.memory_clock_hz, self.power_limit_w]
        return digest(decides)[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProbe:
    """One thing to measure.

    Attributes:
        kind: ``gemm``, ``conv``, ``depthwise``, ``reduce``, ``copy``, ``triad``, ``launch``, ``call``, ``to_device`` or
            ``to_host``.
        dtype: of :data:`dovetail.core.device.DTYPES`.
        sizes: of a product ``m, n, k``; of a convolution ``batch, channels in, height = width, channels out, kernel, stride,
            groups``; elements otherwise.
        seconds: to measure for.
        power: whether it lasts long enough for the power that is drawn meanwhile to be told.
    """

    kind: str
    dtype: str
    sizes: tuple[int, ...]
    seconds: float = 0.2
    power: bool = False

    @property
    def key(self) -> str:
        """What results are filed under."""
        return f"{self.kind} {self.dtype} {'x'.join(map(str, self.sizes))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One measurement.

    Attributes:
        time_s: of one call, the median.
        flop: of one call, a multiply-add counts as 2.
        bytes: moved if every operand is moved once.
        power_w: drawn meanwhile; ``None`` when not told.
    """

    probe: GpuProbe
    time_s: float
    flop: float
    bytes: float
    power_w: float | None = None

    @property
    def flop_per_s(self) -> float:
        """Reached."""
        return self.flop / self.time_s

    @property
    def bytes_per_s(self) -> float:
        """Reached."""
        return self.bytes / self.time_s


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCalibration:
    """Everything that was measured of one graphics processor.

    Attributes:
        gpu: as it was then.
        device: as torch calls it, ``cuda:0``.
        torch: version that measured.
        date: ISO, of the last measurement.
        rows: the measurements.
        idle_power_w: before anything ran; ``None`` when not told.
        seconds: that it took.
    """

    gpu: Gpu
    device: str
    torch: str
    date: str
    rows: tuple[GpuRow, ...]
    idle_power_w: float | None = None
    seconds: float = 0.0

    def of(self, *kinds: str) -> Sequence[GpuRow]:
        """Measurements of some kinds."""
        return [row for row in self.rows if row.probe.kind in kinds]

    def peaks(self) -> dict[str, GpuRow]:
        """Type → the fastest of its matrix products."""
        best: dict[str, GpuRow] = {}
        for row in self.of("gemm"):
            held = best.get(row.probe.dtype)
            if held is None or row.flop_per_s > held.flop_per_s:
                best[row.probe.dtype] = row
        return best

    def best(self, *kinds: str) -> GpuRow | None:
        """The one of some kinds that moves the most bytes a second; ``None`` where none was measured."""
        return max(self.of(*kinds), key=lambda row: row.bytes_per_s, default=None)

    def least_s(self, kind: str) -> float | None:
        """Shortest time of a kind; ``None`` where none was measured."""
        return min((row.time_s for row in self.of(kind)), default=None)
