"""Reads a scenario file. Whatever is wrong with one is a single message that names the file, the line and the key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dovetail.advise.scenario import Scenario, Split, Team, Traffic, team
from dovetail.advise.yaml_file import read_yaml
from dovetail.core.errors import InputError


def _fraction(value: object) -> object:
    """``1/2`` → 0.5; the rest is left to the schema. A truth value is no number."""
    if isinstance(value, bool):
        raise ValueError("not a number")
    if not isinstance(value, str) or "/" not in value:
        return value
    try:
        return float(Fraction(value.replace(" ", "")))
    except (ValueError, ZeroDivisionError):
        raise ValueError("not a fraction such as 1/2") from None


_Number = Annotated[float, BeforeValidator(_fraction), Field(allow_inf_nan=False)]
_Positive = Annotated[_Number, Field(gt=0)]
_Least0 = Annotated[_Number, Field(ge=0)]
_Share = Annotated[_Number, Field(ge=0, le=1)]
_Remains = Annotated[_Number, Field(gt=0, le=1)]
_Rates = Annotated[list[_Positive], Field(min_length=1, max_length=100_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Machine(_Strict):
    tflops: _Positive
    memory_gb: _Positive
    power_w: _Positive
    idle_power_w: _Least0 | None = None


class _Work(_Strict):
    tflop_per_step: _Positive


class _Accelerator(_Strict):
    factor: _Positive
    share: _Share | None = None
    power_w: _Least0 | None = None


class _Heterogeneous(_Strict):
    factor: _Positive | None = None
    rates: _Rates | None = None
    split: Split = Split.PROPORTIONAL
    share: _Share | None = None
    power_w: _Least0 | None = None


class _Distributed(_Strict):
    workers: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = None
    rates: _Rates | None = None
    split: Split = Split.PROPORTIONAL
    share: _Share | None = None
    sharded: Annotated[bool, Field(strict=True)] = False


class _Communication(_Strict):
    share: _Least0 | None = None
    gb_per_step: _Least0 | None = None
    link_gb_per_s: _Positive | None = None
    latency_us: _Least0 | None = None
    overlap: _Share | None = None


class _Input(_Strict):
    gb_per_step: _Least0
    gb_per_s: _Positive
    overlap: _Share | None = None
    shared: Annotated[bool, Field(strict=True)] = False


class _Compression(_Strict):
    keeps: _Remains
    share: _Share | None = None
    skipped: _Share | None = None
    memory_share: _Share | None = None


class _Divided(_Strict):
    divided_by: _Positive
    share: _Share | None = None


class _File(_Strict):
    name: str = ""
    machine: _Machine
    work: _Work | None = None
    accelerator: _Accelerator | None = None
    heterogeneous: _Heterogeneous | None = None
    distributed: _Distributed | None = None
    communication: _Communication | None = None
    input: _Input | None = None
    compression: _Compression | None = None
    memory: _Divided | None = None
    energy: _Divided | None = None


def load_scenario(path: Path) -> Scenario:
    """Reads and checks a scenario file; units are in its keys, 1 GB is 10⁹ bytes.

    Raises:
        InputError: not there, not YAML, a key that is unknown, missing or there twice, an impossible number, or keys that
            contradict each other.
    """
    document, lines = read_yaml(path)
    if not isinstance(document, Mapping):
        raise InputError("a scenario file has the key `machine`", where=str(path), hint="see docs/scenario.md for one to copy")
    try:
        file = _File.model_validate(document)
    except ValidationError as error:
        raise _fault(error, lines, path) from error
    for keys, rule in _contradictions(file):
        line = lines.get(tuple(keys[0].split(".")))
        raise InputError(f"{' and '.join(keys)}: {rule}", where=f"{path}, line {line}" if line else str(path))
    return _scenario(file, path)


def _fault(error: ValidationError, lines: Mapping[tuple[str, ...], int], path: Path) -> InputError:
    """The first fault in words."""
    first = error.errors()[0]
    place = tuple(str(part) for part in first["loc"])
    line = next((lines[place[:size]] for size in range(len(place), 0, -1) if place[:size] in lines), None)
    where = f"{path}, line {line}" if line else str(path)
    key = ".".join(place)
    if first["type"] == "extra_forbidden":
        known = _keys(place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        return InputError(f"there is no key {key!r}{meant}", where=where, hint=f"known: {', '.join(known)}")
    if first["type"] == "missing":
        return InputError(f"the key {key!r} is missing", where=where)
    what = first["msg"].removeprefix("Value error, ")
    given = first["input"]
    shown = f"{given} does not fit: " if isinstance(given, str | int | float) else ""
    if first["type"] == "model_type":
        what = f"it has keys of its own: {', '.join(_keys(place))}"
    return InputError(f"{key}: {shown:.80}{what[:1].lower()}{what[1:]}", where=where)


_GROUPS: Mapping[str, type[BaseModel]] = {
    "machine": _Machine,
    "work": _Work,
    "accelerator": _Accelerator,
    "heterogeneous": _Heterogeneous,
    "distributed": _Distributed,
    "communication": _Communication,
    "input": _Input,
    "compression": _Compression,
    "memory": _Divided,
    "energy": _Divided,
}


def _keys(place: tuple[str, ...]) -> list[str]:
    if not place:
        return list(_File.model_fields)
    return list(_GROUPS[place[0]].model_fields) if len(place) == 1 and place[0] in _GROUPS else []


def _contradictions(file: _File) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys that cannot stand together, and why."""
    machine, mixed, spread, talk = file.machine, file.heterogeneous, file.distributed, file.communication
    if machine.idle_power_w is not None and machine.idle_power_w > machine.power_w:
        yield ("machine.idle_power_w", "machine.power_w"), "a machine that waits draws no more than a busy one"
    if mixed is not None and (mixed.factor is None) == (mixed.rates is None):
        yield ("heterogeneous.factor", "heterogeneous.rates"), "give one of the two"
    if spread is not None and spread.workers is None and spread.rates is None:
        yield ("distributed.workers", "distributed.rates"), "give one of the two"
    if spread is not None and spread.rates is not None and spread.workers not in (None, len(spread.rates)):
        yield ("distributed.workers", "distributed.rates"), f"{spread.workers} workers have not {len(spread.rates)} rates"
    if talk is not None:
        yield from _of_communication(file, talk)
    if file.input is not None and file.work is None:
        yield ("input.gb_per_step", "work.tflop_per_step"), "the input of a step needs the work of a step"


def _of_communication(file: _File, talk: _Communication) -> Iterator[tuple[tuple[str, ...], str]]:
    if file.distributed is None:
        yield ("communication", "distributed"), "there is nothing to exchange without workers"
    for key in ("gb_per_step", "link_gb_per_s", "latency_us"):
        if talk.share is not None and getattr(talk, key) is not None:
            yield ("communication.share", f"communication.{key}"), "the share says how long it takes; give one of the two"
    if (talk.gb_per_step is None) != (talk.link_gb_per_s is None):
        yield ("communication.gb_per_step", "communication.link_gb_per_s"), "one needs the other"
    if talk.latency_us is not None and talk.gb_per_step is None:
        yield ("communication.latency_us", "communication.gb_per_step"), "one needs the other"
    if talk.gb_per_step is not None and file.work is None:
        yield ("communication.gb_per_step", "work.tflop_per_step"), "the bytes of a step need the work of a step"


def _scenario(file: _File, path: Path) -> Scenario:
    mixed, spread, talk, read = file.heterogeneous, file.distributed, file.communication, file.input
    exchange = None
    if talk is not None and talk.gb_per_step is not None and talk.link_gb_per_s is not None:
        exchange = Traffic(bytes_per_step=talk.gb_per_step * 1e9, bytes_per_s=talk.link_gb_per_s * 1e9)
    return Scenario(
        name=file.name or path.stem,
        flop_per_s=file.machine.tflops * 1e12,
        memory_bytes=file.machine.memory_gb * 1e9,
        power_w=file.machine.power_w,
        flop_per_step=file.work.tflop_per_step * 1e12 if file.work else None,
        accelerator=file.accelerator.factor if file.accelerator else 1.0,
        heterogeneous=_team(mixed.factor, mixed.rates, mixed.split) if mixed else Team(),
        helpers=mixed.factor or float(len(mixed.rates or ())) if mixed else 1.0,
        keeps=file.compression.keeps if file.compression else 1.0,
        workers=team(spread.rates or [1.0] * (spread.workers or 1), spread.split) if spread else Team(),
        sharded=spread.sharded if spread else False,
        exchange=exchange,
        reading=Traffic(bytes_per_step=read.gb_per_step * 1e9, bytes_per_s=read.gb_per_s * 1e9) if read else None,
        shared_input=read.shared if read else False,
        memory_divisor=file.memory.divided_by if file.memory else 1.0,
        power_divisor=file.energy.divided_by if file.energy else 1.0,
        given=dict(_given(file)),
    )


def _team(factor: float | None, rates: list[float] | None, split: Split) -> Team:
    return team(rates or [factor or 1.0], split if rates else Split.PROPORTIONAL)


def _given(file: _File) -> Iterator[tuple[str, float]]:
    """Numbers that are stated and would be assumed otherwise."""
    shares: dict[str, Any] = {
        f"{group}.{key}": getattr(getattr(file, group), key, None)
        for group in _GROUPS
        for key in ("share", "skipped", "memory_share", "latency_us", "overlap")
    }
    yield from ((key, value) for key, value in shares.items() if value is not None)
    watts = file.machine.power_w
    if file.machine.idle_power_w is not None:
        yield "machine.idle_share", file.machine.idle_power_w / watts
    for group, part in (("accelerator", file.accelerator), ("heterogeneous", file.heterogeneous)):
        if part is not None and part.power_w is not None:
            yield f"{group}.power_share", part.power_w / watts
