"""``dovetail devices probe``: what this machine is, and its calibration, made, kept and handed out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from dovetail.core.calibration import Calibration
from dovetail.core.errors import InputError
from dovetail.core.machine import Machine
from dovetail.devices.cgroup import read_text
from dovetail.devices.disks import disks
from dovetail.devices.nvml import Nvml, graphics, library
from dovetail.devices.probe import ROOT, environment
from dovetail.devices.sensors import sensors
from dovetail.devices.topology import limits, topology
from dovetail.pipeline import calibrate, calibrate_gpu
from dovetail.pipeline.describe import cache_folder, calibration_folder
from dovetail.pipeline.learned import learned
from dovetail.report.progress import Progress

CPU = "cpu"
FIRST_GPU = "cuda:0"


def describe_machine(root: Path = ROOT, nvml: Callable[[], Nvml] = library) -> Machine:
    """All that can be told of this machine without measuring.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
        nvml: gives NVIDIA's library.
    """
    found = graphics(nvml)
    return Machine(
        topology=topology(root),
        limits=limits(root),
        disks=disks(root),
        gpus=found.gpus,
        gpus_reason=found.reason,
        sensors=tuple(sensor.read() for sensor in sensors(root)),
    )


def calibrate_here(progress: Progress, *, device: str | None = None, fresh: bool = False) -> Calibration:
    """Calibrates this machine, or finishes a calibration that was stopped; all parts together keep to five minutes.

    Args:
        progress: shows what is being measured.
        device: ``cpu`` or a device of torch's (``cuda:0``); by default the processor and, where there is one, the first GPU.
        fresh: forget what was measured before.

    Raises:
        InputError: torch has no such device.
    """
    folder = calibration_folder(cache_folder())
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    left = calibrate.BUDGET_S
    if device is not None and device != CPU:
        calibrate_gpu.calibrate_gpu(folder, device, shown(progress, f"calibrate {device}"))
    elif device is None and has_gpu():
        try:
            calibrate_gpu.calibrate_gpu(folder, FIRST_GPU, shown(progress, f"calibrate {FIRST_GPU}"))
            left -= calibrate_gpu.BUDGET_S
        except InputError as error:
            progress.note(f"the GPU is not calibrated: {error.what}")
    if device in (None, CPU):
        calibrate.calibrate(folder, shown(progress, "calibrate processor"), budget_s=left)
        learned(folder / calibrate.FILE, folder, shown(progress, "learn from it"))
    return calibrate.load(folder / calibrate.FILE)


def has_gpu(root: Path = ROOT, nvml: Callable[[], Nvml] = library) -> bool:
    """Whether NVML or the kernel knows one of NVIDIA's."""
    return bool(graphics(nvml).gpus) or read_text(root / "proc/driver/nvidia/version") is not None


def shown(progress: Progress, stage: str) -> Callable[[float, str], None]:
    """Shares of a stage as steps of it; the stage begins when the first is told."""
    done: int | None = None

    def tell(share: float, text: str) -> None:
        nonlocal done
        if done is None:
            progress.stage(stage, 100)
            done = 0
        now = int(100 * share)
        progress.advance(now - done, text)
        done = now

    return tell


def known() -> Calibration | None:
    """The calibration of this very machine; ``None`` where there is none."""
    path = calibration_folder(cache_folder()) / calibrate.FILE
    if not path.exists():
        return None
    found = calibrate.load(path)
    return found if found.environment.fingerprint == environment().fingerprint else None


def export(out: Path, *, force: bool = False) -> None:
    """Copies the calibration to a file.

    Raises:
        InputError: there is none, or the file is there already.
    """
    found = known()
    if found is None:
        raise InputError("this machine is not calibrated", hint="dovetail devices probe --calibrate --export FILE")
    if out.exists() and not force:
        raise InputError("the file is there already", where=str(out), hint="choose another name, or add --force")
    calibrate.save(found, out)
