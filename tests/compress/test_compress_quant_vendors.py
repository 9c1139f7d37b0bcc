"""Quantisation by NNCF, dynamic and weight-only quantisation."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from quant_samples import Samples, accuracy, apply, cifar, folded, kinds, resnet, run, sequences, sqnr_db, transformer

from dovetail.compress.quantize_dynamic import QuantizeDynamic
from dovetail.compress.quantize_nncf import QuantizeNncf
from dovetail.compress.quantize_static import QuantizeStatic
from dovetail.compress.weight_only import WeightOnly
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Model


@pytest.mark.parametrize("config", [{"target": "onnx"}, {}, {"preset": "performance", "reduce_range": True}])
def test_nncf_keeps_accuracy(shared_data: Path, tmp_path: Path, config: dict[str, object]) -> None:
    model, evaluation = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 0, 500)
    quantised = apply(QuantizeNncf(), model, tmp_path, cifar(shared_data, "resnet8", 9000, 48), samples=48, **config)
    assert accuracy(run(model, evaluation), evaluation) - accuracy(run(quantised, evaluation), evaluation) <= 0.03
    assert quantised.format == ("onnx" if config.get("target") == "onnx" else "openvino")
    assert all(path.is_file() for path in quantised.files())


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_nncf_takes_dynamic_shapes_and_several_inputs(tmp_path: Path, target: str) -> None:
    model, samples = transformer(tmp_path / "block.onnx"), sequences()
    quantised = apply(QuantizeNncf(), model, tmp_path, samples, target=target, model_type="transformer", smooth=0.5)
    assert sqnr_db(run(model, samples), run(quantised, samples)) > 9


def test_nncf_works_in_silence_and_offline(tmp_path: Path) -> None:
    transformer(tmp_path / "block.onnx")
    script = f"""
import os, sys
from pathlib import Path
sys.addaudithook(lambda event, args: os._exit(7) if event in ("socket.connect", "socket.getaddrinfo") else None)
sys.path.insert(0, {str(Path(__file__).parent)!r})
from quant_samples import apply, sequences, Model
from dovetail.compress.quantize_nncf import QuantizeNncf
apply(QuantizeNncf(), Model(path=Path("block.onnx")), Path("."), sequences(4), target="openvino")
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "intel").exists()


def test_dynamic_quantisation_needs_no_data(shared_data: Path, tmp_path: Path) -> None:
    model, samples = transformer(tmp_path / "block.onnx"), sequences()
    quantised = apply(QuantizeDynamic(), model, tmp_path)
    assert kinds(quantised.path).count("MatMulInteger") == 6
    assert sqnr_db(run(model, samples), run(quantised, samples)) > 10
    network, evaluation = resnet(shared_data, "resnet8", tmp_path), cifar(shared_data, "resnet8", 0, 200)
    small = apply(QuantizeDynamic(), network, tmp_path, conv=True)
    assert accuracy(run(network, evaluation), evaluation) - accuracy(run(small, evaluation), evaluation) <= 0.03
    assert small.size_bytes() < 0.4 * network.size_bytes()


@pytest.mark.parametrize(("target", "bits", "floor_db"), [("onnx", 8, 20), ("onnx", 4, 8), ("openvino", 8, 15)])
def test_weights_alone_shrink(tmp_path: Path, target: str, bits: int, floor_db: float) -> None:
    model, samples = transformer(tmp_path / "block.onnx", width=64), sequences(4, width=64)
    quantised = apply(WeightOnly(), model, tmp_path, target=target, bits=bits)
    assert quantised.size_bytes() < 0.5 * model.size_bytes()
    assert sqnr_db(run(model, samples), run(quantised, samples)) > floor_db


def test_the_autoencoder_through_every_quantiser(shared_data: Path, tmp_path: Path) -> None:
    model = folded(shared_data / "mlperf_tiny/ad_toycar_autoencoder.onnx", tmp_path)
    rng = np.random.default_rng(0)
    frames = rng.normal(-10, 8, (32, 1, 640)) + np.linspace(15, -15, 640)
    samples = Samples([{"input": frame.astype(np.float32)} for frame in frames])
    reference = run(model, samples)
    for step, config, floor_db in [
        (QuantizeStatic(), {}, 15),
        (QuantizeNncf(), {}, 15),
        (QuantizeDynamic(), {}, 20),
        (WeightOnly(), {}, 25),
    ]:
        quantised = apply(step, model, tmp_path, samples, **config)
        assert quantised.size_bytes() < 0.4 * model.size_bytes()
        assert sqnr_db(reference, run(quantised, samples)) > floor_db


def test_wrong_parameters_are_refused(tmp_path: Path) -> None:
    model = transformer(tmp_path / "block.onnx")
    for step, config, text in [
        (QuantizeNncf(), {"smooth": 0.5}, "smoothing needs model_type transformer"),
        (QuantizeNncf(), {"target": "tflite"}, "is not one of openvino, onnx"),
        (QuantizeNncf(), {"target": "onnx", "ignored": ("nobody",)}, "no operator is named"),
        (QuantizeDynamic(), {"weight": "int4"}, "is not one of int8, uint8"),
        (WeightOnly(), {"block_size": 24}, "24 is not a power of two"),
        (WeightOnly(), {"bits": 2}, "2 is not one of 8, 4"),
    ]:
        with pytest.raises(InputError, match=text):
            apply(step, model, tmp_path, sequences(2), **config)


def test_models_without_matrix_products_are_refused(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "relu", ends[:1], ends[1:])
    path = tmp_path / "relu.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    for step in (QuantizeDynamic(), WeightOnly()):
        with pytest.raises(ModelError, match="no .* with constant weights to quantise"):
            apply(step, Model(path=path), tmp_path)
