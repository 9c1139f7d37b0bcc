"""``dovetail scenario``: the example as a table and as JSON, its help, and a message for a bad file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dovetail.cli import main

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "scenario" / "cluster.yaml"
Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; returns exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["scenario", *map(str, arguments)])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return call


def test_the_table_shows_the_chain_the_product_and_the_realistic_numbers(run: Run) -> None:
    code, out, _ = run(EXAMPLE)
    assert code == 0
    assert "16 TFLOP/s" in out and "64.00×" in out and "2,000 W" in out
    assert "4 × 2 = 8" in out and "loses most" in out
    assert "T_serial / (p · T_parallel)" in out and "that is no efficiency" in out
    assert "accelerator.share" in out


def test_json_has_the_same_numbers(run: Run) -> None:
    code, out, _ = run(EXAMPLE, "--json")
    found = json.loads(out)
    rows = {row["quantity"]: row for row in found["rows"]}
    assert code == 0 and found["schema"] == 1
    assert found["chain"][-1]["flop_per_s"] == 16e12
    assert rows["speedup_one_machine"]["naive"] == 64 and rows["speedup_one_machine"]["plain"] == 16
    assert rows["speedup"]["realistic"]["low"] < rows["speedup"]["realistic"]["high"]
    assert found["loses_most"] in {part["factor"] for part in found["contributions"]}
    assert found["parallel"]["inverse"] == found["parallel"]["parallel_s"] / found["parallel"]["serial_s"]


def test_a_machine_without_factors(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "[bare].yaml"
    path.write_text("machine: {tflops: 1, memory_gb: 1, power_w: 5}\n", encoding="utf-8")
    code, out, _ = run(path)
    assert code == 0 and "[bare]" in out and "1.00×" in out


def test_help_names_the_example(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0 and str(EXAMPLE.relative_to(ROOT)) in out


def test_every_commented_line_of_the_example_can_be_used(run: Run, tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    code = [line.replace("# ", "", 1) if ":" in line and line.lstrip().startswith("# ") else line for line in lines[1:]]
    path = tmp_path / "all.yaml"
    path.write_text("\n".join(line for line in code if not line.startswith("Without")) + "\n", encoding="utf-8")
    status, out, err = run(path, "--json")
    assert status == 0, err
    open_keys = {item["key"] for item in json.loads(out)["assumptions"]}
    assert "accelerator.share" not in open_keys and "communication.share" not in open_keys


def test_bad_input_is_one_message_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("machine: {tflops: -1, memory_gb: 1, power_w: 5}\n", encoding="utf-8")
    code, out, err = run(path)
    assert code == 2 and out == "" and err.count("error: ") == 1
    assert "bad.yaml, line 1: machine.tflops: -1 does not fit" in err
