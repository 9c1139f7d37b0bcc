"""Calibrates the machine: profiles probe networks on every runtime, in every precision, at one thread and at all."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dovetail import plugins
from dovetail.core.calibration import READ, SCHEMA, TRACE_SCHEMA, Calibration, LeftOut, Trace
from dovetail.core.errors import DovetailError, InputError
from dovetail.core.gpu import GpuCalibration
from dovetail.core.json_lines import resume
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
NO_KERNELS = "the runtime does not tell what it executes"
OUT_OF_TIME = "its turn did not come in time"
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
        budget_s: seconds in all, once no other measurement runs. Settings share it; each takes as many networks as fit its
            share.

    Raises:
        DovetailError: the probe networks cannot be made, or nothing could be measured; an older calibration stays as it is.
    """
    machine = environment()
    chosen = settings(machine)
    journal = _Journal(folder / f"traces-{digest([encode(machine), TRACE_SCHEMA])[:12]}.jsonl")
    with measuring(lambda text: progress(0.0, text)), work_folder() as work:
        started = time.monotonic()
        end = started + budget_s
        progress(0.0, "memory and disk")
        measured = _rates(machine, folder, work)
        files, workloads = _probe_files(work, progress)
        left_out: list[LeftOut] = []
        for number, setting in enumerate(chosen):
            now = time.monotonic()
            limits = _Limits(deadline=now + max(0.0, end - now) / (len(chosen) - number), end=end)
            suitable = [f for f in files if (f.form, f.format) == (setting.form, setting.format)]
            tell = partial(progress, number / len(chosen), str(setting))
            left_out += _profile_all(setting, suitable, journal, limits, work, tell)
    if not journal.traces:
        hint = "calibrate again when the machine has less to do"
        raise DovetailError(f"nothing was measured within {budget_s:.0f} s: {_commonest(left_out)}", hint=hint)
    result = Calibration(
        environment=machine,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        traces=tuple(journal.traces),
        workloads=workloads,
        rates=measured,
        seconds=time.monotonic() - started,
        gpus=_kept_gpus(folder / FILE, machine),
        left_out=tuple(left_out),
    )
    save(result, folder / FILE)
    return result


def _commonest(left_out: Sequence[LeftOut]) -> str:
    return Counter(item.reason for item in left_out).most_common(1)[0][0] if left_out else "no runtime is installed"


def _kept_gpus(path: Path, machine: Environment) -> tuple[GpuCalibration, ...]:
    """Graphics processors of this machine that were calibrated before."""
    with suppress(InputError):
        found = load(path)
        if found.environment.fingerprint == machine.fingerprint:
            return found.gpus
    return ()


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
    if schema not in READ:
        known = " or ".join(map(str, READ))
        raise InputError(f"a calibration of schema {schema}, not {known}", where=str(path), hint="calibrate again")
    try:
        traces = [_without_old(trace) for trace in document.get("traces", ())]
        return decode(Calibration, {**document, "traces": traces, "schema": SCHEMA})
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"no calibration can be read from it: {error}", where=str(path)) from error


def _without_old(trace: Mapping[str, Any]) -> dict[str, Any]:
    """A trace as it was written, without what traces once held."""
    return {key: value for key, value in trace.items() if key != "io_bytes"}


class _Journal:
    """Finished traces, a line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.traces = [decode(Trace, _without_old(row)) for row in resume(path)]

    def of(self, setting: Setting) -> dict[str, Trace]:
        """Network → its trace in a setting."""
        wanted = (setting.runtime, setting.form, dict(setting.options))
        return {t.network: t for t in self.traces if (t.runtime, t.form, dict(t.options)) == wanted}

    def add(self, trace: Trace) -> None:
        """Files one."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(encode(trace)) + "\n")
        self.traces.append(trace)


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dovetail-calibrate-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """On the clock of ``time.monotonic``: from ``deadline`` on nothing more is begun, at ``end`` what runs is stopped."""

    deadline: float
    end: float


def _rates(machine: Environment, folder: Path, work: Path) -> dict[str, float]:
    """Of memory and disk; none where the disk cannot be tried."""
    with Child(work / "rates.log") as child:
        try:
            answer = child.call("rates", timeout_s=_START_LIMIT_S, threads=machine.cores, folder=str(folder))
        except ChildFailure:
            return {}
    found: dict[str, float] = answer["rates"]
    return found


def _probe_files(work: Path, progress: Callable[[float, str], None]) -> tuple[list[ProbeFile], dict[str, Workload]]:
    """The networks in all forms, and what they compute."""
    progress(0.0, "writing probe networks")
    try:
        with Child(work / "write.log") as child:
            found = child.call("probe_networks", folder=str(work / "networks"))
            files = [decode(ProbeFile, entry) for entry in found["files"]]
            plain = [file for file in files if (file.form, file.format) == ("float", "onnx")]
            workloads = {file.network: decode(Workload, child.call("analyze", model=file.path)["workload"]) for file in plain}
    except ChildFailure as failure:
        raise DovetailError(f"the probe networks cannot be made: {failure.outcome.reason}", where=str(work)) from failure
    return files, workloads


def _profile_all(
    setting: Setting, files: Sequence[ProbeFile], journal: _Journal, limits: _Limits, work: Path, tell: Callable[[], None]
) -> list[LeftOut]:
    """Profiles one network after the other until the time is up; returns those that have no trace, with the reason."""
    reasons = {file.network: file.failure for file in files if not file.path}
    finished = journal.of(setting)
    rest = iter([file for file in files if file.path and file.network not in finished])
    while (file := next(rest, None)) is not None and time.monotonic() < limits.deadline:
        with Child(work / f"{setting.runtime}.log", memory_limit_bytes=_MEMORY_LIMIT_BYTES) as child:
            while file is not None and time.monotonic() < limits.deadline:
                tell()
                try:
                    journal.add(_trace(child, setting, file, limits.end))
                except ChildFailure as failure:
                    reasons[file.network] = failure.outcome.reason
                    if not child.alive:
                        break
                file = next(rest, None)
    finished = journal.of(setting)
    reasons |= {name: NO_KERNELS for name, trace in finished.items() if not trace.kernels}
    lacking = [file.network for file in files if file.network in reasons or file.network not in finished]
    return [LeftOut(setting=str(setting), network=name, reason=reasons.get(name, OUT_OF_TIME)) for name in lacking]



def _trace(child: Child, setting: Setting, file: ProbeFile, end: float) -> Trace:
    left = max(1.0, end - time.monotonic())
    answer = child.call(
        "trace", timeout_s=min(_START_LIMIT_S, left), path=file.path, format=file.format, runtime=setting.runtime,
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
        kernels=tuple(replace(kernel, sources=()) for kernel in profile.kernels),
    )
