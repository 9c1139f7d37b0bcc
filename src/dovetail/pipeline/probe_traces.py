"""Traces of the probe networks: each network in every setting.

A shared host has slow phases of seconds to minutes. All settings of one network are visited one after the other, so that a
phase falls on a few networks in all settings, and not on all networks in one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from dovetail import plugins
from dovetail.core.calibration import LeftOut, Trace
from dovetail.core.json_lines import resume
from dovetail.core.measurement import Environment
from dovetail.core.profile import Profile
from dovetail.core.recipe import Scalar
from dovetail.core.serial import decode, encode
from dovetail.measure.child import Child, ChildFailure
from dovetail.probe_files import ProbeFile

REPEATS = 20
LITERT_REPEATS = 6
"""LiteRT's operators are cut out and timed one by one, each several times over in a call."""
BLOCK_S = 0.05
"""Of timed calls of one network, after as long to warm up."""
LAST_S = 1.0
"""No visit begins so shortly before the end."""
NO_KERNELS = "the runtime does not tell what it executes"
OUT_OF_TIME = "its turn did not come in time"
START_LIMIT_S = 120.0
_LEFT_OUT = frozenset({"null", "torch"})
"""Runtimes that are not calibrated: the null runtime computes nothing, and torch compiles for seconds a model."""
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
    """Every installed runtime in float, in 8 bits and in its low precisions, at one thread and at all."""
    found = []
    for name in plugins.names("dovetail.runtimes"):
        runtime = plugins.runtime(name)
        if name in _LEFT_OUT or runtime.missing():
            continue
        kind = "litert" if "litert" in runtime.formats else "onnx"
        low = [k.choices for k in runtime.knobs(machine) if k.name == "precision"]
        precisions = [value for choices in low for value in choices if value in ("bf16", "f16")]
        for threads in dict.fromkeys((machine.cores, 1)):
            for form in ("float", *sorted(runtime.integer_forms)):
                found.append(Setting(runtime=name, form=form, format=kind, options={"threads": threads}))
            for value in precisions:
                options: dict[str, Scalar] = {"threads": threads, "precision": value}
                found.append(Setting(runtime=name, form="float", format=kind, options=options))
    return found


class Journal:
    """Finished traces, a line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._traces: dict[tuple[str, str], Trace] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        for row in resume(path):
            self._take(decode(Trace, without_old(row)))

    @property
    def traces(self) -> list[Trace]:
        """One of each network in each setting."""
        return list(self._traces.values())

    def get(self, setting: Setting, network: str) -> Trace | None:
        """The trace of one network in a setting."""
        return self._traces.get((_key(setting), network))

    def add(self, trace: Trace) -> None:
        """Files one."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(encode(trace)) + "\n")
        self._take(trace)

    def _take(self, trace: Trace) -> None:
        self._traces[_key(trace), trace.network] = trace


def _key(item: Trace | Setting) -> str:
    return json.dumps([item.runtime, item.form, sorted(item.options.items())])


def without_old(trace: Mapping[str, Any]) -> dict[str, Any]:
    """A trace as it was written, without what traces once held."""
    return {key: value for key, value in trace.items() if key != "io_bytes"}


def visit_all(
    chosen: Sequence[Setting],
    files: Sequence[ProbeFile],
    journal: Journal,
    end: float,
    work: Path,
    progress: Callable[[float, str], None],
) -> list[LeftOut]:
    """Measures what the journal lacks, until the time is up.

    Args:
        chosen: the settings.
        files: the networks in every form.
        journal: of what is measured.
        end: on the clock of ``time.monotonic``; what runs then is stopped.
        work: folder for the logs of the children.
        progress: called with the share of the visits that are done, and the next one in words.

    Returns:
        What has no trace, with the reason.
    """
    reasons: dict[tuple[str, str], str] = {}
    wanted = list(_in_turn(chosen, files))
    for setting, file in wanted:
        if not file.path:
            reasons[str(setting), file.network] = file.failure
    todo = [(setting, file) for setting, file in wanted if file.path and journal.get(setting, file.network) is None]
    done = len(wanted) - len(todo)
    with _Visitor(journal, end, work) as visitor:
        for number, (setting, file) in enumerate(todo):
            if time.monotonic() > end - LAST_S:
                break
            progress((done + number) / len(wanted), f"{file.network}: {setting}")
            if why := visitor.visit(setting, file):
                reasons[str(setting), file.network] = why
    left_out = []
    for setting, file in sorted(wanted, key=lambda pair: str(pair[0])):
        trace = journal.get(setting, file.network)
        if trace is None or not trace.kernels:
            reason = NO_KERNELS if trace else reasons.get((str(setting), file.network), OUT_OF_TIME)
            left_out.append(LeftOut(setting=str(setting), network=file.network, reason=reason))
    return left_out


def _in_turn(chosen: Sequence[Setting], files: Sequence[ProbeFile]) -> Iterator[tuple[Setting, ProbeFile]]:
    """All settings of one network, then of the next."""
    by_network: dict[str, list[ProbeFile]] = {}
    for file in files:
        by_network.setdefault(file.network, []).append(file)
    for own in by_network.values():
        for setting in chosen:
            yield from ((setting, file) for file in own if (file.form, file.format) == (setting.form, setting.format))


class _Visitor:
    """One process a runtime, started when it is first wanted and again when it died."""

    def __init__(self, journal: Journal, end: float, work: Path) -> None:
        self._journal, self._end, self._work = journal, end, work
        self._children: dict[str, Child] = {}

    def __enter__(self) -> _Visitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in self._children.values():
            child.close()

    def visit(self, setting: Setting, file: ProbeFile) -> str:
        """Measures and files one; returns why it could not be, or nothing."""
        try:
            self._journal.add(self._traced(setting, file))
        except ChildFailure as failure:
            return failure.outcome.reason.removeprefix(f"{file.path}: ")
        return ""

    def _traced(self, setting: Setting, file: ProbeFile) -> Trace:
        answer = self._child(setting.runtime).call(
            "trace", timeout_s=min(START_LIMIT_S, max(1.0, self._end - time.monotonic())), path=file.path, format=file.format,
            runtime=setting.runtime, options=dict(setting.options),
            repeats=LITERT_REPEATS if setting.format == "litert" else REPEATS, seconds=BLOCK_S,
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

    def _child(self, runtime: str) -> Child:
        child = self._children.get(runtime)
        if child is None or not child.alive:
            if child is not None:
                with suppress(OSError):
                    child.close()
            child = self._children[runtime] = Child(self._work / f"{runtime}.log", memory_limit_bytes=_MEMORY_LIMIT_BYTES)
        return child
