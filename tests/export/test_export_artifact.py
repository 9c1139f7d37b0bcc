"""The artifact: a folder that can be checked, that runs without its makers, and that is replaced whole or not at all."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dovetail
from dovetail.core.errors import InputError, StorageError
from dovetail.core.protocols import Model
from dovetail.core.recipe import Recipe
from dovetail.export.artifact import Entry, check_hashes, hashes, read_manifest, run_script, variant_model, write_artifact
from dovetail.export.samples import recorded_samples
from dovetail.runtimes.onnxruntime import OnnxRuntime
from dovetail.runtimes.openvino import OpenVino


@pytest.fixture
def artifact(fitted, tmp_path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(fitted / "fit", tmp_path / "fit"))


def edit_manifest(folder: Path, change) -> None:
    data = json.loads((folder / "manifest.json").read_text())
    change(data)
    (folder / "manifest.json").write_text(json.dumps(data))


@pytest.fixture
def images(digits):
    with np.load(digits / "digits.npz") as data:
        return data["image"][:4]


# -- what is in it -------------------------------------------------------------------------------------------------------


def test_the_manifest_lists_every_file_with_its_hash(artifact):
    manifest = read_manifest(artifact)
    assert check_hashes(artifact, manifest) == {}
    present = {name: digest for name, digest in hashes(artifact).items() if name != "journal.jsonl"}
    assert manifest.files == present
    assert {"evidence.jsonl", "report.html", "report.json", "run.py"} <= present.keys()
    assert "original" in {variant.name for variant in manifest.variants}
    assert all(variant.path in present for variant in manifest.variants)


def test_the_manifest_says_where_its_numbers_hold(artifact, fitted):
    manifest, result = read_manifest(artifact), json.loads((fitted / "result.json").read_text())
    assert manifest.status == result["status"]
    assert manifest.environment.fingerprint == result["environment"]["fingerprint"]
    assert {"calibration", "selection", "certification"} <= manifest.data_hashes.keys()
    assert manifest.splits == result["splits"]
    assert manifest.inputs[0]["name"] == "image"


def test_the_manifest_says_what_was_timed_and_against_what(artifact, fitted):
    manifest, result = read_manifest(artifact), json.loads((fitted / "result.json").read_text())
    assert manifest.schema == 2
    assert manifest.batch == 1
    assert manifest.call_shapes == ({"image": (1, 1, 16, 16)},)
    assert manifest.baseline.key == result["best_baseline"]


def test_the_evidence_knows_every_sample_of_the_fit(artifact, fitted, digits):
    recorded = recorded_samples(artifact)
    manifest = read_manifest(artifact)
    assert {name: len(digests) for name, digests in recorded.items()} == manifest.splits
    assert sum(len(np.unique(digests)) for digests in recorded.values()) == 1000


def test_an_artifact_of_the_first_schema_is_read(artifact):
    def as_then(data):
        data["schema"] = 1
        for key in ("baseline", "batch", "call_shapes", "values"):
            del data[key]
        for variant in data["variants"]:
            del variant["notes"]

    edit_manifest(artifact, as_then)
    old = read_manifest(artifact)
    assert (old.baseline, old.batch, old.call_shapes) == (None, 1, ())
    assert old.variants[0].notes == ()
    dovetail.load(artifact).close()


def test_evidence_that_is_damaged_is_one_message(artifact):
    (artifact / "evidence.jsonl").write_text('{"kind": "samples", "split": "selection"}')
    with pytest.raises(InputError, match="the evidence cannot be read"):
        recorded_samples(artifact)


def test_the_result_says_that_a_script_runs_it_alone(artifact, fitted):
    assert json.loads((fitted / "result.json").read_text())["runs_alone"] is True
    assert "run.py" in (artifact / "report.html").read_text()


def test_nothing_is_pickled(artifact):
    suffixes = {path.suffix for path in artifact.rglob("*") if path.is_file()}
    assert suffixes <= {".onnx", ".xml", ".bin", ".json", ".jsonl", ".py", ".html"}
    for path in artifact.rglob("*"):
        assert not path.is_file() or path.read_bytes()[:2] not in (b"\x80\x03", b"\x80\x04", b"\x80\x05"), path


# -- running it ----------------------------------------------------------------------------------------------------------


def test_load_runs_the_answer_and_the_original_alike(artifact, images):
    answer = dovetail.load(artifact).run({"image": images})[0]
    original = dovetail.load(artifact, "original").run({"image": images})[0]
    assert answer.shape == original.shape == (4, 10)
    assert (answer.argmax(axis=1) == original.argmax(axis=1)).all()


ALONE = """
import importlib.abc, runpy, sys

class OnlyThese(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name + " is not installed")

sys.meta_path.insert(0, OnlyThese())
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
OTHERS = ["dovetail", "onnx", "onnx_ir", "onnxscript", "scipy", "pydantic", "psutil", "torch", "nncf", "typer", "rich"]


def run_alone(script: Path, blocked: list[str], *arguments: Path) -> str:
    code = ALONE.format(blocked=set(blocked), argv=[str(script), *map(str, arguments)])
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_run_py_needs_numpy_and_the_one_runtime(artifact, images, tmp_path):
    np.savez(tmp_path / "feeds.npz", image=images)
    out = run_alone(artifact / "run.py", [*OTHERS, "openvino"], tmp_path / "feeds.npz", tmp_path / "out.npz")
    assert "logits float32 (4, 10)" in out
    assert "ms a call" in out
    with np.load(tmp_path / "out.npz") as found:
        expected = dovetail.load(artifact).run({"image": images})[0]
        np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-4)


def test_run_py_makes_inputs_up(artifact):
    assert "logits float32 (1, 10)" in run_alone(artifact / "models" / "original" / "run.py", [*OTHERS, "openvino"])


def test_run_py_makes_inputs_up_in_the_shapes_that_were_timed(artifact, digits):
    runs = replace(entry(digits), session_source=OnnxRuntime().run_source({}))
    write_artifact(artifact, replace(read_manifest(artifact), call_shapes=({"image": (4, 1, 16, 16)},)), [runs], [], {})
    assert "logits float32 (4, 10)" in run_alone(artifact / "run.py", [*OTHERS, "openvino"])


def test_run_py_of_openvino_needs_openvino_alone(digits, images, tmp_path):
    shutil.copy(digits / "digits.onnx", tmp_path)
    (tmp_path / "run.py").write_text(run_script(OpenVino().run_source({}), "openvino", "digits.onnx", {}, {}))
    np.savez(tmp_path / "feeds.npz", image=images)
    out = run_alone(tmp_path / "run.py", [*OTHERS, "onnxruntime"], tmp_path / "feeds.npz")
    assert "logits float32 (4, 10)" in out


# -- damage --------------------------------------------------------------------------------------------------------------


def test_a_changed_file_is_found(artifact):
    target = artifact / read_manifest(artifact).variants[0].path
    damaged = bytearray(target.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    target.write_bytes(damaged)
    (artifact / "report.html").unlink()
    wrong = check_hashes(artifact, read_manifest(artifact))
    assert wrong == {target.relative_to(artifact).as_posix(): "changed", "report.html": "missing"}
    with pytest.raises(InputError, match="not as they were written"):
        dovetail.load(artifact)


def test_a_file_path_that_leaves_the_folder_is_refused(artifact):
    outside = artifact.parent / "secret"
    outside.write_text("x")
    edit_manifest(artifact, lambda data: data["files"].update({"../secret": "0" * 64, "/etc/passwd": "0" * 64}))
    wrong = check_hashes(artifact, read_manifest(artifact))
    assert wrong == {"../secret": "outside the artifact", "/etc/passwd": "outside the artifact"}


def test_a_variant_path_that_leaves_the_folder_is_refused(artifact):
    manifest = read_manifest(artifact)
    for path in ("../model.onnx", "/etc/passwd", "models/../../model.onnx"):
        with pytest.raises(InputError, match="leaves the artifact"):
            variant_model(artifact, replace(manifest.variants[0], path=path))


def test_a_link_that_leaves_the_folder_is_refused(artifact):
    (artifact / "report.html").unlink()
    (artifact / "report.html").symlink_to("/etc/passwd")
    assert check_hashes(artifact, read_manifest(artifact)) == {"report.html": "outside the artifact"}


def test_a_model_that_the_manifest_does_not_vouch_for_is_refused(artifact):
    """Otherwise a manifest could name a file whose hash nobody checks."""
    name = read_manifest(artifact).variants[0].path
    edit_manifest(artifact, lambda data: data["files"].pop(name))
    with pytest.raises(InputError, match="not as they were written"):
        dovetail.load(artifact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(schema=99), "schema 99"),
        (lambda data: data.pop("variants"), "damaged"),
        (lambda data: data.update(surprise=1), "damaged"),
        (lambda data: data.update(variants=[7]), "damaged"),
        (lambda data: data.update(variants=[]), "holds no variant"),
    ],
)
def test_a_damaged_manifest_is_one_message(artifact, change, message):
    edit_manifest(artifact, change)
    with pytest.raises(InputError, match=message):
        dovetail.load(artifact)


@pytest.mark.parametrize("content", [b"", b"not json", b"[1]", b"\xff\xfe"])
def test_a_manifest_that_is_none_is_one_message(artifact, content):
    (artifact / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match="manifest"):
        read_manifest(artifact)


def test_a_folder_without_manifest_is_no_artifact(tmp_path):
    with pytest.raises(InputError, match="not an artifact"):
        dovetail.load(tmp_path)


def test_an_unknown_variant_names_the_known_ones(artifact):
    with pytest.raises(InputError, match="known: .*original"):
        dovetail.load(artifact, "nosuch")


# -- writing -------------------------------------------------------------------------------------------------------------


def entry(digits: Path) -> Entry:
    model = Model(path=digits / "digits.onnx")
    return Entry(name="original", model=model, recipe=Recipe(runtime="null"), certificates=(), session_source=None)


def test_an_artifact_is_replaced_whole(artifact, digits):
    (artifact / "mine.txt").write_text("kept")
    old = read_manifest(artifact)
    new = write_artifact(artifact, replace(old, headline="new"), [entry(digits)], [{"kind": "round"}], {"report.html": "new"})
    assert read_manifest(artifact) == new
    assert new.headline == "new"
    assert check_hashes(artifact, new) == {}
    assert [path.name for path in (artifact / "models").iterdir()] == ["original"]
    assert (artifact / "mine.txt").read_text() == "kept"
    assert not list(artifact.glob(".*"))


def test_files_of_others_stay_and_files_of_the_old_artifact_go(artifact, digits):
    """An infeasible fit leaves no model that could be taken for its answer."""
    (artifact / "models" / "mine").mkdir()
    (artifact / "models" / "mine" / "net.onnx").write_text("kept")
    (artifact / "models" / "original" / "notes.txt").write_text("kept")
    journal = (artifact / "journal.jsonl").read_bytes()
    new = write_artifact(artifact, read_manifest(artifact), [], [], {"report.html": "infeasible"})
    assert new.files.keys() == {"evidence.jsonl", "report.html"}
    left = {path.relative_to(artifact).as_posix() for path in artifact.rglob("*") if path.is_file()}
    kept = {"models/mine/net.onnx", "models/original/notes.txt"}
    assert left == {"manifest.json", "journal.jsonl", *new.files, *kept}
    assert all((artifact / name).read_text() == "kept" for name in kept)
    assert (artifact / "journal.jsonl").read_bytes() == journal


def test_a_file_of_others_under_a_name_that_is_needed_stops_it_before_anything_changes(artifact, digits, tmp_path):
    manifest, out = read_manifest(artifact), tmp_path / "out"
    (out / "models" / "original").mkdir(parents=True)
    (out / "models" / "original" / "digits.onnx").write_text("mine")
    with pytest.raises(StorageError, match=r"digits\.onnx: it is there, and not of an earlier artifact"):
        write_artifact(out, manifest, [entry(digits)], [], {})
    assert [path for path in out.rglob("*") if path.is_file()] == [out / "models" / "original" / "digits.onnx"]
    (out / "models" / "original" / "digits.onnx").unlink()
    (out / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="manifest"):
        write_artifact(out, manifest, [entry(digits)], [], {})
    assert (out / "manifest.json").read_text() == "{}"


def test_an_old_manifest_removes_nothing_outside_its_folder(artifact, digits, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("a.txt", "b.txt"):
        (outside / name).write_text("kept")
    (artifact / "link").symlink_to(outside)
    named = ["../outside/a.txt", "link/b.txt", str(outside / "a.txt"), "..", ".", "", "models"]
    edit_manifest(artifact, lambda data: data["files"].update(dict.fromkeys(named, "0" * 64)))
    write_artifact(artifact, read_manifest(artifact), [entry(digits)], [], {})
    assert [(outside / name).read_text() for name in ("a.txt", "b.txt")] == ["kept", "kept"]
    assert (artifact / "models" / "original" / "digits.onnx").exists()


def test_a_write_that_was_killed_leaves_nothing_unknown(artifact, digits, monkeypatch):
    """Whatever lies there is in the manifest, so that the next write replaces it."""
    old, moved = read_manifest(artifact), []
    whole = Path.replace

    def killed(self, target):
        moved.append(target)
        if len(moved) == 3:
            raise KeyboardInterrupt
        return whole(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_artifact(artifact, old, [replace(entry(digits), name="another")], [], {"report.html": "half"})
    monkeypatch.undo()
    listed = read_manifest(artifact).files
    present = {path.relative_to(artifact).as_posix() for path in artifact.rglob("*") if path.is_file()}
    assert present <= {"manifest.json", "journal.jsonl", *listed}
    assert set(check_hashes(artifact, read_manifest(artifact)).values()) <= {"missing", "changed"}
    new = write_artifact(artifact, old, [entry(digits)], [], {"report.html": "whole"})
    assert check_hashes(artifact, new) == {}
    assert [path.name for path in (artifact / "models").iterdir()] == ["original"]


def failing_evidence():
    yield {"kind": "round"}
    raise OSError(28, "No space left on device")


def test_an_artifact_survives_a_write_that_fails(artifact, digits):
    before = hashes(artifact)
    manifest = read_manifest(artifact)
    with pytest.raises(StorageError, match="No space left on device"):
        write_artifact(artifact, replace(manifest, headline="new"), [entry(digits)], failing_evidence(), {})
    assert hashes(artifact) == before
    assert read_manifest(artifact) == manifest
    assert not list(artifact.glob(".*"))


def test_a_model_that_vanished_is_a_storage_error_and_leaves_nothing(tmp_path, digits, fitted):
    gone = replace(entry(digits), model=Model(path=tmp_path / "gone.onnx"))
    with pytest.raises(StorageError, match="cannot write the artifact"):
        write_artifact(tmp_path / "out", read_manifest(fitted / "fit"), [gone], [], {})
    assert not list((tmp_path / "out").iterdir())
