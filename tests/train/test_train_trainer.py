"""Training ONNX files: learning, distilling, resuming, and what is refused."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from train_samples import ENVIRONMENT, Arrays, answers, cnn, digits, mlp

from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.protocols import Model, Trainer
from dovetail.core.training import Objective, Schedule

torch = pytest.importorskip("torch")

from dovetail.train import loop  # noqa: E402
from dovetail.train.trainer import GraphTrainer  # noqa: E402

pytestmark = pytest.mark.torch
QUICK = Schedule(epochs=12, batch=50, learning_rate=0.05, ema=0.95, precision="float32")


def trainer(folder, data, **settings) -> Trainer:
    return GraphTrainer(data, state=folder / "state", threads=1, environment=ENVIRONMENT, **settings)


def accuracy(model, x, y):
    return float((answers(model, x).argmax(axis=1) == y).mean())


def arrays(model):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(model.path).graph.initializer}


@pytest.mark.parametrize("make", [mlp, cnn])
def test_a_graph_learns_from_labels_and_keeps_its_interface(tmp_path, make):
    data, x, y = digits(flat=make is mlp)
    model = make(tmp_path / "model.onnx")
    found = trainer(tmp_path, data, metric="accuracy").fit(
        model, out=tmp_path / "out" / "model.onnx", objective=Objective(task="auto"), schedule=QUICK
    )
    assert accuracy(found.model, x, y) > 0.95
    assert found.score_name == "accuracy" and found.score > 0.92 and len(found.history) == 12
    before, after = onnx.load(model.path), onnx.load(found.model.path)
    assert before.graph.input == after.graph.input and before.graph.output == after.graph.output
    assert [n.op_type for n in before.graph.node] == [n.op_type for n in after.graph.node]
    assert arrays(model).keys() == arrays(found.model).keys()
    onnx.checker.check_model(after)


def test_the_file_computes_what_was_scored(tmp_path):
    """With all of the training samples held out but few, the score can be repeated on the file."""
    data, _, _ = digits()
    model = mlp(tmp_path / "model.onnx")
    schedule = dataclasses.replace(QUICK, epochs=2, hold_out=0.5)
    found = trainer(tmp_path, data).fit(
        model, out=tmp_path / "o.onnx", objective=Objective(task="classification"), schedule=schedule
    )
    from dovetail.train.batching import split_off

    _, judges = split_off(data.groups, 0.5, schedule.seed)
    assert found.score == pytest.approx(accuracy(found.model, data.feeds["x"][judges], data.labels[judges]), abs=1e-9)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A trained network with a softmax, and test images."""
    folder = tmp_path_factory.mktemp("taught")
    data, x, y = digits()
    found = trainer(folder, data).fit(
        mlp(folder / "model.onnx", softmax=True), out=folder / "teacher.onnx", objective=Objective(task="auto"), schedule=QUICK
    )
    return found.model, x, y


@pytest.mark.parametrize(
    "objective",
    [
        Objective(logits=1.0),
        Objective(logits=1.0, logits_loss="mse"),
        Objective(logits=0.5, features=1.0, taps=(("r", "r"),), relations=1.0),
        Objective(cosine=5.0),
    ],
)
def test_it_learns_from_a_teacher_without_labels(tmp_path, taught, objective):
    teacher, x, y = taught
    data, _, _ = digits(labels=False)
    student = mlp(tmp_path / "student.onnx", seed=7, softmax=True)
    found = trainer(tmp_path, data).fit(
        student, out=tmp_path / "o.onnx", objective=objective, schedule=QUICK, teacher=teacher
    )
    assert accuracy(found.model, x, y) > 0.93
    assert found.score_name == "loss" and found.history[-1].score < found.history[0].score


def test_it_learns_through_strong_augmentation(tmp_path):
    data, x, y = digits(flat=False)
    teacher = trainer(tmp_path, data).fit(
        cnn(tmp_path / "t.onnx"), out=tmp_path / "teacher.onnx", objective=Objective(task="auto"), schedule=QUICK
    )
    unlabelled = Arrays(data.feeds)
    schedule = dataclasses.replace(QUICK, augment="strong_shifts", learning_rate=0.1)
    found = trainer(tmp_path, unlabelled).fit(
        cnn(tmp_path / "s.onnx", seed=3), out=tmp_path / "o.onnx", objective=Objective(logits=1.0), schedule=schedule,
        teacher=teacher.model,
    )  # fmt: skip
    assert accuracy(found.model, x, y) > 0.8


def test_bfloat16_leaves_float32_weights(tmp_path):
    data, x, y = digits(flat=False)
    schedule = dataclasses.replace(QUICK, epochs=5, precision="bfloat16")
    found = trainer(tmp_path, data).fit(
        cnn(tmp_path / "m.onnx"), out=tmp_path / "o.onnx", objective=Objective(task="auto"), schedule=schedule
    )
    assert accuracy(found.model, x, y) > 0.93 and "forward passes in bfloat16" in found.notes
    assert all(array.dtype == np.float32 for array in arrays(found.model).values())


def test_l1_makes_weights_small(tmp_path):
    data, _, _ = digits()
    schedule, sums = dataclasses.replace(QUICK, epochs=4), []
    for l1 in (0.0, 3e-3):
        found = trainer(tmp_path, data).fit(
            mlp(tmp_path / "m.onnx"), out=tmp_path / "o.onnx", objective=Objective(task="auto", l1=l1), schedule=schedule
        )
        sums.append(float(np.abs(arrays(found.model)["w0"]).sum()))
    assert sums[1] < 0.7 * sums[0]


def test_curves_go_to_tensorboard_only_where_it_is_installed(tmp_path):
    import importlib.util

    data, _, _ = digits()
    trainer(tmp_path, data, tensorboard=tmp_path / "board").fit(
        mlp(tmp_path / "m.onnx"), out=tmp_path / "o.onnx", objective=Objective(task="auto"),
        schedule=dataclasses.replace(QUICK, epochs=1),
    )  # fmt: skip
    assert (tmp_path / "board").exists() == (importlib.util.find_spec("tensorboard") is not None)


def test_pairs_learn_their_cosine(tmp_path):
    """Pairs of digits: labelled 5 when equal and 0 when not, as sentence pairs are by their likeness."""
    from scipy.stats import spearmanr

    data, x, y = digits()
    rng = np.random.default_rng(0)
    chosen = rng.permutation(1400)
    by_class = np.argsort(data.labels[chosen], kind="stable")
    pairs = np.concatenate([chosen[by_class], chosen])
    same = data.labels[pairs[0::2]] == data.labels[pairs[1::2]]
    labels = np.repeat(np.where(same, 5.0, 0.0), 2)
    groups = np.arange(len(pairs)) // 2
    found = trainer(tmp_path, Arrays({"x": data.feeds["x"][pairs]}, labels, groups), metric="spearman:cosine").fit(
        mlp(tmp_path / "m.onnx"), out=tmp_path / "o.onnx", objective=Objective(task="auto"), schedule=QUICK
    )
    z = answers(found.model, x)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    order = rng.permutation(len(z))
    assert spearmanr((z * z[order]).sum(axis=1), y == y[order]).statistic > 0.4
    assert found.history[-1].loss < found.history[0].loss / 2


class Stopped(Exception):
    pass


def test_a_stopped_training_goes_on_to_the_same_file(tmp_path, monkeypatch, taught):
    monkeypatch.setattr(loop, "_PROGRESS_S", 0.0)
    teacher, _, _ = taught
    data, _, _ = digits()
    schedule = dataclasses.replace(QUICK, epochs=3)
    wish = Objective(task="auto", logits=1.0)
    student = mlp(tmp_path / "s.onnx", seed=2)

    def stop(fraction, text):
        if fraction > 0.5:
            raise Stopped

    one = trainer(tmp_path / "a", data).fit(
        student, out=tmp_path / "a.onnx", objective=wish, schedule=schedule, teacher=teacher
    )
    broken = trainer(tmp_path / "b", data, every_s=0.0)
    with pytest.raises(Stopped):
        broken.fit(student, out=tmp_path / "b.onnx", objective=wish, schedule=schedule, teacher=teacher, progress=stop)
    two = broken.fit(student, out=tmp_path / "b.onnx", objective=wish, schedule=schedule, teacher=teacher)
    assert one.model.path.read_bytes() == two.model.path.read_bytes()
    three = broken.fit(student, out=tmp_path / "c.onnx", objective=wish, schedule=schedule, teacher=teacher)
    assert three.model.path.read_bytes() == two.model.path.read_bytes() and three.history == two.history


def test_a_budget_that_was_partly_used_elsewhere_names_the_same_training(tmp_path, monkeypatch):
    """What is left of it differs from call to call."""
    monkeypatch.setattr(loop, "_PROGRESS_S", 0.0)
    data, _, _ = digits()
    schedule = dataclasses.replace(QUICK, epochs=3, budget_s=100_000.0)
    settings = {"objective": Objective(task="auto"), "schedule": schedule}
    model = mlp(tmp_path / "m.onnx")

    def stop(fraction, text):
        if fraction > 0.5:
            raise Stopped

    with pytest.raises(Stopped):
        trainer(tmp_path, data, every_s=0.0, spent_s=1.0).fit(model, out=tmp_path / "o.onnx", progress=stop, **settings)
    found = trainer(tmp_path, data, spent_s=2.5).fit(model, out=tmp_path / "o.onnx", **settings)
    whole = trainer(tmp_path / "whole", data).fit(model, out=tmp_path / "whole.onnx", **settings)
    assert len(list((tmp_path / "state").iterdir())) == 1 and len(found.history) == 3
    assert found.model.path.read_bytes() == whole.model.path.read_bytes()


def refused(tmp_path, error, message, data=None, model=None, objective=None, schedule=QUICK, teacher=None, **settings):
    data = digits()[0] if data is None else data
    with pytest.raises(error, match=message):
        trainer(tmp_path, data, **settings).fit(
            model or mlp(tmp_path / "m.onnx"), out=tmp_path / "o.onnx", objective=objective or Objective(task="auto"),
            schedule=schedule, teacher=teacher,
        )  # fmt: skip
    assert not (tmp_path / "o.onnx").exists()


def test_what_cannot_be_trained_is_refused_with_one_message(tmp_path):
    unlabelled, offer = digits(labels=False)[0], "needs labels, and the training data have none(.|\n)*learn from the original"
    refused(tmp_path, DataError, offer, unlabelled, metric="accuracy")
    refused(tmp_path, InputError, "needs a teacher", objective=Objective(logits=1.0))
    refused(tmp_path, InputError, "'polka' is not one of none, shifts", schedule=Schedule(augment="polka"))
    refused(tmp_path, InputError, "needs images", schedule=Schedule(augment="images"))
    refused(tmp_path, InputError, "too short", schedule=Schedule(epochs=3, budget_s=1e-3))
    high = Schedule(epochs=3, learning_rate=1e30, precision="float32")
    refused(tmp_path, ModelError, "lower the learning rate", schedule=high)
    x = helper_graph(tmp_path)
    refused(tmp_path, ModelError, "no weights to train", model=x)
    with pytest.raises(DataError, match="no training samples"):
        trainer(tmp_path, None).fit(x, out=tmp_path / "o.onnx", objective=Objective(task="auto"), schedule=QUICK)


def test_a_teacher_that_answers_something_else_is_refused(tmp_path):
    wish = Objective(logits=1.0)
    few = renamed(mlp(tmp_path / "few.onnx"), tmp_path / "few.onnx", classes=7)
    refused(tmp_path, ModelError, r"answers \[2, 7\] where the model answers \[2, 10\]", objective=wish, teacher=few)
    other = renamed(mlp(tmp_path / "other.onnx"), tmp_path / "other.onnx", input="image")
    refused(tmp_path, InputError, "its input 'image' is not among the model's: x", objective=wish, teacher=other)


def renamed(model, path, input="x", classes=10) -> Model:
    """The same network with another input name, or fewer classes."""
    proto = onnx.load(model.path)
    proto.graph.input[0].name = proto.graph.node[0].input[0] = input
    for tensor in proto.graph.initializer:
        if tensor.name in ("w1", "b1"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:classes], tensor.name))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
    onnx.save(proto, path)
    return Model(path=path)


def test_labels_of_another_kind_than_the_answers_are_refused(tmp_path):
    data, _, _ = digits()
    rows = Arrays(data.feeds, np.eye(10, dtype=np.int64)[data.labels])
    refused(tmp_path, DataError, "10 label values, and the classification loss of this model takes 1(.|\n)*number of the class",
            rows, objective=Objective(task="classification"))  # fmt: skip
    images, _, _ = digits(flat=False)
    masks = Arrays(images.feeds, (images.feeds["x"][:, 0] > 0.5).astype(np.int64))
    pixels = Objective(task="classification")
    net = pixelwise(tmp_path / "pixels.onnx")
    moved = dataclasses.replace(QUICK, augment="shifts")
    refused(tmp_path, InputError, "would stay where they are", masks, net, pixels, moved)
    found = trainer(tmp_path, masks).fit(
        net, out=tmp_path / "o.onnx", objective=pixels, schedule=dataclasses.replace(QUICK, epochs=2)
    )
    assert found.score_name == "accuracy" and found.history[-1].loss < found.history[0].loss


def pixelwise(path) -> Model:
    """Two scores for every pixel."""
    from onnx import TensorProto, helper

    rng, info = np.random.default_rng(0), helper.make_tensor_value_info
    stored = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in (("w", (2, 1, 1, 1)), ("b", (2,)))]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])], "g", [info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [info("y", TensorProto.FLOAT, ["n", 2, 8, 8])], stored,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Model(path=path)


def test_an_answer_that_no_weight_moves_is_refused(tmp_path):
    model = mlp(tmp_path / "chosen.onnx")
    proto = onnx.load(model.path)
    proto.graph.node[-1].output[0] = "scores"
    proto.graph.node.append(onnx.helper.make_node("ArgMax", ["scores"], ["y"], axis=1, keepdims=0))
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, ["n"]))
    onnx.save(proto, model.path)
    regression = Objective(task="regression")
    refused(tmp_path, ModelError, "depends on no weight that is trained(.|\n)*'y' must hold", model=model, objective=regression)


def helper_graph(folder) -> Model:
    """A graph without weights: the first ten numbers."""
    from onnx import TensorProto, helper

    node = helper.make_node("Slice", ["x", "from", "to", "axes"], ["y"])
    constants = [numpy_helper.from_array(np.array([v], np.int64), n) for n, v in (("from", 0), ("to", 10), ("axes", 1))]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "g", [info("x", TensorProto.FLOAT, ["n", 64])], [info("y", TensorProto.FLOAT, ["n", 10])], constants
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "none.onnx")
    return Model(path=folder / "none.onnx")


def cifar(shared_data, start, count, part="train_10k"):
    file = np.load(shared_data / f"cifar10/cifar10_{part}.npz")
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    images = (file["x"][start : start + count].astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32), file["y"][start : start + count].astype(np.int64)


def test_resnet_20_distilling_itself_stays_itself(tmp_path, shared_data):
    model = Model(path=shared_data / "cifar10_resnets/resnet20_cifar10.onnx")
    images, _ = cifar(shared_data, 0, 200)
    x, y = cifar(shared_data, 0, 300, "test")
    name = onnx.load(model.path).graph.input[0].name
    schedule = Schedule(epochs=1, batch=20, learning_rate=1e-3, augment="images", hold_out=0.1)
    found = trainer(tmp_path, Arrays({name: images})).fit(
        model, out=tmp_path / "o.onnx", objective=Objective(logits=1.0), schedule=schedule, teacher=model
    )
    import onnxruntime as ort

    def right(path):
        session = ort.InferenceSession(str(path))
        return float((session.run(None, {name: x})[0].argmax(axis=1) == y).mean())

    assert abs(right(found.model.path) - right(model.path)) < 0.02
    assert found.history[-1].step == 9 and not all(np.array_equal(a, b) for a, b in zip(
        arrays(model).values(), arrays(found.model).values(), strict=True))  # fmt: skip
