"""Fits of models whose inputs have free sizes: what may be fixed, and what is said of it."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import dovetail
from dovetail.core.artifact import Variant
from dovetail.core.errors import InputError
from dovetail.core.outcome import CandidateRecord
from dovetail.data.job import FitJob
from dovetail.export.artifact import read_manifest
from dovetail.measure.arena import Conditions
from dovetail.pipeline import finals
from dovetail.pipeline.builder import Builder
from dovetail.pipeline.describe import Request, describe
from dovetail.pipeline.job import Job
from dovetail.pipeline.optimize import _space
from dovetail.pipeline.trials import Trials
from dovetail.search.goal import Goal
from dovetail.search.race import Race
from dovetail.search.space import Proposal

HALVES_FIVE_TIMES = """
<ir_version: 8, opset_import: ["": 17]>
net (float[N, 3, height, width] x) => (float[N, 4, h, w] y) {
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, w0)
    b = Relu (a)
    c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
    d = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    e = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
    f = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (e)
    y = Conv <kernel_shape = [3, 3]> (f, w1)
}
"""


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(finals, "ROUNDS", 1)  # too few to certify anything, and quick


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Takes images of any size from 96 pixels on."""
    model = onnx.parser.parse_model(HALVES_FIVE_TIMES)
    random = np.random.default_rng(0)
    for name, shape in (("w0", (8, 3, 3, 3)), ("w1", (4, 8, 3, 3))):
        weights = random.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    onnx.save(model, tmp_path / "network.onnx")
    return tmp_path / "network.onnx"


def passes(holder: CandidateRecord | Variant | Proposal) -> set[str]:
    return {step.name for step in holder.recipe.passes}


def described(tmp_path: Path, data: object = None, **wishes: object) -> Job:
    job = FitJob.model_validate({"runtimes": ["onnxruntime", "litert"], **wishes})
    return describe(Request(job=job, data=data, out=tmp_path / "fit", cache=tmp_path / "cache"), lambda text: None)


def tried(job: Job, tmp_path: Path, *labels: str) -> dict[str, CandidateRecord]:
    """Trials of some recipes of the space, by label."""
    conditions = Conditions(
        split=job.splits["timing"].folder,
        indices=job.timing_indices,
        batch=job.wish.batch,
        logs=tmp_path / "logs",
        memory_limit_bytes=4e9,
    )
    (tmp_path / "rows").mkdir()
    trials = Trials(job, Builder(job, tmp_path / "cache", conditions), conditions, tmp_path / "rows")
    space = {proposal.label: proposal for proposal in _space(job)}
    race = Race(tuple(space.values()), Goal(margin=0.1))
    try:
        trials.open([space["original · onnxruntime"]])
        return {label: trials.run(space[label], race) for label in labels}
    finally:
        trials.close()


FIXED = ("static shapes · onnxruntime", "clean · litert")


def test_without_data_no_answer_is_bound_to_a_size_that_nobody_gave(network: Path, tmp_path: Path) -> None:
    result = dovetail.optimize(network, runtimes=["onnxruntime", "litert"], budget="15s", out=tmp_path / "fit")
    assert set().union(*map(passes, result.fit.candidates)) == {"clean"}
    assert [w for w in result.fit.warnings if "stay free: height = 224, width = 224;" in w]
    manifest = read_manifest(result.artifact)
    assert manifest.call_shapes == ({"x": (1, 3, 224, 224)},)
    assert not any(variant.notes for variant in manifest.variants)
    session = dovetail.load(result.artifact)
    assert [session.run({"x": np.zeros((2, 3, n, 96), np.float32)})[0].shape[2] for n in (96, 160)] == [1, 3]
    session.close()


def test_declared_sizes_are_fixed_and_every_such_recipe_says_so(network: Path, tmp_path: Path) -> None:
    job = described(tmp_path, model=str(network), inputs={"x": {"shape": [None, 3, 96, 128]}})
    assert job.free_dims == {"N": 1, "height": 96, "width": 128}
    assert job.warnings == ()
    for record in tried(job, tmp_path, *FIXED).values():
        assert record.infeasible is None
        assert record.notes[0] == "takes only shape x [1, 3, 96, 128]"


def test_the_manifest_says_what_shape_a_variant_takes(fitted: Path) -> None:
    """The digits network takes any batch; the answer may be fixed to one."""
    for variant in read_manifest(fitted / "fit").variants:
        fixed = bool({"static_shapes", "lower_litert"} & passes(variant))
        assert ("takes only shape image [1, 1, 16, 16]" in variant.notes) == fixed


# -- the batch -----------------------------------------------------------------------------------------------------------


def test_a_batch_keeps_fixed_shapes_and_litert_in_the_race(digits: Path, tmp_path: Path) -> None:
    files = {"model": str(digits / "digits.onnx"), "data": str(digits / "digits.npz")}
    job = described(tmp_path, **files, metric="accuracy", max_drop="10pp", batch=4)
    assert job.free_dims == {"N": 4}
    assert job.workload is not None and job.workload.input_shapes == {"image": (4, 1, 16, 16)}
    records = tried(job, tmp_path, *FIXED, "int8 · litert")
    for record in records.values():
        assert record.infeasible is None, record.infeasible
        assert record.notes[0] == "takes only shape image [4, 1, 16, 16]"
    quality = records["int8 · litert"].quality
    assert quality is not None and quality.value > 0.95


def test_a_fit_with_a_batch(digits: Path, tmp_path: Path) -> None:
    wishes = {"metric": "accuracy", "max_drop": "10pp", "batch": 4, "runtimes": ["onnxruntime", "litert"], "budget": "25s"}
    result = dovetail.optimize(digits / "digits.onnx", data=str(digits / "digits.npz"), out=tmp_path / "fit", **wishes)
    assert not [c.infeasible.reason for c in result.fit.candidates if c.infeasible]
    manifest = read_manifest(result.artifact)
    assert manifest.batch == 4
    assert manifest.call_shapes == ({"image": (4, 1, 16, 16)},)
    with np.load(digits / "digits.npz") as file:
        images, labels = file["image"][:4], file["label"][:4]
    session = dovetail.load(result.artifact)
    assert (session.run({"image": images})[0].argmax(axis=1) == labels).mean() >= 0.75
    session.close()


def test_samples_of_several_shapes_and_a_batch_are_one_message(network: Path, tmp_path: Path) -> None:
    def samples():  # type: ignore[no-untyped-def]
        for size in (96, 128) * 10:
            yield {"x": np.zeros((3, size, size), np.float32)}, None

    with pytest.raises(InputError, match="batch: samples cannot form a batch of 2"):
        described(tmp_path, samples, model=str(network), batch=2)
