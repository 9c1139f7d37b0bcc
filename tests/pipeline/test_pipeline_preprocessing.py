"""Preprocessing that moves into the model: the digits example with pixels as bytes, channels last."""

import json
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

import dovetail as product
from dovetail.core.errors import InputError
from dovetail.data.dataset import open_split
from dovetail.data.job import FitJob
from dovetail.pipeline.describe import Request, describe
from processes import dovetail_command, private_environment

SCALE = 1 / 255


@pytest.fixture
def raw(tmp_path, digits) -> Path:
    """The digits as a camera gives them: ``uint8[N, H, W]`` of 0..255."""
    with np.load(digits / "digits.npz", allow_pickle=False) as data:
        pixels, labels = np.rint(data["image"][:, 0] * 255).astype(np.uint8), data["label"]
    np.savez(tmp_path / "raw.npz", image=pixels, label=labels)
    return tmp_path / "raw.npz"


def asked(digits, given, folder, **keys) -> Request:
    declared = {"image": {"layout": "NHW->NCHW", "scale": SCALE}}
    job = {"model": str(digits / "digits.onnx"), "data": given and str(given), "inputs": declared, "preprocessing": "model"}
    return Request(job=FitJob.model_validate({**job, **keys}), out=folder / "fit", cache=folder / "cache")


def outputs(path, feeds):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)


def test_the_model_takes_the_data_as_they_are(digits, raw, tmp_path):
    notes = []
    job = describe(asked(digits, raw, tmp_path), notes.append)
    assert [(spec.dtype, spec.shape[1:]) for spec in job.inputs] == [("uint8", (16, 16))]
    assert any("raw input" in note for note in notes)
    sample = open_split(job.splits["certification"].folder).sample(0).feeds["image"]
    assert sample.dtype == np.uint8 and sample.shape == (1, 16, 16)
    prepared = sample[:, None].astype(np.float32) * np.float32(SCALE)
    expected = outputs(digits / "digits.onnx", {"image": prepared})
    np.testing.assert_allclose(outputs(job.original.path, {"image": sample})[0], expected[0], rtol=1e-5, atol=1e-5)


def test_resizing_stays_on_the_host(digits, raw, tmp_path):
    declared = {"image": {"layout": "NHW->NCHW", "scale": SCALE, "resize": [16, 16]}}
    with np.load(raw, allow_pickle=False) as data:
        np.savez(tmp_path / "large.npz", image=data["image"].repeat(2, axis=1).repeat(2, axis=2), label=data["label"])
    job = describe(asked(digits, tmp_path / "large.npz", tmp_path, inputs=declared), lambda note: None)
    assert job.inputs[0].shape[1:] == (16, 16) and job.inputs[0].dtype == "uint8"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"inputs": {}}, "no preprocessing that the model could take in"),
        ({"data": None}, "data must show the element types"),
        ({"inputs": {"image": {"layout": "HW->HW", "scale": 2.0}}}, "names 3 axes of 'image', which has 4"),
    ],
)
def test_what_cannot_move_is_refused(keys, message, digits, raw, tmp_path):
    with pytest.raises(InputError, match=message):
        describe(asked(digits, raw, tmp_path, **keys), lambda note: None)


def test_an_iterator_is_not_used_up_by_a_look_at_its_types(digits, tmp_path):
    request = asked(digits, None, tmp_path)
    once = iter([({"image": np.zeros((16, 16), np.uint8)}, 0)])
    with pytest.raises(InputError, match="only once"):
        describe(Request(job=request.job, out=request.out, cache=request.cache, data=once), lambda note: None)


def test_a_fit_of_raw_pixels_runs_on_raw_pixels(digits, raw, tmp_path):
    job = {
        "model": str(digits / "digits.onnx"), "data": str(raw), "metric": "accuracy", "max_drop": "3pp",
        "inputs": {"image": {"layout": "NHW->NCHW", "scale": SCALE}}, "preprocessing": "model",
        "runtimes": ["onnxruntime", "litert"], "budget": "25s",
    }  # fmt: skip
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(job))
    command = dovetail_command(["optimize", "--job", "fit.yaml", "--out", "fit", "--json"], rounds=1)
    done = subprocess.run(
        command, cwd=tmp_path, env=private_environment(tmp_path), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    tried = {c["label"]: c for c in result["candidates"] if c["screening"] or c["infeasible"]}
    assert not [label for label, c in tried.items() if c["is_baseline"] and c["infeasible"]]
    with np.load(raw, allow_pickle=False) as data:
        pixels, labels = data["image"][:200], data["label"][:200]
    for variant in (None, "original"):
        session = product.load(tmp_path / "fit", variant)
        found = [int(np.argmax(session.run({"image": pixels[i : i + 1]})[0])) for i in range(200)]
        session.close()
        assert np.mean(np.array(found) == labels) > 0.9
