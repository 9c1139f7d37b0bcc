"""Calibrates the machine: profiles probe networks on every runtime, in every precision, at one thread and at all."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from dovetail.core.calibration import READ, SCHEMA, TRACE_SCHEMA, Calibration, LeftOut
from dovetail.core.errors import DovetailError, InputError
from dovetail.core.gpu import GpuCalibration
from dovetail.core.measurement import Environment
from dovetail.core.recipe import digest
from dovetail.core.serial import decode, encode
from dovetail.core.workload import Workload
from dovetail.devices.probe import environment
from dovetail.measure.child import Child, ChildFailure
from dovetail.measure.lock import measuring
from dovetail.pipeline.probe_traces import START_LIMIT_S, Journal, settings, visit_all, without_old
from dovetail.probe_files import ProbeFile

BUDGET_S = 280.0
"""Of what is measured, so that it stays below five minutes with what is learned from it."""
FILE = "calibration.json"


def calibrate(folder: Path, progress: Callable[[float, str], None], *, budget_s: float = BUDGET_S) -> Calibration:
    """Measures what is missing, and writes :data:`FILE`.

    Args:
        folder: keeps the traces that are finished; the same call goes on where it was stopped.
        progress: called with the share done and what is being done.
        budget_s: seconds in all, once no other measurement runs.

    Raises:
        DovetailError: the probe networks cannot be made, or nothing could be measured; an older calibration stays as it is.
    """
    machine = environment()
    journal = Journal(folder / f"traces-{digest([encode(machine), TRACE_SCHEMA])[:12]}.jsonl")
    with measuring(lambda text: progress(0.0, text)), work_folder() as work:
        started = time.monotonic()
        progress(0.0, "memory and disk")
        measured = _rates(machine, folder, work)
        files, workloads = _probe_files(work, progress)
        left_out = visit_all(settings(machine), files, journal, started + budget_s, work, progress)
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
        traces = [without_old(trace) for trace in document.get("traces", ())]
        return decode(Calibration, {**document, "traces": traces, "schema": SCHEMA})
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"no calibration can be read from it: {error}", where=str(path)) from error


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dovetail-calibrate-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rates(machine: Environment, folder: Path, work: Path) -> dict[str, float]:
    """Of memory and disk; none where the disk cannot be tried."""
    with Child(work / "rates.log") as child:
        try:
            answer = child.call("rates", timeout_s=START_LIMIT_S, threads=machine.cores, folder=str(folder))
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
