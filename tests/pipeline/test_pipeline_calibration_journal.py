"""A calibration that was stopped goes on; one that measured nothing leaves the older one as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dovetail.core.calibration import Calibration, Trace
from dovetail.core.errors import DovetailError, InputError
from dovetail.core.profile import KernelTime
from dovetail.core.serial import encode
from dovetail.devices.probe import environment
from dovetail.pipeline import calibrate
from dovetail.pipeline.forecast import unlike
from dovetail.pipeline.probe_traces import Journal

TRACE = Trace(
    network="resnet", kind="resnet", form="float", runtime="onnxruntime", options={"threads": 1}, threads=1, call_s=1e-3,
    kernels=(KernelTime(name="k", kind="Conv", time_s=1e-3),),
)  # fmt: skip


def test_a_line_that_was_cut_short_costs_one_trace_and_no_later_run(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    Journal(path).add(TRACE)
    with path.open("a") as file:
        file.write(json.dumps(encode(TRACE))[:-20])
    for name in ("mobilenet", "transformer"):
        journal = Journal(path)
        journal.add(replace(TRACE, network=name))
    assert [trace.network for trace in Journal(path).traces] == ["resnet", "mobilenet", "transformer"]


@pytest.mark.parametrize("document", [{"schema": 1}, {"schema": 1, "traces": [1]}, {"schema": 1, "date": 5, "traces": None}])
def test_a_file_that_only_bears_the_schema_is_no_calibration(tmp_path: Path, document: dict[str, object]) -> None:
    path = tmp_path / calibrate.FILE
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="no calibration can be read"):
        calibrate.load(path)


def test_a_calibration_with_other_libraries_says_which() -> None:
    here = environment()
    made = Calibration(environment=here, date="2026-01-01", traces=())
    assert unlike(made, here) == ""
    assert "openvino" in unlike(made, replace(here, versions={**here.versions, "openvino": "1999.1"}))
    assert "another machine" in unlike(made, replace(here, fingerprint="other"))


@pytest.mark.slow
def test_without_time_nothing_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_LOCK", str(tmp_path / "measure.lock"))
    (tmp_path / calibrate.FILE).write_text("as it was")
    with pytest.raises(DovetailError, match="nothing was measured within 0 s"):
        calibrate.calibrate(tmp_path, lambda share, text: None, budget_s=0.0)
    assert (tmp_path / calibrate.FILE).read_text() == "as it was"
