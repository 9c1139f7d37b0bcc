"""What a fit does with an example's job, without its measurements: reads it, makes a smaller network, judges networks."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from dovetail import plugins
from dovetail.core.protocols import Model
from dovetail.core.recipe import PassSpec, Recipe
from dovetail.data.dataset import open_split
from dovetail.data.evaluator import Evaluator
from dovetail.data.job import load_job
from dovetail.measure.arena import Conditions
from dovetail.pipeline.builder import Builder, Built
from dovetail.pipeline.describe import Request, describe
from dovetail.pipeline.job import Job

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def script(path: Path) -> ModuleType:
    """A script of an example as a module. What lies beside it can be imported from then on, as when it is run."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec.loader.exec_module(module)
    return module


def described(job: Path, folder: Path) -> Job:
    """The job with its data stored and its original run, on the runtime that runs nothing."""
    wanted = load_job(job).model_copy(update={"runtimes": ["null"]})
    return describe(Request(job=wanted, out=folder / "fit", cache=folder / "cache"), lambda text: None)


def made(job: Job, folder: Path, *passes: PassSpec) -> Model:
    """The network that passes lead to."""
    timing = job.splits["timing"].folder
    conditions = Conditions(split=timing, indices=job.timing_indices, batch=1, logs=folder / "logs", memory_limit_bytes=8e9)
    built = Builder(job, folder / "cache", conditions).build(Recipe(passes=passes, runtime="null"))
    assert isinstance(built, Built), built.reason
    return built.model


def quality(job: Job, model: Model) -> float:
    """The job's metric on its certification samples, in ONNX Runtime."""
    assert job.metric is not None
    session = plugins.runtime("onnxruntime").build(model, {"threads": 1})
    try:
        judge = Evaluator(job.metric)
        return judge.value(judge.rows(session, open_split(job.splits["certification"].folder)))
    finally:
        session.close()


def few_images(source: Path, target: Path, count: int) -> None:
    """The first images of a file of images and classes."""
    with np.load(source, allow_pickle=False) as file:
        np.savez(target, x=file["x"][:count], y=file["y"][:count])


def linked(source: Path, target: Path) -> None:
    """A folder under another name."""
    os.symlink(source, target, target_is_directory=True)
