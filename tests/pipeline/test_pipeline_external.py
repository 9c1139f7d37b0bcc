"""A fit of a model whose weights lie where exporters put them: ``net.onnx_data``, several files, folders of their own."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.external_data_helper import set_external_data

import dovetail as product
from dovetail.data.job import FitJob
from dovetail.export.artifact import read_manifest
from dovetail.pipeline.describe import Request, describe


def scattered(digits: Path, folder: Path) -> Path:
    """The digits network with its weights in two files."""
    model = onnx.load(digits / "digits.onnx")
    outside = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= 1024]
    for index, tensor in enumerate(outside):
        set_external_data(tensor, ("net.onnx_data", "parts/w.bin")[index % 2])
    (folder / "parts").mkdir()
    onnx.save_model(model, folder / "net.onnx")
    return folder / "net.onnx"


def outputs(path: Path, image: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]


@pytest.mark.slow
def test_a_fit_of_scattered_weights_is_whole(dovetail, digits, tmp_path):
    here = tmp_path / "here"
    source = scattered(digits, here)
    weights = sum((here / name).stat().st_size for name in ("net.onnx_data", "parts/w.bin"))
    assert source.stat().st_size < weights
    done = dovetail("optimize", "net.onnx", "--runtime", "null", "--budget", "8s", "--out", "fit", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert next(c for c in result["candidates"] if c["is_baseline"])["size_bytes"] > weights
    manifest = read_manifest(here / "fit")
    original = next(variant for variant in manifest.variants if variant.name == "original")
    assert sorted(p.name for p in (here / "fit" / original.path).parent.iterdir()) == ["net.onnx", "net.onnx.data"]
    image = np.random.default_rng(0).random((2, 1, 16, 16), np.float32)
    np.testing.assert_array_equal(outputs(here / "fit" / original.path, image), outputs(source, image))
    assert product.load(here / "fit").run({"image": image[:1]})[0].shape == (1, 10)
    done = dovetail("verify", "fit", "--rounds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    (here / "fit" / f"{original.path}.data").write_bytes(b"another")
    assert dovetail("verify", "fit", "--rounds", "1").returncode == 1


def test_the_copy_is_made_once(digits, tmp_path):
    asked = Request(
        job=FitJob(model=str(scattered(digits, tmp_path)), runtimes=["null"]), out=tmp_path / "fit", cache=tmp_path / "cache"
    )
    first = describe(asked, lambda text: None).original
    stamp = first.path.stat().st_mtime_ns
    assert first.path.is_relative_to(asked.cache)
    assert describe(asked, lambda text: None).original == first
    assert first.path.stat().st_mtime_ns == stamp
    assert [path.name for path in sorted(first.path.parent.iterdir())] == ["net.onnx", "net.onnx.data"]


@pytest.mark.parametrize("outside", [False, True])
def test_what_is_whole_stays_where_it_is(digits, tmp_path, outside):
    path = tmp_path / "net.onnx"
    onnx.save(onnx.load(digits / "digits.onnx"), path, save_as_external_data=outside, location="net.onnx.data")
    asked = Request(job=FitJob(model=str(path), runtimes=["null"]), out=tmp_path / "fit", cache=tmp_path / "cache")
    assert describe(asked, lambda text: None).original.path == path
