"""Moves declared preprocessing into the model: what is fitted then takes the data as they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dovetail.core.errors import InputError
from dovetail.core.protocols import Model
from dovetail.core.recipe import PassSpec, digest, freeze
from dovetail.data.prepare import DataFiles, raw_dtypes
from dovetail.data.request import DataRequest, InputPlan

Build = Callable[[Model, PassSpec, Path], Model]


def taken_in(source: Model, source_hash: str, files: DataFiles | None, request: DataRequest, home: Path, build: Build) -> Model:
    """The model with its inputs' preprocessing as operators in front; made once.

    Resizing stays on the host: images of many sizes have no place in a graph of fixed ones.

    Args:
        source: normalised model.
        source_hash: of its content.
        files: the data, which tell the element types.
        request: how each input is fed.
        home: folder of such models.
        build: applies a pass to a model and writes into a folder.

    Raises:
        InputError: nothing to take in, no data, or element types that no model takes.
        ModelError: the model has no float input there.
    """
    plans = [plan for plan in request.fed if plan.preprocess.layout or plan.preprocess.arithmetic]
    if not plans:
        hint = "declare layout, scale, mean or std under `inputs:`, or leave `preprocessing: model` out"
        raise InputError("there is no preprocessing that the model could take in", where="preprocessing", hint=hint)
    if files is None:
        raise InputError("data must show the element types of raw inputs", where="preprocessing", hint="add --data")
    steps = _steps(plans, raw_dtypes(files, request))
    folder = home / digest([source_hash, *(step.to_json() for step in steps)])
    done = folder / "model.onnx"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        model = source
        for number, step in enumerate(steps):
            model = build(model, step, folder / f"step{number}")
        for file in reversed(model.files()):  # the model itself last: it says that all is there
            file.replace(folder / file.name)
    return Model(path=done)


def _steps(plans: Sequence[InputPlan], dtypes: dict[str, str]) -> list[PassSpec]:
    return [PassSpec(name="fold_input", params=freeze(_parameters(plan, dtypes[plan.spec.name]))) for plan in plans]


def _parameters(plan: InputPlan, dtype: str) -> dict[str, Any]:
    declared = plan.preprocess
    given = {"scale": () if declared.scale is None else (declared.scale,), "mean": declared.mean, "std": declared.std}
    numbers = {key: [str(value) for value in values] for key, values in given.items() if values}
    return {"input": plan.spec.name, "dtype": dtype, "layout": declared.layout, **numbers, "fold": False}
