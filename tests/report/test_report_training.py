"""What ``dovetail train`` prints and writes."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from dovetail.core.measurement import Environment
from dovetail.core.training import Epoch, Objective, Schedule, TrainResult, Tried
from dovetail.report.training import headline, render_terminal, settings, write_html

MACHINE = Environment(fingerprint="", cpu="<i>a</i> processor", cores=2, isa=(), memory_bytes=1e9, os="", python="")


def epoch(number: int, score: float | None) -> Epoch:
    return Epoch(step=10 * number, epoch=number, loss=1 / number, score=score, learning_rate=0.1, seconds=2.0 * number)


@pytest.fixture
def result(tmp_path: Path) -> TrainResult:
    return TrainResult(
        folder=tmp_path,
        model_name="net.onnx",
        objective=Objective(task="auto"),
        schedule=Schedule(epochs=30),
        history=tuple(epoch(n, 1 - 0.5 / n) for n in range(1, 31)),
        score_name="accuracy",
        score=0.98,
        seconds=60.0,
        samples_per_s=1234.5,
        samples=50_000,
        environment=MACHINE,
        tried=(
            Tried(settings={"optimizer": "sgd", "learning_rate": 0.05}, score=0.7, score_name="accuracy"),
            Tried(settings={"optimizer": "adamw", "learning_rate": 0.01}, score=None),
        ),
        notes=("steps took longer than planned: 300 were made",),
    )


def printed(result: TrainResult) -> str:
    page = io.StringIO()
    render_terminal(result, Console(width=140, file=page))
    return page.getvalue()


def test_the_terminal_tells_the_score_the_course_and_the_files(result: TrainResult) -> None:
    text = printed(result)
    assert headline(result) == "net.onnx: 30 epochs in 1 min 00 s, held-out accuracy 0.98"
    assert headline(result) in text and "failed" in text and "steps took longer" in text and "training.json" in text
    assert text.count("1.00e-01") <= 12, "a screenful"
    assert dict(settings(result))["samples"] == "50,000, 10% held out, 1,000 at most"


def test_without_held_out_samples_nothing_is_claimed(result: TrainResult) -> None:
    schedule = replace(result.schedule, hold_out=0.0)
    plain = replace(result, schedule=schedule, score=None, score_name="", tried=(), history=(epoch(1, None),))
    assert headline(plain).endswith("loss 1; no samples were held out to judge it")
    assert "none held out" in printed(plain)
    assert "Search" not in write_html(plain).read_text()


def test_the_page_has_the_curves_and_escapes_names(result: TrainResult) -> None:
    page = write_html(replace(result, model_name="<b>.onnx")).read_text()
    assert page.count("<svg") == 3 and "&lt;b&gt;.onnx" in page and "<i>a</i>" not in page
    assert [path.name for path in result.folder.iterdir()] == ["report.html"]
