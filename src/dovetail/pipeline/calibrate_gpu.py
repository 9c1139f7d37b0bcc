"""Calibrates a graphics processor through torch: products, convolutions, copies, launches, and the power drawn meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dovetail.core.calibration import Calibration
from dovetail.core.errors import InputError
from dovetail.core.gpu import Gpu, GpuCalibration, GpuProbe, GpuRow
from dovetail.core.json_lines import resume
from dovetail.core.recipe import digest
from dovetail.core.serial import decode, encode
from dovetail.devices.gpu_plan import plan
from dovetail.devices.nvml import Nvml, Unanswered, graphics, library, power_w
from dovetail.devices.probe import environment
from dovetail.devices.sampling import PowerLog
from dovetail.measure.child import Child, ChildFailure
from dovetail.measure.lock import measuring
from dovetail.pipeline import calibrate

BUDGET_S = 75.0
"""Of the whole, so that the processor's part has most of the five minutes."""
IDLE_S = 1.5
SETTLED_S = 1.2
"""End of a measurement in which power is read: what NVML tells may be the mean of a second."""
_START_LIMIT_S = 120.0
_PROBE_LIMIT_S = 60.0
_ROWS_SCHEMA = 1

Tell = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is measured, and with what; tests give their own.

    Attributes:
        probes: in order.
        nvml: gives NVIDIA's library.
    """

    probes: Sequence[GpuProbe] = plan()
    nvml: Callable[[], Nvml] = library


def calibrate_gpu(
    folder: Path, device: str, progress: Tell, *, budget_s: float = BUDGET_S, given: Given | None = None
) -> GpuCalibration:
    """Measures what is missing and files it in the machine's calibration.

    Args:
        folder: of the calibration; the same call goes on where it was stopped.
        device: as torch calls it, ``cuda:0``; the same code runs on ``cpu``.
        progress: called with the share done and what is being done.
        budget_s: seconds in all, once no other measurement runs; what comes late in the plan matters least.
        given: what is measured.

    Raises:
        InputError: torch is missing, or has no such device.
    """
    given = given or Given()
    with measuring(lambda text: progress(0.0, text)), calibrate.work_folder() as work:
        started = time.monotonic()
        progress(0.0, f"{device}: idle power")
        power = _Power.opened(given.nvml)
        idle = power.idle()
        gpu, torch = _identified(device, power, work)
        journal = _Journal(folder / f"gpu-{digest([gpu.fingerprint, gpu.uuid, device, torch, _ROWS_SCHEMA])[:12]}.jsonl")
        _measure_all(given.probes, device, journal, power.of(gpu), started + budget_s, work, progress)
    found = GpuCalibration(
        gpu=gpu,
        device=device,
        torch=torch,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        rows=tuple(journal.rows),
        idle_power_w=idle.get(gpu.uuid) if gpu.uuid else None,
        seconds=time.monotonic() - started,
    )
    file(found, folder / calibrate.FILE)
    return found


def file(found: GpuCalibration, path: Path) -> None:
    """Adds a graphics processor to the machine's calibration; an earlier one of the same part is replaced."""
    here = environment()
    stored = Calibration(environment=here, date=found.date, traces=())
    if path.exists():
        try:
            earlier = calibrate.load(path)
        except InputError:
            earlier = stored
        stored = earlier if earlier.environment.fingerprint == here.fingerprint else stored
    others = [one for one in stored.gpus if (one.device, one.gpu.uuid) != (found.device, found.gpu.uuid)]
    calibrate.save(replace(stored, gpus=(*others, found)), path)


class _Power:
    """Power of the graphics processors, where NVML tells it.

    Args:
        nvml: the library; ``None`` without.
        gpus: all of them.
    """

    def __init__(self, nvml: Nvml | None, gpus: Sequence[Gpu]) -> None:
        self._nvml, self.gpus = nvml, gpus

    @classmethod
    def opened(cls, open_: Callable[[], Nvml]) -> _Power:
        """With what there is."""
        try:
            nvml = open_()
        except Unanswered:
            return cls(None, ())
        return cls(nvml, graphics(lambda: nvml).gpus or ())

    def reader(self, index: int) -> Callable[[], float | None]:
        """Reads one of them."""
        return lambda: None if self._nvml is None else power_w(self._nvml, index)

    def idle(self) -> dict[str, float]:
        """Uuid → watts before anything runs, of all at once: which one is meant only torch knows, and that wakes it."""
        logs = {gpu.uuid: PowerLog(self.reader(gpu.index)) for gpu in self.gpus if gpu.uuid}
        if not logs:
            return {}
        for log in logs.values():
            log.__enter__()
        time.sleep(IDLE_S)
        for log in logs.values():
            log.__exit__()
        return {uuid: drawn for uuid, log in logs.items() if (drawn := log.last(SETTLED_S))}

    def of(self, gpu: Gpu) -> Callable[[], PowerLog] | None:
        """Makes logs of one of them; ``None`` where its power is not told."""
        read = self.reader(gpu.index)
        return None if gpu not in self.gpus or read() is None else lambda: PowerLog(read)


class _Journal:
    """Finished rows, a line each.

    Attributes:
        rows: in order; with them the probes that the device has not, whose row is ``null``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = resume(path)
        self._done = {entry["key"] for entry in entries}
        self.rows = [decode(GpuRow, entry["row"]) for entry in entries if entry["row"] is not None]

    def has(self, probe: GpuProbe) -> bool:
        """Whether it was tried to the end."""
        return probe.key in self._done

    def add(self, probe: GpuProbe, row: GpuRow | None) -> None:
        """Files one."""
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"key": probe.key, "row": encode(row)}) + "\n")
        self._done.add(probe.key)
        if row is not None:
            self.rows.append(row)


def _identified(device: str, power: _Power, work: Path) -> tuple[Gpu, str]:
    """The part that torch means by a device, as NVML tells it where it knows it, and torch's version."""
    with Child(work / "identity.log") as child:
        try:
            told = child.call("gpu_identity", timeout_s=_START_LIMIT_S, device=device)
        except ChildFailure as failure:
            hint = "`pip install 'dovetail[torch]'` brings torch; on a GPU it must be a build for that"
            what = f"torch cannot use it: {failure.outcome.reason}"
            raise InputError(what, where=f"--device {device}", hint=hint) from failure
    for gpu in power.gpus:
        if gpu.uuid and gpu.uuid == told["uuid"]:
            return gpu, told["torch"]
    name = environment().cpu if told["name"] == "cpu" else told["name"]
    plain = Gpu(index=0, name=name, uuid=told["uuid"], capability=told["capability"], memory_bytes=told["memory_bytes"])
    return plain, told["torch"]


def _measure_all(
    probes: Sequence[GpuProbe],
    device: str,
    journal: _Journal,
    log: Callable[[], PowerLog] | None,
    deadline: float,
    work: Path,
    progress: Tell,
) -> None:
    """One after the other until the time is up; what fails is left out, and tried again by the next call."""
    with _children(work) as fresh:
        child = fresh()
        for number, probe in enumerate(probes):
            if journal.has(probe):
                continue
            if time.monotonic() > deadline:
                return
            progress(number / len(probes), f"{device}: {probe.key}")
            try:
                journal.add(probe, _measured(child, device, probe, log))
            except ChildFailure:
                child = child if child.alive else fresh()


@contextmanager
def _children(work: Path) -> Iterator[Callable[[], Child]]:
    """Starts processes that end with the block."""
    started: list[Child] = []

    def fresh() -> Child:
        started.append(Child(work / "gpu.log"))
        return started[-1]

    try:
        yield fresh
    finally:
        for child in started:
            child.close()


def _measured(child: Child, device: str, probe: GpuProbe, log: Callable[[], PowerLog] | None) -> GpuRow | None:
    """A row with the power drawn while it was measured, where it lasted long enough."""
    arguments: dict[str, Any] = {"device": device, "probe": encode(probe)}
    with log() if log and probe.power else nullcontext() as drawn:
        answer = child.call("gpu_probe", timeout_s=_PROBE_LIMIT_S, **arguments)
    if answer["row"] is None:
        return None
    row = decode(GpuRow, answer["row"])
    return row if drawn is None else replace(row, power_w=drawn.last(SETTLED_S))
