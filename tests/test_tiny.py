"""Read this first: a trained network goes in, a verdict and a folder that runs come out."""

import numpy as np

import dovetail
from dovetail.pipeline import finals


def test_fit_a_small_network_to_this_machine(tmp_path, digits, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(finals, "ROUNDS", 1)  # too few to certify anything, and quick
    with np.load(digits / "digits.npz") as file:
        images, labels = file["image"][:64], file["label"][:64]

    result = dovetail.optimize(
        digits / "digits.onnx",
        data=(images, labels),
        metric="accuracy",
        max_drop="5pp",
        runtimes=["onnxruntime", "null"],  # null answers zeros: very fast, and never the answer
        budget="15s",
        out=tmp_path / "fit",
    )

    assert result.status in ("certified", "best_effort")
    assert result.fit.headline in str(result)
    assert result.winner.recipe.runtime == "onnxruntime"
    assert (result.artifact / "report.html").exists()

    session = dovetail.load(result.artifact)
    (logits,) = session.run({"image": images[:8]})
    assert (logits.argmax(axis=1) == labels[:8]).all()
