"""GPUs as NVML tells them, from answers that were written by hand (:mod:`recorded`): units, gaps, and no library at all."""

from types import SimpleNamespace

import pytest
from recorded import H100, OLD, recorded

from dovetail.devices.catalogue import catalogue
from dovetail.devices.gpu_names import _CALLED, catalogue_device
from dovetail.devices.nvml import Library, Nvml, Unanswered, clock_hz, energy_j, graphics, power_w


def test_units_are_si() -> None:
    (gpu,) = graphics(lambda: recorded(H100)).gpus or ()
    assert (gpu.name, gpu.driver, gpu.capability, gpu.link) == ("NVIDIA H100 80GB HBM3", "550.54.15", "9.0", "PCIe 5 ×16")
    assert (gpu.memory_bytes, gpu.clock_hz, gpu.memory_clock_hz) == (85520809984, 1.98e9, 2.619e9)
    assert (gpu.power_limit_w, gpu.power_w, gpu.temperature_c) == (700.0, 70.0, 34.0)
    nvml = recorded(H100)
    assert energy_j(nvml, 0) == pytest.approx(123456.789)
    assert clock_hz(nvml, 0) == pytest.approx(1.755e9)
    assert [power_w(nvml, 0) for _ in range(4)] == [70.0, 71.0, 640.0, 640.0]


def test_what_is_not_answered_is_unknown_never_zero() -> None:
    first, second = graphics(lambda: recorded(H100, OLD)).gpus or ()
    assert second.name == "Tesla T4" and second.index == 1
    assert (second.memory_bytes, second.power_limit_w, second.power_w, second.clock_hz) == (None, None, None, None)
    assert (second.capability, second.link, second.uuid) == ("", "", "")
    assert first.fingerprint != second.fingerprint


def test_a_machine_without_the_library_has_unknown_gpus() -> None:
    def absent() -> Nvml:
        raise Unanswered("NVML cannot be asked: Driver Not Loaded")

    found = graphics(absent)
    assert found.gpus is None and "Driver Not Loaded" in found.reason
    assert graphics(recorded).gpus == ()


def test_this_machine_answers_or_says_why_not() -> None:
    found = graphics()
    assert found.gpus is not None or found.reason


def test_the_fingerprint_changes_with_the_power_limit_and_not_with_the_power() -> None:
    def fingerprint(**changes: object) -> str:
        (gpu,) = graphics(lambda: recorded({**H100, **changes})).gpus or ()
        return gpu.fingerprint

    assert fingerprint() == fingerprint(nvmlDeviceGetPowerUsage=300000)
    assert fingerprint() != fingerprint(nvmlDeviceGetEnforcedPowerLimit=500000)


def test_errors_and_missing_functions_of_the_package_are_unanswered() -> None:
    class NVMLError(Exception):
        pass

    def refuse(handle: object) -> None:
        raise NVMLError("Not Supported")

    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlDeviceGetHandleByIndex=lambda index: f"handle {index}",
        nvmlDeviceGetName=lambda handle: f"name of {handle}",
        nvmlDeviceGetPowerUsage=refuse,
        nvmlDeviceGetCount=lambda: 2,
    )
    found = Library(module)
    assert found.ask("nvmlDeviceGetCount") == 2
    assert found.ask("nvmlDeviceGetName", 1) == "name of handle 1"
    for function in ("nvmlDeviceGetPowerUsage", "nvmlNewerThanThePackage"):
        with pytest.raises(Unanswered):
            found.ask(function, 0)


def test_drivers_names_are_found_in_the_catalogue() -> None:
    devices = catalogue()
    for called, expected in (*_CALLED.items(), ("L40S", "L40S"), ("RTX A6000", "RTX A6000")):
        device = catalogue_device(f"NVIDIA {called}", devices)
        assert device is not None and device.name == expected, called
    assert catalogue_device("NVIDIA GeForce RTX 4090", devices) is devices["GeForce RTX 4090"]
    assert catalogue_device("NVIDIA Something New", devices) is None
    assert catalogue_device("AMD EPYC", devices) is None
