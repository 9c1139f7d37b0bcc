"""The passes that train: a pruned network learns from the original, in float and under 8-bit rounding."""

import json
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from train_samples import ENVIRONMENT, answers, cnn, digits

from dovetail.compress.clean import Clean
from dovetail.compress.distil import Distil
from dovetail.compress.prune.channels import PruneChannels
from dovetail.compress.quantize_aware import QuantizeAware
from dovetail.compress.training_settings import Looks, Training, schedule
from dovetail.core.errors import DataError, ModelError
from dovetail.core.protocols import Array, Model, PassContext
from dovetail.core.training import Objective, Schedule

pytest.importorskip("torch")

from dovetail.train.trainer import GraphTrainer

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that learnt the digits from their labels."""
    folder = tmp_path_factory.mktemp("original")
    data, _, _ = digits(flat=False)
    schedule = Schedule(epochs=12, batch=50, learning_rate=0.05, ema=0.95, precision="float32")
    trainer = GraphTrainer(data, state=folder / "state", threads=1, environment=ENVIRONMENT)
    model = cnn(folder / "untrained.onnx")
    return trainer.fit(model, out=folder / "model.onnx", objective=Objective(task="auto"), schedule=schedule).model


def context(folder: Path, original: Model | None, **config: object) -> PassContext:
    """Unlabelled samples to train and calibrate on."""
    data, _, _ = digits(labels=False, flat=False)
    folder.mkdir()
    trainer = GraphTrainer(data, state=folder / "state", threads=1, environment=ENVIRONMENT)
    return PassContext(
        workdir=folder,
        environment=ENVIRONMENT,
        config=config,
        calibration=data,
        trainer=trainer,
        training=data,
        original=original,
    )


def right(model: Model) -> float:
    _, x, y = digits(flat=False)
    return float((answers(model, x).argmax(axis=1) == y).mean())


def scales(model: Model) -> dict[str, Array]:
    proto = onnx.load(model.path)
    names = {n.input[1] for n in proto.graph.node if n.op_type == "QuantizeLinear"}
    return {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer if t.name in names}


def test_a_pruned_network_learns_back_what_it_lost_without_labels(original: Model, tmp_path: Path) -> None:
    pruned = PruneChannels().apply(original, context(tmp_path / "pruned", original, ratio=0.5, align=2))
    ctx = context(tmp_path / "distilled", original, epochs=8, batch=50, augment="none")
    distilled = Distil().apply(pruned, ctx)
    assert right(original) > 0.95 and right(distilled) > right(original) - 0.03
    assert right(distilled) > right(pruned)
    loss = json.loads((ctx.workdir / "loss.json").read_text())["loss"]
    assert len(loss) == 8 and loss[-1][1] < loss[0][1]


def test_training_under_rounding_moves_weights_and_scales_and_keeps_the_graph(original: Model, tmp_path: Path) -> None:
    cleaned = Clean().apply(original, context(tmp_path / "clean", original))
    ctx = context(tmp_path / "aware", original, epochs=2, batch=50, augment="none")
    trained = QuantizeAware().apply(cleaned, ctx)
    before, after = onnx.load(ctx.workdir / "rounded.onnx"), onnx.load(trained.path)
    assert [n.op_type for n in before.graph.node] == [n.op_type for n in after.graph.node]
    rounded = Model(path=ctx.workdir / "rounded.onnx")
    found = scales(trained)
    for name, scale in scales(rounded).items():
        assert found[name] != scale and found[name] == pytest.approx(scale, rel=0.05), "in steps of its own size"
    assert right(trained) > right(original) - 0.03


def test_the_batch_is_what_was_asked_for() -> None:
    attention = Looks(normalised=False, attention=True, channels=0)
    assert [schedule(Training(batch=size), attention, 0).batch for size in (None, 8)] == [32, 8]


def test_images_stay_as_they_are_where_the_originals_answers_outnumber_the_weights() -> None:
    grey = Looks(normalised=False, attention=False, channels=1, weights=28_000, answers=10)
    chosen = {count: schedule(Training(), grey, 0, samples=count).augment for count in (0, 10_000, 50_000)}
    assert chosen == {0: "strong_shifts", 10_000: "strong_shifts", 50_000: "none"}
    assert schedule(Training(augment="shifts"), grey, 0, samples=50_000).augment == "shifts"


def test_what_cannot_be_trained_says_why(original: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="samples to train on"):
        Distil().apply(original, context(tmp_path / "alone", None))
    ctx = context(tmp_path / "aware", original, epochs=1, augment="none")
    rounded = QuantizeAware().apply(Clean().apply(original, context(tmp_path / "clean", original)), ctx)
    with pytest.raises(ModelError, match="quantised"):
        Distil().apply(rounded, context(tmp_path / "again", original))
