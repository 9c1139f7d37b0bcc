"""A fit of a LiteRT file: the file itself is the baseline, and what is found computes what it computes."""

from pathlib import Path

import numpy as np
import pytest

import dovetail
from dovetail.core.protocols import Model
from dovetail.export.artifact import read_manifest
from dovetail.lowering.lower import lower
from dovetail.pipeline import finals
from dovetail.pipeline.verify import verify
from dovetail.runtimes.litert import LiteRt


def own(path: Path, feeds: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Classes that the file itself finds."""
    session = LiteRt().build(Model(path=path, format="litert"), {"threads": 1})
    found = [int(session.run(feed)[0].argmax()) for feed in feeds]
    session.close()
    return np.array(found)


def classes(artifact: Path, feeds: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Classes that the answer finds."""
    session = dovetail.load(artifact)
    found = [int(session.run(feed)[0].argmax()) for feed in feeds]
    session.close()
    return np.array(found)


def fitted(model: Path, data: tuple[np.ndarray, np.ndarray], folder: Path, budget: str) -> dovetail.api.Result:
    runtimes, out = ["litert", "onnxruntime"], folder / "fit"
    return dovetail.optimize(model, data=data, metric="accuracy", max_drop="3pp", runtimes=runtimes, budget=budget, out=out)


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(finals, "ROUNDS", 1)  # too few to certify anything, and quick


def check(result: dovetail.api.Result, model: Path, feeds: list[dict[str, np.ndarray]]) -> None:
    assert result.status in ("certified", "best_effort")
    baselines = {c.recipe.runtime: c for c in result.fit.candidates if c.is_baseline}
    assert "litert" in baselines and baselines["litert"].screening is not None
    assert (classes(result.artifact, feeds) == own(model, feeds)).mean() >= 0.95


def test_a_file_of_our_own(tmp_path: Path, digits: Path) -> None:
    lower(digits / "digits.onnx", tmp_path / "digits.tflite")
    with np.load(digits / "digits.npz") as file:
        images, labels = file["image"], file["label"]
    result = fitted(tmp_path / "digits.tflite", (images, labels), tmp_path, "25s")
    check(result, tmp_path / "digits.tflite", [{"image": image[None]} for image in images[:100]])
    assert any(c.screening is not None and not c.is_baseline for c in result.fit.candidates)
    manifest = read_manifest(result.artifact)
    best = result.fit.record(result.fit.best_baseline).recipe
    files = {variant.name: variant.format for variant in manifest.variants}
    assert manifest.baseline == best
    assert files.get("baseline", files["original"]) == ("litert" if best.runtime == "litert" else "onnx")
    assert verify(result.artifact, rounds=1).passed


@pytest.mark.slow
def test_a_published_file_of_integers(tmp_path: Path, shared_data: Path) -> None:
    model = shared_data / "mlperf_tiny" / "pretrainedResnet_quant.tflite"
    with np.load(shared_data / "cifar10" / "cifar10_test_mini1000.npz") as file:
        pixels, labels = (file["x"].astype(np.int16) - 128).astype(np.int8), file["y"].reshape(-1)
    result = fitted(model, (pixels, labels), tmp_path, "40s")
    check(result, model, [{"input_1_int8": image[None]} for image in pixels[:100]])
    again = [c for c in result.fit.candidates if any(step.name == "lower_litert" for step in c.recipe.passes)]
    assert again and not any(c.infeasible for c in again)  # it may well be no faster than the file
