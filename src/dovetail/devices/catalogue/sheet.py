"""What a catalogue file may say: one schema for the package's files and for a user's own. Values arrive as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dovetail.core.device import Kind
from dovetail.core.source import SourceKind


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _whole(value: object) -> object:
    return value if isinstance(value, Mapping) else {"value": value}


def _by_type(value: object) -> object:
    if not isinstance(value, Mapping):
        raise ValueError("a peak names the type that it is for, as in {fp16: 100}")
    return value


Date = Annotated[str, Field(pattern=r"^\d{4}(-\d\d){0,2}$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NumberSheet(_Strict):
    """One number, alone or with what is known of it; what is left out is taken from the device's ``source``."""

    value: Positive
    source: str | list[str] | None = None
    kind: SourceKind | None = None
    date: Date | None = None


Number = Annotated[NumberSheet, BeforeValidator(_whole)]
FloatType = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp4"]
IntType = Literal["int8", "int4"]
FloatPeaks = Annotated[dict[FloatType, Number], BeforeValidator(_by_type)]
IntPeaks = Annotated[dict[IntType, Number], BeforeValidator(_by_type)]
MemoryKind = Literal["HBM", "GDDR", "DRAM", "SRAM"]


class SourceSheet(_Strict):
    """A source that several numbers share under a short name."""

    ref: str = Field(min_length=1)
    kind: SourceKind = SourceKind.QUOTED
    date: Date = ""


class _OneUnit(_Strict):
    """A quantity may be given in any of several units, once."""

    @model_validator(mode="before")
    @classmethod
    def _units(cls, data: Any) -> Any:
        for keys in _SAME:
            given = [key for key in keys if isinstance(data, Mapping) and data.get(key) is not None]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} say the same thing; keep one")
        return data


_SAME = (("memory_gb", "memory_mb", "memory_kb"), ("power_w", "power_mw"), ("idle_power_w", "idle_power_mw"))


class StoreSheet(_OneUnit):
    """Size and speed of one memory."""

    memory_gb: Number | None = None
    memory_mb: Number | None = None
    memory_kb: Number | None = None
    memory_gbps: Number | None = None


class TierSheet(StoreSheet):
    """One more memory, such as the flash beside a microcontroller's SRAM."""

    name: str


class LinkSheet(_Strict):
    """A connection, per direction: between two, and out of one to all at once."""

    name: str
    pair_gbps: Number | None = None
    all_gbps: Number | None = None


class DeviceSheet(StoreSheet):
    """One device. Only ``name`` and ``kind`` are needed; what is left out is unknown. Units are in the keys, and decimal."""

    name: str = Field(pattern=r"\w")
    kind: Kind
    vendor: str = ""
    year: int | None = None
    aliases: list[str] = []
    source: str | list[str] | None = None
    peak_tflops: FloatPeaks = {}
    peak_gflops: FloatPeaks = {}
    peak_tops: IntPeaks = {}
    peak_gops: IntPeaks = {}
    memory_kind: MemoryKind | None = None
    tiers: list[TierSheet] = []
    power_w: Number | None = None
    power_mw: Number | None = None
    idle_power_w: Number | None = None
    idle_power_mw: Number | None = None
    launch_us: Number | None = None
    link: LinkSheet | None = None
    host_link: LinkSheet | None = None
    price_usd: Number | None = None
    price_usd_per_h: Number | None = None
    software: list[str] = []
    deployment: int | None = Field(default=None, ge=1, le=5)
    cores: Number | None = None
    notes: list[str] = []
    allowed: dict[str, str] = {}


class FileSheet(_Strict):
    """A catalogue file: sources by short name, and devices."""

    sources: dict[str, SourceSheet] = {}
    devices: list[DeviceSheet] = Field(min_length=1)
