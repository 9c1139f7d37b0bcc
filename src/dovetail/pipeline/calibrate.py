"""Calibrates the machine: profiles probe networks on every runtime, in every precision, at one thread and at all."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dovetail import plugins
from dovetail.core.calibration import SCHEMA, Calibration, Trace
from dovetail.core.errors import InputError
from dovetail.core.measurement import Environment
from dovetail.core.profile import Profile
from dovetail.core.recipe import Scalar, digest
from dovetail.core.serial import decode, encode
from dovetail.core.workload import Workload
from dovetail.devices.probe import environment
from dovetail.measure.child import Child, ChildFailure
from dovetail.measure.lock import measuring
from dovetail.probe_files import ProbeFile

BUDGET_S = 280.0
"""Of the whole, so that it stays below five minutes."""
FILE = "calibration.json"
REPEATS = 20
LITERT_REPEATS = 6
"""LiteRT's operators are cut out and timed one by one, each several times over in a call."""
BLOCK_S = 0.08
"""Of timed calls of one network, after as long to warm up."""
_LEFT_OUT = frozenset({"null", "torch"})
"""Runtimes that are not calibrated: the null runtime computes nothing, and torch compiles for seconds a model."""
_START_LIMIT_S = 120.0
_MEMORY_LIMIT_BYTES = 4e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to run the networks."""

    runtime: str
    form: str
    format: str
    options: Mapping[str, Scalar]

    def __str__(self) -> str:
        shown = [str(value) if key != "threads" else f"{value} threads" for key, value in self.options.items()]
        return ", ".join([self.runtime, self.form, *shown])


def settings(machine: Environment) -> list[Setting]:
    """Every installed runtime in float and int8, at one thread and at all, and in its low precisions at all threads."""
    found = []
    for name in plugins.names("dovetail.runtimes"):
        runtime = plugins.runtime(name)
        if name in _LEFT_OUT or runtime.missing():
            continue
        kind = "litert" if "litert" in runtime.formats else "onnx"
        low = [k.choices for k in runtime.knobs(machine) if k.name == "precision"]
        precisions = [value for choices in low for value in choices if value in ("bf16", "f16")]
        for threads in dict.fromkeys((machine.cores, 1)):
            for form in ("float", "int8"):
                found.append(Setting(runtime=name, form=form, format=kind, options={"threads": threads}))
            for value in precisions:
                options: dict[str, Scalar] = {"threads": threads, "precision": value}
                found.append(Setting(runtime=name, form="float", format=kind, options=options))
    return found


def calibrate(folder: Path, progress: Callable[[float, str], None], *, budget_s: float = BUDGET_S) -> Calibration:
    """Measures what is missing, and writes :data:`FILE`.

    Args:
        folder: keeps the traces that are finished; the same call goes on where it was stopped.
        progress: called with the share done and what is being done.
        budget_s: seconds in all. Settings share it; each takes as many networks as fit its share.
    """
    started = time.monotonic()
    machine = environment()
    chosen = settings(machine)
    journal = _Journal(folder / f"traces-{digest([encode(machine), SCHEMA])[:12]}.jsonl")
    with measuring(lambda text: progress(0.0, text)), _work_folder() as work:
        progress(0.0, "memory and disk")
        measured = _rates(machine, folder, work)
        files, workloads = _probe_files(work, progress)
        for number, setting in enumerate(chosen):
            left = budget_s - (time.monotonic() - started)
            deadline = time.monotonic() + max(0.0, left) / (len(chosen) - number)
            suitable = [f for f in files if f.path and (f.form, f.format) == (setting.form, setting.format)]
            _profile_all(setting, suitable, journal, deadline, work, partial(progress, number / len(chosen), str(setting)))
    result = Calibration(
        environment=machine,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        traces=tuple(journal.traces),
        workloads=workloads,
        rates=measured,
        seconds=time.monotonic() - started,
    )
    save(result, folder / FILE)
    return result


def save(calibration: Calibration, path: Path) -> None:
    """Writes a calibration as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(encode(calibration)), encoding="utf-8")
    partial.replace(path)


def load(path: Path) -> Calibration:
    """Reads a calibration.

    Raises:
        InputError: not such a file, or one of another version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("no calibration can be read from it", where=str(path)) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise InputError(f"a calibration of schema {schema}, not {SCHEMA}", where=str(path), hint="calibrate again")
    return decode(Calibration, document)


class _Journal:
    """Finished traces, a line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.traces = [decode(Trace, json.loads(line)) for line in lines if line.endswith("}")]

    def has(self, setting: Setting, network: str) -> bool:
        """Whether it is finished."""
        wanted = (setting.runtime, setting.form, dict(setting.options), network)
        return any((t.runtime, t.form, dict(t.options), t.network) == wanted for t in self.traces)

    def add(self, trace: Trace) -> None:
        """Files one."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(encode(trace)) + "\n")
        self.traces.append(trace)


@contextmanager
def _work_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dovetail-calibrate-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rates(machine: Environment, folder: Path, work: Path) -> dict[str, float]:
    """Of memory and disk; none where the disk cannot be tried."""
    with Child(work / "rates.log") as child:
        try:
            found: dict[str, float] = child.call("rates", threads=machine.cores, folder=str(folder))["rates"]
        except ChildFailure:
            return {}
    return found


def _probe_files(work: Path, progress: Callable[[float, str], None]) -> tuple[list[ProbeFile], dict[str, Workload]]:
    """The networks in all forms, and what they compute."""
    progress(0.0, "writing probe networks")
    with Child(work / "write.log") as child:
        found = child.call("probe_networks", folder=str(work / "networks"))
        files = [decode(ProbeFile, entry) for entry in found["files"]]
        plain = [file for file in files if (file.form, file.format) == ("float", "onnx")]
        workloads = {file.network: decode(Workload, child.call("analyze", model=file.path)["workload"]) for file in plain}
    return files, workloads


def _profile_all(
    setting: Setting, files: Sequence[ProbeFile], journal: _Journal, deadline: float, work: Path, tell: Callable[[], None]
) -> None:
    """Profiles one network after the other until the time is up; one that fails is left out."""
    todo = [file for file in files if not journal.has(setting, file.network)]
    rest = itertools.chain(todo)
    while (file := next(rest, None)) is not None and time.monotonic() < deadline:
        with Child(work / f"{setting.runtime}.log", memory_limit_bytes=_MEMORY_LIMIT_BYTES) as child:
            while file is not None and time.monotonic() < deadline:
                tell()
                try:
                    journal.add(_trace(child, setting, file))
                except ChildFailure:
                    if not child.alive:
                        break
                file = next(rest, None)


def _trace(child: Child, setting: Setting, file: ProbeFile) -> Trace:
    answer = child.call(
        "trace", timeout_s=_START_LIMIT_S, path=file.path, format=file.format, runtime=setting.runtime,
        options=dict(setting.options), repeats=LITERT_REPEATS if setting.format == "litert" else REPEATS, seconds=BLOCK_S,
    )  # fmt: skip
    profile = decode(Profile, answer["profile"])
    return Trace(
        network=file.network,
        kind=file.kind,
        form=setting.form,
        runtime=setting.runtime,
        options=setting.options,
        threads=profile.threads,
        call_s=float(answer["call_s"]),
        io_bytes=_io_bytes(profile),
        kernels=tuple(replace(kernel, sources=()) for kernel in profile.kernels),
    )


def _io_bytes(profile: Profile) -> float:
    """What goes in and out, by the first and the last kernel."""
    if not profile.kernels:
        return 0.0
    shapes: list[Any] = [*profile.kernels[0].inputs[:1], *profile.kernels[-1].outputs]
    return 4.0 * sum(map(math.prod, shapes))
