"""How a workload is shown."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from dovetail.core.serial import decode
from dovetail.core.workload import Workload
from dovetail.report.analysis import render_terminal, to_json
from dovetail.workloads.analyze import analyze


def workload() -> Workload:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"], "mm[0]"), helper.make_node("TopK", ["h", "k"], ["y", "i"], "top")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 500])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((500, 1000), np.float32), "w"), numpy_helper.from_array(np.int64([5]), "k")],
    )
    return analyze(helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]))


def test_terminal_shows_numbers_with_units_and_what_is_missing() -> None:
    stream = io.StringIO()
    render_terminal(workload(), Console(file=stream, width=140), per_op=True)
    text = stream.getvalue()
    for expected in (
        "1 MFLOP",
        "500 k",
        "2 MB",
        "mm[0]",
        "Not counted",
        "TopK: its work depends on the data",
        "N: 1",
        "unknown",
    ):
        assert expected in text


def test_json_is_complete_and_comes_back() -> None:
    work = workload()
    data = json.loads(json.dumps(to_json(work)))
    assert set(data) == {"schema", "totals", "by_kind", "workload"}
    assert data["totals"]["matrix_flop"] == 1e6 and data["totals"]["complete"] is False
    assert [row["kind"] for row in data["by_kind"]] == ["TopK", "MatMul"] and data["by_kind"][0]["flop"] is None
    assert decode(Workload, data["workload"]) == work
