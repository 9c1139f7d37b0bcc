"""Graphics processors that were calibrated, as devices that models are predicted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dovetail.core.calibration import Calibration
from dovetail.core.device import Device
from dovetail.core.errors import InputError
from dovetail.core.gpu import Gpu, GpuCalibration
from dovetail.devices.catalogue import catalogue
from dovetail.devices.catalogue.names import find, key
from dovetail.devices.gpu_device import measured_device
from dovetail.devices.gpu_names import catalogue_device
from dovetail.devices.nvml import Nvml, graphics, library
from dovetail.pipeline import calibrate, probing
from dovetail.predict.measured_gpu import MeasuredGpu


def calibrated_gpu(
    name: str, file: Path | None = None, nvml: Callable[[], Nvml] = library
) -> tuple[Device, MeasuredGpu] | None:
    """The device that people call so where it was calibrated, and who predicts it; ``None`` where it was not.

    Args:
        name: ``cuda:0``, the driver's name, or one of the catalogue's.
        file: a calibration of whatever machine; this machine's by default.
        nvml: tells which parts are here now.

    Raises:
        InputError: the file cannot be read, or it holds no such device, or the part is not in this machine any more.
    """
    calibration = calibrate.load(file) if file is not None else _own()
    devices = catalogue()
    found = None if calibration is None else _named(name, calibration, devices)
    if found is not None:
        device = measured_device(found, devices)
        return device, MeasuredGpu(found, device, "" if file is not None else _changed(found.gpu, graphics(nvml).gpus))
    if file is not None and calibration is not None:
        held = ", ".join(f"{one.device} ({one.gpu.name})" for one in calibration.gpus) or "no GPU"
        raise InputError(f"the calibration has no device {name!r}; it has {held}", where=str(file))
    if ":" in name and key(name) not in {key(device) for device in devices}:
        hint = f"dovetail devices probe --calibrate --device {name}"
        raise InputError(f"{name} of this machine is not calibrated", where="--device", hint=hint)
    return None


def _own() -> Calibration | None:
    """This machine's; one that cannot be read does not stop what needs none."""
    try:
        return probing.known()
    except InputError:
        return None


def _changed(then: Gpu, now: Sequence[Gpu] | None) -> str:
    """What is different from when it was calibrated, as far as NVML tells.

    Raises:
        InputError: that part is not here.
    """
    if not now or not then.uuid:
        return ""
    same = next((gpu for gpu in now if gpu.uuid == then.uuid), None)
    if same is None:
        hint = "dovetail devices probe --calibrate"
        raise InputError(f"the calibration is of another GPU: {then.name}; here is {now[0].name}", hint=hint)
    names = {"driver": "driver", "power_limit_w": "power limit", "clock_hz": "clock", "memory_clock_hz": "memory clock"}
    other = [words for name, words in names.items() if getattr(same, name) != getattr(then, name)]
    return f"{' and '.join(other)} changed since it was calibrated" if other else ""


def _named(name: str, calibration: Calibration, devices: Mapping[str, Device]) -> GpuCalibration | None:
    """By torch's name, the driver's, or the catalogue's."""
    called = {}
    for one in calibration.gpus:
        called[key(one.gpu.name)] = called[key(one.device)] = one
    if key(name) in called:
        return called[key(name)]
    try:
        wanted = find(name, devices)
    except InputError:
        return None
    same = (one for one in calibration.gpus if (entry := catalogue_device(one.gpu.name, devices)) and entry.name == wanted.name)
    return next(same, None)
