"""How passes train when the user does not say: by what the graph looks like."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dovetail.compress import settings
from dovetail.compress.landmarks import landmarks
from dovetail.core.errors import DataError
from dovetail.core.protocols import Model, PassContext, Trainer
from dovetail.core.training import Objective, Schedule, Trained

SPARSE = 0.05
"""Share of zeros from which weights count as pruned."""
MOST_RATE = 0.03
"""Of SGD."""
IMAGE_CHANNELS = {1: "strong_shifts", 3: "strong_images"}
"""Channels of an image input → augmentation: grey images are often writing or scans, which must not be mirrored."""
PLENTY = 5.0
"""Answers of the original per weight from which images stay as they are: a network that cannot learn so many answers by heart
learns most from what it will see.

A network of 28,000 weights for MNIST, 50,000 images of ten answers (18 per weight), lost 0.11 pp after eight epochs without
augmentation, 0.24 with shifts, 0.29 with strong ones. ResNet-20 with three merged blocks on 10,000 images (0.4 per weight):
1.45 pp after one epoch without and 2.3 with strong augmentation, after three 2.0 and 1.95, and less with each from there.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Parameters that all training passes share.

    Attributes:
        epochs: passes over the training samples.
        batch: samples per step; ``None`` for a number that suits the graph.
        learning_rate: the peak; ``None`` for one that suits the graph.
        augment: name of an augmentation; ``auto`` for one that suits the inputs, ``none``.
        labels: weight of the loss against labels, beside the distillation from the original.
        temperature: of the distillation of class scores.
        features: weight of the distillation of inner maps that the network shares with the original; 0 for none.
        ema: decay of the average of weights that is kept; ``None`` for none.
        clip: largest norm of the gradient.
    """

    epochs: float = 10.0
    batch: int | None = None
    learning_rate: float | None = None
    augment: str = "auto"
    labels: float = 0.0
    temperature: float = 4.0
    features: float = 300.0
    ema: float | None = None
    clip: float | None = 5.0

    def __post_init__(self) -> None:
        settings.require(self.epochs > 0, f"{self.epochs} is not above zero", "training.epochs")
        settings.require(self.batch is None or self.batch >= 1, f"{self.batch} is less than 1", "training.batch")
        settings.require(self.labels >= 0, f"{self.labels} is below zero", "training.labels")
        settings.require(self.features >= 0, f"{self.features} is below zero", "training.features")


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What a graph is made of, as far as training goes.

    Attributes:
        normalised: holds batch normalisation, so it bears large steps.
        attention: a transformer, which bears only small ones.
        channels: of its one image input; 0 where it has none.
        sparse: many weights are zero, so that they were pruned.
        weights: how many it has.
        answers: numbers that it says of a sample; of a position, where it answers at many.
    """

    normalised: bool
    attention: bool
    channels: int
    sparse: bool = False
    weights: int = 0
    answers: int = 1


def looks(proto: Any) -> Looks:
    """Judges an ``onnx.ModelProto``."""
    import onnx

    kinds = {node.op_type for node in proto.graph.node}
    constants = {tensor.name for tensor in proto.graph.initializer}
    shapes = [_sizes(value) for value in proto.graph.input if value.name not in constants]
    images = [shape for shape in shapes if len(shape) == 4]
    matrices = [t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) > 1]
    found = [size for shape in images for size in (shape[1], shape[3]) if size in IMAGE_CHANNELS]
    return Looks(
        normalised="BatchNormalization" in kinds,
        attention="Softmax" in kinds and bool(kinds & {"LayerNormalization", "Erf", "Gelu"}),
        channels=found[0] if len(shapes) == 1 and found else 0,
        sparse=_zeros(matrices) > SPARSE,
        weights=sum(math.prod(tensor.dims) for tensor in matrices),
        answers=sum(_answers(_sizes(value)) for value in proto.graph.output),
    )


def _answers(shape: Sequence[int]) -> int:
    """Of ``[N, C]``, ``[N, positions, C]`` or ``[N, C, H, W]``, C; of anything else, or where it is open, 1."""
    axis = {2: 1, 3: 2, 4: 1}.get(len(shape))
    return 1 if axis is None else max(1, shape[axis])


def _zeros(weights: Sequence[Any]) -> float:
    """Share of zeros among the weights that lie in the file itself."""
    import onnx

    arrays = [onnx.numpy_helper.to_array(t) for t in weights if t.data_location != onnx.TensorProto.EXTERNAL]
    count = sum(array.size for array in arrays)
    return sum(int((array == 0).sum()) for array in arrays) / count if count else 0.0


def _sizes(value: Any) -> Sequence[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def schedule(config: Training, seen: Looks, seed: int, *, samples: int = 0, fine: bool = False) -> Schedule:
    """A schedule for a graph; ``fine`` for small corrections, as training under 8-bit rounding makes them, scales included."""
    rate = config.learning_rate
    if rate is None:
        rate = 5e-5 if seen.attention else _mending(config.epochs) if seen.normalised else 1e-3
        rate = rate / 10 if fine else rate
    plenty = seen.weights > 0 and samples * seen.answers >= PLENTY * seen.weights
    augment = "none" if plenty else IMAGE_CHANNELS.get(seen.channels, "none")
    augment = augment if config.augment == "auto" else config.augment
    return Schedule(
        epochs=config.epochs,
        batch=config.batch or (32 if seen.attention else 128),
        optimizer="sgd" if seen.normalised else "adamw",
        learning_rate=rate,
        weight_decay=5e-4 if seen.normalised else 0.01,
        augment=augment,
        ema=config.ema,
        clip=config.clip,
        hold_out=0.0,
        keep="last",
        keep_zeros=seen.sparse or not fine,  # of a quantised graph, weights that merely round to zero are zero too
        precision="float32" if fine else "auto",  # bfloat16 cannot hold the sums that the runtime's integers hold
        learn_scales=fine,
        seed=seed,
    )


def _mending(epochs: float) -> float:
    """Peak rate of SGD for a network that was good before a part of it was taken away: short trainings bear only small steps.

    ResNet-20 with three merged blocks lost 3.4 pp after three epochs at 0.05, 1.75 at 0.01 and 2.2 at 0.003, 0.85 after nine at
    0.02 (CIFAR-10, 10,000 images, drop on 2,000 others).
    """
    return min(0.015 * math.sqrt(epochs / 3), MOST_RATE)


def objective(config: Training, taps: Sequence[tuple[str, str]] = ()) -> Objective:
    """Distillation of the original's outputs and of inner maps, with a share of labels where the user wants one.

    Inner maps say more of each image than ten scores do. ResNet-20 with three merged blocks, three epochs on 10,000 images:
    1.75 pp lost without them, 1.0 pp with the last map of each resolution at a weight of 400, 1.2 pp at 100.
    """
    return Objective(
        task="auto" if config.labels else None,
        hard=config.labels,
        logits=1.0,
        temperature=config.temperature,
        features=config.features if taps else 0.0,
        taps=tuple(taps),
    )


def _taps(model: Model, teacher: Model | None, config: Training, augmented: bool) -> Sequence[tuple[str, str]]:
    """Maps to compare; none where images are not changed, since all of the teacher's would be kept in memory then."""
    if teacher is None or not config.features or not augmented:
        return ()
    import onnx

    return landmarks(onnx.load(model.path), onnx.load(teacher.path))


def train(model: Model, config: Training, seen: Looks, ctx: PassContext, *, fine: bool = False) -> Trained:
    """Trains a model to answer as the original does.

    Raises:
        DataError: there are no training samples, or no original to learn from.
        ModelError: the graph cannot be trained.
    """
    trainer = _trainer(ctx)
    how = schedule(config, seen, ctx.seed, samples=0 if ctx.training is None else len(ctx.training), fine=fine)
    trained = trainer.fit(
        model,
        out=ctx.workdir / "model.onnx",
        objective=objective(config, _taps(model, ctx.original, config, how.augment != "none")),
        schedule=how,
        teacher=ctx.original,
        progress=ctx.progress,
    )
    told = [(row.epoch, row.loss) for row in trained.history]
    (ctx.workdir / "loss.json").write_text(json.dumps({"schema": 1, "loss": told}), encoding="utf-8")
    for note in trained.notes:
        ctx.note(note)
    return trained


def _trainer(ctx: PassContext) -> Trainer:
    if ctx.trainer is None or ctx.original is None:
        raise DataError("needs samples to train on", where="training", hint="give them with --train; labels are not needed")
    return ctx.trainer
