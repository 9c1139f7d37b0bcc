"""A second look at an artifact: under the fit's own conditions, against its own baseline, on data that chose nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dovetail.cli import main
from dovetail.compress.static_shapes import StaticShapes
from dovetail.core.artifact import Manifest
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.errors import InputError
from dovetail.core.protocols import Model, PassContext
from dovetail.core.recipe import Recipe, freeze
from dovetail.data.dataset import open_split
from dovetail.data.job import FitJob
from dovetail.devices.probe import environment
from dovetail.export.artifact import Entry, read_manifest, write_artifact
from dovetail.export.samples import recorded_samples
from dovetail.pipeline.given import Given, read_given
from dovetail.pipeline.verify import verify

FASTER = Certificate(claim="it is faster", kind="speed", verdict=Verdict.CERTIFIED, method="", n=6, alpha=0.025, interval=None)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def artifact(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted / "fit", tmp_path / "fit"))


@pytest.fixture
def images(digits: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(digits / "digits.npz") as file:
        return file["image"], file["label"]


def entry(name: str, model: Path, runtime: str, *certificates: Certificate, **options: object) -> Entry:
    recipe = Recipe(runtime=runtime, options=freeze(options))
    return Entry(name=name, model=Model(path=model), recipe=recipe, certificates=certificates, session_source=None)


def written(folder: Path, like: Manifest, *entries: Entry, **changes: object) -> Path:
    write_artifact(folder, replace(like, **changes), list(entries), [], {})
    return folder


# -- speed ---------------------------------------------------------------------------------------------------------------


def test_an_answer_fixed_to_a_batch_is_timed_in_that_batch(fitted: Path, digits: Path, tmp_path: Path) -> None:
    """Without data and with them; the answer takes no other shape."""
    (tmp_path / "static").mkdir()
    context = PassContext(workdir=tmp_path / "static", environment=environment(), config={"batch": 4})
    static = StaticShapes().apply(Model(path=digits / "digits.onnx"), context).path
    made = written(
        tmp_path / "made",
        read_manifest(fitted / "fit"),
        entry("answer", static, "onnxruntime"),
        entry("original", digits / "digits.onnx", "onnxruntime"),
        baseline=Recipe(runtime="onnxruntime"),
        batch=4,
        call_shapes=({"image": (4, 1, 16, 16)},),
        splits={},
    )
    assert {check.name: check.status for check in verify(made, rounds=1).checks}["speed"] == "warning"  # one round is too few
    found = verify(made, data=str(digits / "digits.npz"), rounds=1)
    quality = next(c for c in found.certificates if c.kind == "quality")
    assert quality.n == 1000 and quality.data_hashes.keys() == {"unseen"}
    assert quality.value == quality.baseline_value > 0.9


def test_speed_is_compared_with_the_best_baseline(fitted: Path, digits: Path, tmp_path: Path) -> None:
    """The answer is faster than the original as it is by default, and slower than the original at its best."""
    model, like = digits / "digits.onnx", read_manifest(fitted / "fit")
    original = entry("original", model, "null", delay_s=0.004)
    claims = {"baseline": Recipe(runtime="null", options=freeze({"delay_s": 0.001}))}
    made = written(tmp_path / "made", like, entry("answer", model, "null", FASTER, delay_s=0.002), original, **claims)
    speed = {check.name: check for check in verify(made).checks}["speed"]
    assert speed.status == "failed"
    assert "the best baseline, original → null(delay_s=0.001)" in speed.detail
    modest = written(tmp_path / "modest", like, entry("answer", model, "null", delay_s=0.002), original, **claims)
    speed = {check.name: check for check in verify(modest).checks}["speed"]
    assert speed.status == "warning"
    assert "the fit did not claim it to be faster" in speed.hint


def test_a_baseline_with_a_file_of_its_own_is_taken_from_there(fitted: Path, digits: Path, tmp_path: Path) -> None:
    made = written(
        tmp_path / "made",
        read_manifest(fitted / "fit"),
        entry("answer", digits / "digits.onnx", "null", delay_s=0.002),
        entry("original", digits / "digits.onnx", "onnxruntime", threads=0),  # does not run
        entry("baseline", digits / "digits.onnx", "null"),
        baseline=Recipe(runtime="null"),
    )
    assert "original → null" in verify(made, rounds=2).certificates[0].claim


def test_what_does_not_run_here_is_one_message(fitted: Path, digits: Path, tmp_path: Path, capsys) -> None:
    """Whether it is timed first, or loaded only to judge its quality."""
    model, like = digits / "digits.onnx", read_manifest(fitted / "fit")
    broken = entry("original", model, "onnxruntime", threads=0)
    alone = written(tmp_path / "alone", like, broken)
    with pytest.raises(InputError, match="variant original: threads: threads cannot be 0"):
        verify(alone, data=str(digits / "digits.npz"))
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(alone), "--data", str(digits / "digits.npz"), "--quiet"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("threads cannot be 0") == 1
    timed = written(tmp_path / "timed", like, entry("answer", model, "null"), broken, baseline=broken.recipe)
    with pytest.raises(InputError, match=r"the best baseline, original → onnxruntime\(threads=0\) does not run here"):
        verify(timed, rounds=1)


def test_declared_values_are_fed_again(fitted: Path, shared_data: Path, tmp_path: Path) -> None:
    """A voice-activity network that knows two sampling rates and no other."""
    model = shared_data / "onnx_models" / "silero_vad_16k_op15.onnx"
    made = written(
        tmp_path / "made",
        read_manifest(fitted / "fit"),
        entry("answer", model, "onnxruntime"),
        entry("original", model, "onnxruntime"),
        baseline=Recipe(runtime="onnxruntime"),
        call_shapes=({"input": (1, 576), "sr": ()},),
        values={"sr": 16000},
    )
    assert verify(made, rounds=1).certificates[0].kind == "speed"
    split = next((tmp_path / "cache" / "splits").iterdir())
    assert open_split(split).sample(0).feeds["sr"].item() == 16000


# -- which data ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def given(fitted: Path, digits: Path, tmp_path: Path):
    """Reads arrays as the user would give them for the fitted digits."""

    def read(**arrays: np.ndarray) -> Given:
        np.savez(tmp_path / "given.npz", **arrays)
        job = FitJob(model=str(digits / "digits.onnx"), data=str(tmp_path / "given.npz"))
        return read_given(job, recorded_samples(fitted / "fit"))

    return read


def test_what_chose_the_answer_judges_nothing_however_the_data_are_split(given, images, fitted) -> None:
    order = np.random.default_rng(5).permutation(1000)
    found = given(image=images[0][order], label=images[1][order])
    assert found.role == "certification"
    assert found.certified == len(found.judged) == 600
    assert set(found.judged.digests) == set(recorded_samples(fitted / "fit")["certification"])
    assert "400 of 1,000 samples calibrated or selected" in found.check.detail
    assert "600 of them certified the fit, 0 are new" in found.check.detail


def test_the_data_of_the_fit_give_its_own_certification_split(given, images, fitted) -> None:
    found = given(image=images[0], label=images[1])
    assert found.judged.content_hash == read_manifest(fitted / "fit").data_hashes["certification"]


def test_new_samples_are_unseen(given, images) -> None:
    found = given(image=images[0] + np.float32(0.01), label=images[1])
    assert (found.role, len(found.judged)) == ("unseen", 1000)
    assert found.check.status == "ok"


def test_samples_that_all_chose_the_answer_leave_nothing_to_judge_on(fitted, digits, images, tmp_path) -> None:
    job = FitJob(model=str(digits / "digits.onnx"), data=str(digits / "digits.npz"))
    used = recorded_samples(fitted / "fit")
    everything = read_given(job, {}).samples
    rows = np.isin(everything.digests, np.concatenate([used["calibration"], used["selection"]]))
    np.savez(tmp_path / "chose.npz", image=images[0][rows], label=images[1][rows])
    found = verify(fitted / "fit", data=str(tmp_path / "chose.npz"), rounds=1)
    checks = {check.name: check for check in found.checks}
    assert checks["data"].status == "warning"
    assert "400 of 400 samples calibrated or selected in the fit: none is left" in checks["data"].detail
    assert "quality" not in checks


def test_a_unit_of_which_a_part_chose_the_answer_is_left_out_whole(given, images, fitted, digits, tmp_path) -> None:
    """But not for a sample that units of the certification split hold as well."""
    job = FitJob(model=str(digits / "digits.onnx"), data=str(digits / "digits.npz"))
    everything = read_given(job, {}).samples
    selected = np.flatnonzero(np.isin(everything.digests, recorded_samples(fitted / "fit")["selection"]))
    x = images[0][:30] + np.float32(0.01)
    x[4] = images[0][selected[0]]
    groups = np.arange(30) // 10
    assert given(image=x, group=groups).judged.groups.tolist() == [1] * 10 + [2] * 10
    used = dict(recorded_samples(fitted / "fit"))
    used["certification"] = np.append(used["certification"], everything.digests[selected[0]])
    again = read_given(FitJob(model=str(digits / "digits.onnx"), data=str(tmp_path / "given.npz")), used)
    assert len(again.judged) == 30


def test_an_artifact_that_records_no_samples_cannot_tell(artifact, digits) -> None:
    like = read_manifest(artifact)
    old = written(artifact, like, entry("original", digits / "digits.onnx", "onnxruntime"))
    assert like.splits and not recorded_samples(old)
    found = verify(old, data=str(digits / "digits.npz"), rounds=1)
    check = {check.name: check for check in found.checks}["data"]
    assert check.status == "warning" and "does not record" in check.detail
    assert found.certificates[0].data_hashes.keys() == {"unknown"}
