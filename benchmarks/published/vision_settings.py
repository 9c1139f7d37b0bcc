"""How timm's files name the ways that networks ran."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from dovetail.devices.catalogue import device
from dovetail.predict.nets.on_device import on_device
from dovetail.predict.nets.setting import Setting


def setting(line: Mapping[str, str]) -> Setting:
    """Of one row of the file."""
    return _setting(line["device"], line["mode"], line["compile"], line["precision"], line["layout"], line["torch"])


@cache
def _setting(name: str, mode: str, compiled: str, precision: str, layout: str, torch: str) -> Setting:
    found = on_device(
        device(name),
        training=mode == "train",
        compiled=compiled != "eager",
        precision=precision,
        channels_last=layout == "nhwc",
        torch=_version(torch),
    )
    assert found is not None, name
    return found


def _version(text: str) -> float:
    """``pt113`` → 1.13, ``pt240`` → 2.4, ``pt291`` → 2.9."""
    digits = text.removeprefix("pt")
    return float(f"{digits[0]}.{digits[1:3]}") if digits[0] == "1" else float(f"{digits[0]}.{digits[1]}")
