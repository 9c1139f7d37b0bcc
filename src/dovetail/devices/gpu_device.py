"""A graphics processor as a device of the catalogue, with what was measured of it in place of what its data sheet says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dovetail.core.device import Device, Fact, Kind, Link, Memory
from dovetail.core.gpu import GpuCalibration, GpuRow
from dovetail.core.source import Source, SourceKind
from dovetail.devices.gpu_names import catalogue_device


def measured_device(calibration: GpuCalibration, devices: Mapping[str, Device]) -> Device:
    """The catalogue's entry, where it has one, with measured peaks, bandwidth, launch time, link and idle power.

    Peaks of types that were not measured are left out: data sheets promise what no product reaches, so that they would win over
    every measured one.

    Args:
        calibration: of the part.
        devices: the catalogue.
    """
    gpu = calibration.gpu
    known = catalogue_device(gpu.name, devices) or Device(name=gpu.name, vendor=_vendor(gpu.name), kind=Kind.GPU)
    return replace(
        known,
        peak_flop_per_s={
            dtype: _measured(calibration, row.flop_per_s, f"product of {'×'.join(map(str, row.probe.sizes))}")
            for dtype, row in calibration.peaks().items()
        },
        memory=_memory(known, calibration),
        power_w=known.power_w if gpu.power_limit_w is None else _told(gpu.power_limit_w, "NVML, enforced power limit"),
        idle_power_w=_idle(known, calibration),
        launch_s=_launch(known, calibration),
        host_link=_host_link(known, calibration),
        notes=(*known.notes, f"peaks and bandwidth as torch {calibration.torch} reached them on {gpu.name}"),
    )


def _vendor(name: str) -> str:
    return "NVIDIA" if name.startswith(("NVIDIA", "Tesla", "Quadro", "GeForce")) else ""


def _measured(calibration: GpuCalibration, value: float, what: str) -> Fact:
    source = Source(kind=SourceKind.MEASURED, ref=f"calibration of {calibration.gpu.name}: {what}", date=calibration.date[:10])
    return Fact(value=value, source=source)


def _told(value: float, ref: str) -> Fact:
    return Fact(value=value, source=Source(kind=SourceKind.QUOTED, ref=ref))


def _memory(known: Device, calibration: GpuCalibration) -> tuple[Memory, ...]:
    first = known.memory[0] if known.memory else Memory(name="memory")
    told, streamed = calibration.gpu.memory_bytes, _streamed(calibration)
    return (
        replace(
            first,
            capacity_bytes=first.capacity_bytes if told is None else _told(told, "NVML, total memory"),
            bandwidth_bytes_per_s=streamed or first.bandwidth_bytes_per_s,
        ),
        *known.memory[1:],
    )


def _streamed(calibration: GpuCalibration) -> Fact | None:
    """Of the largest copy or triad: smaller ones may stay in a cache."""
    rows: list[GpuRow] = list(calibration.of("copy", "triad"))
    if not rows:
        return None
    most = max(row.bytes for row in rows)
    best = max((row for row in rows if row.bytes >= most / 4), key=lambda row: row.bytes_per_s)
    return _measured(calibration, best.bytes_per_s, f"{best.probe.kind} of {best.probe.sizes[0]:,} {best.probe.dtype} elements")


def _idle(known: Device, calibration: GpuCalibration) -> Fact | None:
    idle = calibration.idle_power_w
    return _measured(calibration, idle, "NVML before anything ran") if idle else known.idle_power_w


def _launch(known: Device, calibration: GpuCalibration) -> Fact | None:
    launch_s = calibration.least_s("launch")
    return _measured(calibration, launch_s, "operators on one element, one after the other") if launch_s else known.launch_s


def _host_link(known: Device, calibration: GpuCalibration) -> Link | None:
    best = calibration.best("to_device")
    if best is None:
        return known.host_link
    name = known.host_link.name if known.host_link else calibration.gpu.link or "host link"
    return Link(name=name, pair_bytes_per_s=_measured(calibration, best.bytes_per_s, "copies from pinned memory"))
