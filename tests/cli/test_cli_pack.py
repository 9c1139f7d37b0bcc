"""``dovetail pack`` and ``dovetail unpack``: there and back, byte for byte."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dovetail.cli import main

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return call


def test_a_model_comes_back_as_it_was(run: Run, digits: Path, tmp_path: Path) -> None:
    code, out, _ = run("pack", digits / "digits.onnx")
    assert code == 0 and out.startswith("digits.dtvw written, ") and "byte for byte" in out
    code, out, _ = run("unpack", "digits.dtvw", "--out", "again.onnx")
    assert code == 0 and out.startswith("again.onnx written")
    assert (tmp_path / "again.onnx").read_bytes() == (digits / "digits.onnx").read_bytes()
    assert (tmp_path / "digits.dtvw").stat().st_size < (tmp_path / "again.onnx").stat().st_size


def test_files_are_not_replaced_unless_asked_for(run: Run, digits: Path) -> None:
    assert run("pack", digits / "digits.onnx")[0] == 0
    code, _, err = run("pack", digits / "digits.onnx")
    assert code == 2 and err.startswith("error: digits.dtvw: the file is there already")
    assert run("pack", digits / "digits.onnx", "--force")[0] == 0


def test_what_cannot_be_packed_or_unpacked_is_one_message(run: Run, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    cases = [
        (("pack", "absent.onnx"), "absent.onnx: there is no such file"),
        (("pack", "text.onnx"), "text.onnx: it is not an ONNX model"),
        (("unpack", "absent.dtvw"), "absent.dtvw: it cannot be read"),
        (("unpack", digits / "digits.onnx", "--out", "y.onnx"), "it is not a packed model"),
    ]
    for arguments, message in cases:
        code, out, err = run(*arguments)
        assert code == 2 and not out
        assert err.startswith("error: ") and message in err and len(err.splitlines()) <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.onnx"]


def test_a_packed_file_given_as_a_model_says_what_to_do(run: Run, digits: Path) -> None:
    run("pack", digits / "digits.onnx")
    code, _, err = run("analyze", "digits.dtvw")
    assert code == 2 and "packed model" in err and "dovetail unpack" in err
