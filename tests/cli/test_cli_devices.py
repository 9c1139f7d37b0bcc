"""``dovetail devices``: every verb, its JSON, and its messages."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dovetail.cli import main

BOARD = "devices:\n  - {name: My board, kind: edge, peak_tops: {int8: 4}, memory_gb: 2, memory_gbps: 12.8}\n"
Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOVETAIL_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return call


@pytest.mark.parametrize("verb", ["", "list", "show", "compare", "add"])
def test_help_shows_examples(run: Run, verb: str) -> None:
    code, out, _ = run("devices", *verb.split(), "--help")
    assert code == 0
    assert len(re.findall(rf"^\s*dovetail devices {verb}", out, re.MULTILINE)) >= 2


def test_alone_it_lists(run: Run) -> None:
    assert run("devices")[:2] == run("devices", "list")[:2]
    assert "H100 SXM 80GB" in run("devices")[1]


def test_list_by_kind_sorted_as_json(run: Run) -> None:
    code, out, _ = run("devices", "list", "--kind", "mcu", "--sort", "memory", "--json")
    found = json.loads(out)["devices"]
    sizes = [device["memory"][0]["capacity_bytes"]["value"] for device in found]
    assert code == 0 and {device["kind"] for device in found} == {"mcu"} and sizes == sorted(sizes, reverse=True)


def test_show(run: Run) -> None:
    code, out, _ = run("devices", "show", "h100")
    assert code == 0 and "989 TFLOP/s" in out and "stas00/ml-engineering" in out
    code, out, _ = run("devices", "show", "h100", "--json")
    assert code == 0 and json.loads(out)["device"]["name"] == "H100 SXM 80GB"


def test_compare(run: Run) -> None:
    code, out, _ = run("devices", "compare", "a100", "h100")
    assert code == 0 and "3.17×" in out
    code, out, _ = run("devices", "compare", "a100", "h100", "--json")
    assert code == 0 and json.loads(out)["devices"] == ["A100 SXM 80GB", "H100 SXM 80GB"]


def test_add_then_show(run: Run, tmp_path: Path) -> None:
    (tmp_path / "board.yaml").write_text(BOARD)
    code, out, err = run("devices", "add", "board.yaml")
    assert (code, err) == (0, "") and out.startswith("My board: added, in ")
    assert "user" in run("devices", "show", "my-board")[1]
    code, out, err = run("devices", "add", "board.yaml")
    assert code == 2 and out == "" and "--force" in err
    assert run("devices", "add", "board.yaml", "--force")[0] == 0


def test_add_warns_of_numbers_that_look_odd(run: Run, tmp_path: Path) -> None:
    (tmp_path / "board.yaml").write_text(BOARD.replace("12.8", "0.0001"))
    code, _, err = run("devices", "add", "board.yaml")
    assert code == 0 and err.startswith("warning: My board: ") and "FLOP per byte" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "h1000"], "did you mean"),
        (["show", "jetson"], "may be any of"),
        (["compare", "h100"], "two devices or more"),
        (["compare", "h100", "abacus"], "no device 'abacus'"),
        (["list", "--kind", "toaster"], "no kind 'toaster'"),
        (["list", "--sort", "speed"], "no column 'speed'"),
        (["add", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_bad_input_is_one_message(run: Run, arguments: list[str], words: str) -> None:
    code, out, err = run("devices", *arguments)
    assert (code, out) == (2, "") and words in err and "Traceback" not in err and err.count("error: ") == 1
