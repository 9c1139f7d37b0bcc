"""What NVML answers of an H100, written by hand from its data sheet and the units of the NVML reference; nobody recorded it."""

from typing import Any

from dovetail.testing.nvml import RecordedNvml

SYSTEM = {"nvmlSystemGetDriverVersion": "550.54.15"}
H100: dict[str, Any] = {
    "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetUUID": "GPU-11111111-2222-3333-4444-555555555555",
    "nvmlDeviceGetMemoryInfo": {"total": 85520809984, "free": 85000000000, "used": 520809984},
    "nvmlDeviceGetCudaComputeCapability": (9, 0),
    "nvmlDeviceGetMaxClockInfo(1)": 1980,
    "nvmlDeviceGetMaxClockInfo(2)": 2619,
    "nvmlDeviceGetClockInfo(1)": 1755,
    "nvmlDeviceGetEnforcedPowerLimit": 700000,
    "nvmlDeviceGetPowerUsage": [70000, 71000, 640000],
    "nvmlDeviceGetTotalEnergyConsumption": 123456789,
    "nvmlDeviceGetTemperature(0)": 34,
    "nvmlDeviceGetMaxPcieLinkGeneration": 5,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
}
OLD: dict[str, Any] = {"nvmlDeviceGetName": b"Tesla T4"}
"""A part whose driver answers little, through a package that returns bytes."""


def recorded(*gpus: dict[str, Any]) -> RecordedNvml:
    """The library of a machine with these parts."""
    return RecordedNvml(SYSTEM, gpus)
