from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from data_helpers import NumpySession, OrtSession, request_for, spec

from dovetail.core.errors import DataError, ModelError
from dovetail.core.protocols import Array, Feeds
from dovetail.data.dataset import StoredDataset, write_split
from dovetail.data.evaluator import Evaluator
from dovetail.data.intake import Intake
from dovetail.data.job import FitJob
from dovetail.data.metrics import get_metric
from dovetail.data.outputs import StoredOutputs
from dovetail.data.sources import open_source

VECTOR = spec("x", "N", 4)
LOGITS = spec("logits", "N", 3)
WEIGHTS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
X = np.random.default_rng(2).normal(size=(60, 4)).astype(np.float32)
Y = (X @ WEIGHTS).argmax(1)


def linear(feeds: Feeds) -> list[Array]:
    return [feeds["x"] @ WEIGHTS]


def session(function=linear, output=LOGITS, leading: int | str = "N") -> NumpySession:  # type: ignore[no-untyped-def]
    return NumpySession(function, (spec("x", leading, 4),), (output,))


def split(folder: Path, data: object = None) -> StoredDataset:
    request = request_for(VECTOR)
    intake = Intake(open_source({"x": X, "y": Y} if data is None else data, request), request)
    return write_split(folder, intake, [VECTOR], name="selection")


def resnet_split(folder: Path, shared: Path, n: int) -> StoredDataset:
    resnet = {"input": {"layout": "NHWC->NCHW", "scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}
    request = FitJob.model_validate({"inputs": resnet}).request((spec("input", "N", 3, 32, 32),))
    with np.load(shared / "cifar10" / "cifar10_test_mini1000.npz") as data:
        arrays = {"x": data["x"][:n], "y": data["y"][:n]}
    return write_split(folder, Intake(open_source(arrays, request), request), [p.spec for p in request.inputs])


def test_resnet20_on_cifar10(tmp_path: Path, shared_data: Path) -> None:
    model = OrtSession(shared_data / "cifar10_resnets" / "resnet20_cifar10.onnx")
    data = resnet_split(tmp_path / "d", shared_data, 1000)
    seen: list[tuple[int, int]] = []
    evaluator = Evaluator(get_metric("accuracy"))
    rows = evaluator.rows(model, data, progress=lambda done, of: seen.append((done, of)))
    assert rows.shape == (1000, 1) and 0.89 < evaluator.value(rows) < 0.94
    assert seen[-1] == (1000, 1000) and model.calls < 30
    again = evaluator.rows(model, data, units=[5, 990, 3])
    assert again.tolist() == rows[[5, 990, 3]].tolist()


def test_agreement_with_the_original_across_processes(tmp_path: Path, shared_data: Path) -> None:
    original = OrtSession(shared_data / "cifar10_resnets" / "resnet20_cifar10.onnx")
    candidate = OrtSession(shared_data / "cifar10_resnets" / "resnet56_cifar10.onnx")
    data = resnet_split(tmp_path / "d", shared_data, 100)
    evaluator = Evaluator(get_metric("agreement"))
    evaluator.reference_outputs(original, data, tmp_path / "r")
    reference = StoredOutputs(tmp_path / "r")
    assert len(reference) == 100 and reference.names == ("logits",)
    assert evaluator.value(evaluator.rows(original, data, reference=reference)) == 1
    assert 0.8 < evaluator.value(evaluator.rows(candidate, data, reference=reference)) < 1
    by_value = Evaluator(get_metric("agreement:value"))
    assert by_value.value(by_value.rows(candidate, data, reference=reference)) < 0.1


def test_an_autoencoder_agrees_by_value(tmp_path: Path, shared_data: Path) -> None:
    model = OrtSession(shared_data / "mlperf_tiny" / "ad_toycar_autoencoder.onnx")
    request = request_for(spec("input", "N", 640))
    frames = np.random.default_rng(0).normal(size=(12, 640)).astype(np.float32)
    data = write_split(tmp_path / "d", Intake(open_source(frames_in(frames), request), request), [spec("input", "N", 640)])
    evaluator = Evaluator(get_metric("agreement"))
    reference = evaluator.reference_outputs(model, data, tmp_path / "r")

    def shifted(by: float) -> NumpySession:
        return NumpySession(lambda feeds: [y + by * y.std() for y in model.run(feeds)], model.inputs, model.outputs)

    values = [evaluator.value(evaluator.rows(shifted(by), data, reference=reference)) for by in (0.0, 0.05, 0.3)]
    assert values == [1, 1, 0]


def frames_in(frames: Array) -> dict[str, Array]:
    return {"input": frames}


def test_small_outputs_agree_by_the_spread_of_the_split(tmp_path: Path) -> None:
    one = spec("risk", "N", 1)
    original = session(lambda feeds: [feeds["x"][:, :1]], one)
    data = split(tmp_path / "d")
    evaluator = Evaluator(get_metric("agreement"))
    reference = evaluator.reference_outputs(original, data, tmp_path / "r")
    near = session(lambda feeds: [feeds["x"][:, :1] + 0.05], one)
    far = session(lambda feeds: [feeds["x"][:, :1] + 0.2], one)
    assert evaluator.value(evaluator.rows(near, data, reference=reference)) == 1
    assert evaluator.value(evaluator.rows(far, data, reference=reference)) == 0


def speech(shared: Path, seconds: int) -> Array:
    with wave.open(str(shared / "audio" / "silero_test_speech_16k.wav")) as file:
        return np.frombuffer(file.readframes(16000 * seconds), np.int16).astype(np.float32) / 32768


def test_voice_activity_with_carried_state(tmp_path: Path, shared_data: Path) -> None:
    model = OrtSession(shared_data / "onnx_models" / "silero_vad_16k_op15.onnx")
    job = FitJob.model_validate({"inputs": {"sr": {"value": 16000}}, "state": {"state": "stateN"}})
    request = job.request(model.inputs)
    audio = np.concatenate([np.zeros(64, np.float32), speech(shared_data, 10)])
    frames = [audio[i * 512 : i * 512 + 576] for i in range(300)]

    def two_recordings():
        for a, b in zip(frames[:150], frames[150:], strict=True):
            yield {"input": a}, "first", None
            yield {"input": b}, "second", None

    data = write_split(tmp_path / "d", Intake(open_source(two_recordings, request), request), [p.spec for p in request.inputs])
    evaluator = Evaluator(get_metric("agreement"), state=job.state)
    reference = evaluator.reference_outputs(model, data, tmp_path / "r")
    state, expected = np.zeros((2, 1, 128), np.float32), []
    for frame in frames[150:]:
        output, state = model.run({"input": frame[None], "state": state, "sr": np.array(16000)})
        expected.append(output.item())
    stored = [reference.get(i)[0].item() for i in range(1, 300, 2)]
    assert stored == expected and max(stored) > 0.9 > 0.1 > min(stored)
    rows = evaluator.rows(model, data, reference=reference)
    assert rows.tolist() == [[1.0], [1.0]]

    def forgetful(feeds: Feeds) -> list[Array]:
        output, state = model.run(feeds)
        return [output, state * 0]

    broken = NumpySession(forgetful, model.inputs, model.outputs)
    assert evaluator.rows(broken, data, reference=reference).tolist() == [[0.0], [0.0]]


def test_a_state_that_the_model_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="state 'h': 'hN' names no input and output"):
        Evaluator(get_metric("accuracy"), state={"h": "hN"}).rows(session(), split(tmp_path / "d"))


def test_a_fixed_batch_of_one_runs_sample_by_sample(tmp_path: Path) -> None:
    fixed = session(leading=1)
    rows = Evaluator(get_metric("accuracy")).rows(fixed, split(tmp_path / "d"))
    assert rows.mean() == 1 and fixed.calls == 60


@pytest.mark.parametrize("groups", [None, np.arange(60) // 7], ids=["samples", "groups"])
def test_a_model_fixed_to_several_samples_always_gets_so_many(tmp_path: Path, groups: Array | None) -> None:
    seen: list[int] = []

    def strict(feeds: Feeds) -> list[Array]:
        seen.append(len(feeds["x"]))
        return linear(feeds)

    data = split(tmp_path / "d", {"x": X, "y": Y} if groups is None else {"x": X, "y": Y, "group": groups})
    evaluator = Evaluator(get_metric("accuracy"))
    rows = evaluator.rows(session(strict, leading=8), data)
    assert rows.tolist() == evaluator.rows(session(), data).tolist()
    assert set(seen) == {8} and len(seen) == (8 if groups is None else 9)
    alone = Evaluator(get_metric("agreement"))
    reference = alone.reference_outputs(session(), data, tmp_path / "r")
    assert alone.rows(session(strict, leading=8), data, reference=reference, units=[0, 2]).shape[0] == 2
    assert alone.value(alone.rows(session(strict, leading=8), data, reference=reference)) == 1


@pytest.mark.parametrize("fault", ["mixes", "raises", "flattens"])
def test_models_that_do_not_batch_are_found_out(tmp_path: Path, fault: str) -> None:
    def function(feeds: Feeds) -> list[Array]:
        y = feeds["x"] @ WEIGHTS
        if len(y) == 1:
            return [y]
        if fault == "raises":
            raise RuntimeError("Reshape: 1 is not 4")
        return [y - y.mean(axis=0)] if fault == "mixes" else [y.reshape(1, -1)]

    rows = Evaluator(get_metric("accuracy")).rows(session(function), split(tmp_path / "d"))
    assert rows.mean() == 1


def test_groups_are_judged_as_one_unit(tmp_path: Path) -> None:
    def pairs():
        for number, (a, b) in enumerate(zip(X[::2], X[1::2], strict=True)):
            yield {"x": a}, number, float(a @ b)
            yield {"x": b}, number, float(a @ b)

    data = split(tmp_path / "d", pairs)
    same = session(lambda feeds: [feeds["x"]], spec("e", "N", 4))
    evaluator = Evaluator(get_metric("spearman:cosine"))
    rows = evaluator.rows(same, data)
    assert rows.shape == (30, 2) and evaluator.value(rows) > 0.8

    def judge(outputs: list[dict[str, Array]], labels: list[float]) -> float:
        assert [set(o) for o in outputs] == [{"e"}, {"e"}] and labels[0] == labels[1]
        return float((outputs[0]["e"] * outputs[1]["e"]).sum() - labels[0])

    assert np.abs(Evaluator(get_metric(judge)).rows(same, data)).max() < 1e-5


def test_accuracy_by_speaker_has_one_row_per_speaker(tmp_path: Path) -> None:
    data = split(tmp_path / "d", {"x": X, "y": Y, "group": np.arange(60) // 15})
    evaluator = Evaluator(get_metric("accuracy"))
    rows = evaluator.rows(session(), data)
    assert rows.tolist() == [[15, 15]] * 4 and evaluator.value(rows) == 1


def test_nan_and_infinity_are_told(tmp_path: Path) -> None:
    def broken(value: float):  # type: ignore[no-untyped-def]
        def function(feeds: Feeds) -> list[Array]:
            y = feeds["x"] @ WEIGHTS
            y[(feeds["x"] == X[7]).all(axis=1), 1] = value
            return [y]

        return session(function)

    data = split(tmp_path / "d")
    evaluator = Evaluator(get_metric("agreement"))
    reference = evaluator.reference_outputs(session(), data, tmp_path / "r")
    with pytest.raises(ModelError, match="output 'logits' is NaN on sample 7, where the original's is finite"):
        evaluator.rows(broken(np.nan), data, reference=reference)
    with pytest.raises(ModelError, match="is infinite on sample 7"):
        evaluator.rows(broken(np.inf), data, reference=reference)
    with pytest.raises(ModelError, match="is NaN on sample 7"):
        Evaluator(get_metric("accuracy")).rows(broken(np.nan), data)
    masked = evaluator.reference_outputs(broken(-np.inf), data, tmp_path / "m")
    assert evaluator.rows(broken(-np.inf), data, reference=masked).mean() == 1


def test_what_a_metric_lacks_is_told(tmp_path: Path) -> None:
    bare = split(tmp_path / "bare", {"x": X})
    with pytest.raises(DataError, match="accuracy needs labels; the selection split has none"):
        Evaluator(get_metric("accuracy")).rows(session(), bare)
    with pytest.raises(DataError, match="needs the original's outputs"):
        Evaluator(get_metric("agreement")).rows(session(), bare)
    with pytest.raises(DataError, match="no output 'probs'"):
        Evaluator(get_metric({"name": "accuracy", "output": "probs"})).rows(session(), split(tmp_path / "d"))
    constant = session(lambda feeds: [np.ones((len(feeds["x"]), 1), np.float32)], spec("y", "N", 1))
    evaluator = Evaluator(get_metric("spearman"))
    with pytest.raises(DataError, match="spearman is undefined: predictions and labels must vary"):
        evaluator.value(evaluator.rows(constant, split(tmp_path / "d2")))


def detections(feeds: Feeds) -> list[Array]:
    """As many rows as the sample says, whatever the batch: what stands behind a suppression of boxes."""
    count = 1 + int(abs(feeds["x"][0, 0] * 10) % 5)
    return [np.arange(6 * count, dtype=np.float32).reshape(count, 6)]


def test_outputs_without_an_axis_over_samples_are_judged_whole(tmp_path: Path) -> None:
    metric = tmp_path / "own.py"
    metric.write_text("def count(outputs, label):\n    return len(outputs['boxes'])\n")
    model = session(detections, spec("boxes", "D", 6), leading=1)
    data = split(tmp_path / "d")
    rows = Evaluator(get_metric(f"{metric}:count")).rows(model, data)
    expected = [len(detections({"x": x[None]})[0]) for x in np.stack([data.sample(i).feeds["x"][0] for i in range(len(data))])]
    assert rows[:, 0].tolist() == expected and len(set(expected)) > 1

    def last_differs(feeds: Feeds) -> list[Array]:
        (boxes,) = detections(feeds)
        return [np.concatenate([boxes[:-1], boxes[-1:] + 50])]

    agreement = Evaluator(get_metric("agreement"))
    stored = agreement.reference_outputs(model, data, tmp_path / "reference")
    assert agreement.rows(model, data, reference=stored).all()
    other = session(last_differs, spec("boxes", "D", 6), leading=1)
    assert not agreement.rows(other, data, reference=stored).any()
