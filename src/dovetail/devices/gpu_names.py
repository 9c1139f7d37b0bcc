"""The driver's names of graphics processors, and the catalogue's."""

from __future__ import annotations

from collections.abc import Mapping

from dovetail.core.device import Device
from dovetail.devices.catalogue.names import key

_CALLED = {
    "Tesla T4": "T4",
    "Tesla V100-PCIE-16GB": "V100 PCIe 16GB",
    "Tesla V100-SXM2-32GB": "V100 SXM2 32GB",
    "A100-PCIE-40GB": "A100 PCIe 40GB",
    "A100 80GB PCIe": "A100 PCIe 80GB",
    "A100-SXM4-40GB": "A100 SXM 40GB",
    "A100-SXM4-80GB": "A100 SXM 80GB",
    "H100 PCIe": "H100 PCIe 80GB",
    "H100 NVL": "H100 NVL 94GB",
    "H100 80GB HBM3": "H100 SXM 80GB",
    "H200": "H200 SXM 141GB",
    "H200 NVL": "H200 NVL 141GB",
    "GH200 480GB": "GH200 96GB",
    "B200": "B200 SXM",
    "GB200": "GB200 (per GPU)",
    "GeForce RTX 3060": "GeForce RTX 3060 12GB",
    "GeForce RTX 3080": "GeForce RTX 3080 10GB",
    "GeForce RTX 4070 SUPER": "GeForce RTX 4070 Super",
}
"""Where the names differ: as NVML tells it without the maker's name, and as the catalogue has it."""


def catalogue_device(name: str, devices: Mapping[str, Device]) -> Device | None:
    """The catalogue's entry for a name that the driver tells; ``None`` where it has none of exactly that part.

    Args:
        name: ``NVIDIA H100 80GB HBM3``.
        devices: name → device.
    """
    plain = name.removeprefix("NVIDIA ")
    wanted = key(_CALLED.get(plain, plain))
    return next((device for device in devices.values() if key(device.name) == wanted), None)
