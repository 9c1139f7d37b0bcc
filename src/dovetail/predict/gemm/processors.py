"""Multiprocessors of GPUs: how many tiles of a product are computed at the same time."""

from __future__ import annotations

from dovetail.core.device import Device

SOURCE = "NVIDIA architecture white papers (Volta, Turing, Ampere, GA102, Ada, Hopper, Blackwell), AMD CDNA 3 and 4; recalled"

_COUNTS = {
    "V100": 80, "T4": 40, "A10": 72, "A10G": 80, "A30": 56, "A40": 84, "RTX A6000": 84, "A100": 108, "H100 PCIe": 114,
    "H100 NVL": 132, "H100 SXM": 132, "H800": 132, "H200": 132, "GH200": 132, "H20": 78, "L4": 58, "L40": 142, "L40S": 142,
    "B200": 148, "GB200": 148, "B300": 148, "GB300": 148, "RTX PRO 6000": 188, "RTX 6000 Ada": 142, "GeForce RTX 3060": 28,
    "GeForce RTX 3090": 82, "GeForce RTX 4090": 128, "GeForce RTX 5090": 170, "Instinct MI300A": 228,
    "Instinct MI300X": 304, "Instinct MI325X": 304, "Instinct MI350X": 256, "Instinct MI355X": 256,
}  # fmt: skip
_USUAL = 108.0
"""Of a GPU that is not listed; a product of many tiles hardly depends on it."""


def processors(device: Device) -> float:
    """The device's own number where it states one, else that of the longest listed name that its name begins with."""
    if device.cores is not None:
        return device.cores.value
    begins = [name for name in _COUNTS if device.name == name or device.name.startswith(f"{name} ")]
    return float(_COUNTS[max(begins, key=len)]) if begins else _USUAL
