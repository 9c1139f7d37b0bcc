"""``dovetail optimize``: fit a model to this machine, with proof."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dovetail.cli import common

EXAMPLES = """Examples:

  dovetail optimize model.onnx --data data.npz --metric accuracy --max-drop 1pp --budget 10m --out fit/

  dovetail optimize model.onnx                  (no data: lossless recipes only, quality not certified)

  dovetail optimize model.onnx --data data.npz --max-drop 1pp --train train.npz --train-budget 30m

  dovetail optimize --job fit.yaml --limit latency_p99=5ms --limit memory=200MB
"""


def command(
    model: Annotated[str | None, typer.Argument(help="An .onnx file, a .pt2 file, or file.py:factory.")] = None,
    job: Annotated[Path | None, typer.Option(help="Job file (see `dovetail init`); flags override it.")] = None,
    data: Annotated[str | None, typer.Option(help="Samples: .npz, a folder, .csv, .tsv, or module:function.")] = None,
    calibrate: Annotated[str | None, typer.Option(help="Samples for calibration alone.")] = None,
    select: Annotated[str | None, typer.Option(help="Samples that the search selects on.")] = None,
    certify: Annotated[str | None, typer.Option(help="Samples that certify the answer.")] = None,
    train: Annotated[str | None, typer.Option(help="Samples to train on: prune, distil and quantise with training.")] = None,
    train_budget: Annotated[str | None, typer.Option(help="Time for training, beside --budget (30m by default).")] = None,
    metric: Annotated[str | None, typer.Option(help="accuracy, top5, f1, spearman, agreement, … or module:function.")] = None,
    max_drop: Annotated[str | None, typer.Option(help="Permitted loss of quality: 1pp, 1%, or a number.")] = None,
    objective: Annotated[str | None, typer.Option(help="latency, throughput, size or memory.")] = None,
    limit: Annotated[list[str] | None, typer.Option(help="A limit the answer must meet, NAME=VALUE; repeatable.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time for the whole command: 90s, 10m, 1h.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples per call.")] = None,
    preprocessing: Annotated[
        str | None, typer.Option(help="host, or model: the job file's preprocessing moves into the model, timed with it.")
    ] = None,
    variants: Annotated[int | None, typer.Option(help="How many variants to certify.")] = None,
    runtime: Annotated[list[str] | None, typer.Option(help="Only this runtime; repeatable.")] = None,
    target_isa: Annotated[str | None, typer.Option(help="Instruction set to build for: avx2, avx512_vnni, …")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of splits and of every random choice.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the artifact: new, empty, or of an earlier fit (default: MODEL.fit).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when infeasible, 4 for best effort.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Fit a model to this machine: compress it, pick the runtime, prove speed and quality, write an artifact."""
    from dovetail.api import make_request
    from dovetail.core.outcome import FitStatus
    from dovetail.pipeline.optimize import optimize

    given: dict[str, Any] = {
        "model": model,
        "data": _data(data, calibrate, select, certify),
        "train": train,
        "train_budget": train_budget,
        "metric": metric,
        "max_drop": max_drop,
        "objective": objective,
        "limits": _limits(limit or []) or None,
        "budget": budget,
        "batch": batch,
        "preprocessing": preprocessing,
        "variants": variants,
        "runtimes": runtime,
        "target_isa": target_isa,
        "seed": seed,
    }
    request = make_request(job, given, out=out, command=shlex.join(["dovetail", *sys.argv[1:]]))
    shown = common.progress(quiet, request.job.budget_s())
    try:
        result = optimize(request, shown)
    except KeyboardInterrupt:
        typer.echo("stopped; finished trials are in the journal, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    finally:
        shown.close()
    if json:
        from dovetail.report.json import to_json

        common.print_json(to_json(result))
    else:
        from dovetail.report.terminal import render_result

        render_result(result, common.console())
    if strict and result.status is not FitStatus.CERTIFIED:
        raise typer.Exit(3 if result.status is FitStatus.INFEASIBLE else 4)


def _data(data: str | None, calibrate: str | None, select: str | None, certify: str | None) -> Any:
    parts = {"calibrate": calibrate, "select": select, "certify": certify}
    if not any(parts.values()):
        return data
    if data is not None:
        from dovetail.core.errors import InputError

        raise InputError("give either --data or --calibrate/--select/--certify", where="data")
    return parts


def _limits(texts: list[str]) -> dict[str, str]:
    from dovetail.core.errors import InputError

    limits = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{text!r} is not NAME=VALUE", where="--limit", hint="for example --limit latency_p99=5ms")
        limits[name.strip()] = value.strip()
    return limits
