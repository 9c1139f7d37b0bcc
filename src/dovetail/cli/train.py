"""``dovetail train``: train a model's weights on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail train net.py:small_cnn --data train.npz --epochs 10 --out trained/

  dovetail train model.onnx --data train.npz --trials 20 --budget 30m --out trained/

  dovetail train small.onnx --data unlabelled.npz --teacher large.onnx --out distilled/
"""


def command(
    model: Annotated[str, typer.Argument(help="An .onnx file, a .pt2 file, or file.py:factory.")],
    data: Annotated[str, typer.Option(help="Samples to train on: .npz, a folder, .csv, .tsv, or module:function.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights, the recipe and the report.")],
    job: Annotated[Path | None, typer.Option(help="Job file that declares inputs and labels (see `dovetail init`).")] = None,
    task: Annotated[str, typer.Option(help="auto, classification, binary, regression, absolute or cosine_pairs.")] = "auto",
    metric: Annotated[str | None, typer.Option(help="What the model is judged by; tells the task where it is auto.")] = None,
    teacher: Annotated[str | None, typer.Option(help="A model to learn from; labels are then not needed.")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the samples.")] = 10.0,
    budget: Annotated[str | None, typer.Option(help="Time for everything; the schedule is shortened to end with it.")] = None,
    optimizer: Annotated[str, typer.Option(help="sgd or adamw.")] = "adamw",
    learning_rate: Annotated[float | None, typer.Option(help="The peak; by default one that suits the optimizer.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Of weights; biases and norms have none.")] = 5e-4,
    batch: Annotated[int, typer.Option(min=1, help="Samples per step.")] = 128,
    curve: Annotated[str, typer.Option(help="Of the learning rate: cosine, one_cycle or constant.")] = "cosine",
    augment: Annotated[list[str] | None, typer.Option(help="Augmentation; with --trials repeatable, to choose from.")] = None,
    hold_out: Annotated[float, typer.Option(help="Share of the samples that judge instead of training.")] = 0.1,
    patience: Annotated[int | None, typer.Option(help="Epochs without a better score after which it stops.")] = None,
    ema: Annotated[float | None, typer.Option(help="Keep an average of the weights with this decay, such as 0.999.")] = None,
    trials: Annotated[int, typer.Option(min=0, help="Settings to search through first.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a model's weights: from labels, from a teacher, or both; resumes where it was killed."""
    from dovetail.core.serial import encode
    from dovetail.core.training import Objective, Schedule
    from dovetail.data.job import FitJob, load_job
    from dovetail.data.limits import parse_budget
    from dovetail.pipeline.training import TrainRequest, train
    from dovetail.report.training import render_terminal, write_html
    from dovetail.search.hyperparameters import USUAL_RATE

    base = FitJob() if job is None else load_job(job)
    changes: dict[str, Any] = {"model": model, "train": data, "metric": metric or base.metric, "seed": seed}
    request = TrainRequest(
        job=base.model_copy(update=changes),
        objective=Objective(task=None if teacher and task == "auto" else task, logits=1.0 if teacher else 0.0),
        schedule=Schedule(
            epochs=epochs, batch=batch, optimizer=optimizer, weight_decay=weight_decay, curve=curve, ema=ema, hold_out=hold_out,
            patience=patience, seed=seed, augment=(augment or ["none"])[0],
            learning_rate=USUAL_RATE.get(optimizer, 1e-3) if learning_rate is None else learning_rate,
            budget_s=None if budget is None else parse_budget(budget),
        ),
        out=out,
        teacher=teacher,
        trials=trials,
        augmentations=tuple(augment or ["none"]),
    )  # fmt: skip
    shown = common.progress(quiet, request.schedule.budget_s)
    try:
        result = train(request, shown)
    except KeyboardInterrupt:
        typer.echo("stopped; the last checkpoint is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    finally:
        shown.close()
    write_html(result)
    if json:
        fields = ("score_name", "score", "seconds", "samples_per_s", "samples", "history", "schedule", "tried", "notes")
        told = {name: encode(getattr(result, name)) for name in fields}
        common.print_json({"model": str(result.folder / "model.onnx"), **told})
    else:
        render_terminal(result, common.console())
