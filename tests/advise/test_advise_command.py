"""``dovetail advise``: terminal, JSON, page, messages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dovetail.cli import main

SHOP = Path(__file__).parents[2] / "examples" / "advise" / "shop-video.yaml"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["advise", *map(str, arguments)])
    said = capsys.readouterr()
    return stop.value.code, said.out, said.err


def test_terminal_says_what_is_best_and_why_not_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(capsys, SHOP, "--all")
    assert code == 0 and "Jetson Orin" in out.splitlines()[0]
    for words in ("excluded", "cannot be told", "power (sure no)", "what would move the limit", "memory bandwidth"):
        assert words in out


def test_json_holds_every_device(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, SHOP, "--json")
    found = json.loads(out)["advice"]
    assert code == 0 and found["ranked"][0]["standing"] in ("sure yes", "likely yes")
    assert len(found["ranked"]) + len(found["unknown"]) + len(found["excluded"]) >= 147


def test_page_is_self_contained_with_three_plots(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, _ = run(capsys, SHOP, "--html", tmp_path / "advice.html")
    page = (tmp_path / "advice.html").read_text()
    assert code == 0 and page.count("<svg") == 3
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page and "<script" not in page


def test_a_model_alone_is_ranked_on_every_device(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    weight = np.zeros((20, 3, 3, 3), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 20, 62, 62])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "one.onnx")
    code, out, _ = run(capsys, tmp_path / "one.onnx", "--json")
    assert code == 0 and len(json.loads(out)["advice"]["ranked"]) > 80


def test_a_bad_job_is_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("colour: red\n")
    code, out, err = run(capsys, tmp_path / "job.yaml")
    assert code == 2 and not out and "'colour'" in err and "Traceback" not in err
