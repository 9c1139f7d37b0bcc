"""Describes one fit: reads the model, the data and this machine, and checks everything before anything runs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dovetail import plugins
from dovetail.core.errors import InputError, MissingDependency, StorageError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Model, TensorSpec
from dovetail.core.recipe import PassSpec, digest
from dovetail.core.serial import decode, encode
from dovetail.core.sizes import Shapes
from dovetail.core.workload import Workload
from dovetail.data.dataset import StoredDataset, open_split
from dovetail.data.functions import source_file
from dovetail.data.job import FitJob
from dovetail.data.limits import parse_max_drop
from dovetail.data.metrics import RowMetric, get_metric
from dovetail.data.metrics.function import FunctionMetric
from dovetail.data.prepare import DataFiles, Splits, open_splits, prepare_splits, store_training
from dovetail.data.split import units_of
from dovetail.devices.probe import environment
from dovetail.export.artifact import TOP_FILES, own_files, sha256, strangers
from dovetail.measure.arena import Conditions
from dovetail.pipeline.job import Job, Split, Wish
from dovetail.pipeline.preprocessing import taken_in
from dovetail.pipeline.reading import gathered, in_child, model_file, native_file, normalized
from dovetail.pipeline.timing import Timing, made_up, on_samples
from dovetail.search import journal
from dovetail.workloads.load import content_hash, load_onnx, signature
from dovetail.workloads.recurrence import detect_state

DEFAULT_BUDGET_S = 600.0
DEFAULT_TRAIN_BUDGET_S = 1800.0
NO_DATA_BUDGET_S = 45.0
MEMORY_SHARE = 0.8
"""Share of the usable memory that a child's process tree may take."""

_AVX2 = ("avx2", "fma", "f16c")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512vl")
ISA_TARGETS = {
    "avx2": _AVX2,
    "avx_vnni": (*_AVX2, "avx_vnni"),
    "avx512": _AVX512,
    "avx512_vnni": (*_AVX512, "avx512_vnni"),
    "amx": (*_AVX512, "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"),
    "neon": ("asimd",),
    "dotprod": ("asimd", "asimdhp", "asimddp"),
}
"""Instruction sets that ``target_isa`` may name, with the flags they bring."""
FOREIGN = (
    "built for {target}: passes keep to what it can do, but speed and quality were measured with this machine's own kernels"
    " and hold here; run `dovetail verify` on the target"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for.

    Attributes:
        job: the job file's content with the flags laid over it.
        data: data in memory (Python API); stands in for the job's paths.
        train: training samples in memory, likewise.
        out: folder for the artifact.
        cache: folder that outlives runs.
        command: how to ask the same again, for the report.
    """

    job: FitJob
    out: Path
    cache: Path
    data: Any = None
    train: Any = None
    command: str = ""

    @property
    def calibration(self) -> Path:
        """Folder of this machine's calibration."""
        return calibration_folder(self.cache)

    def claim_out(self) -> Path:
        """Checks that the output folder can be made and written, and that nothing in it is somebody else's.

        One that is new is not kept until there is a journal.

        Raises:
            StorageError: it cannot.
            InputError: it holds files, but no fit.
        """
        fresh = not self.out.exists()
        if self.out.is_dir():
            self._check_ours()
        _check_writable(self.out, hint="choose another --out")
        if fresh:
            self.out.rmdir()
        _check_writable(self.cache, hint="choose another folder for the cache with the variable DOVETAIL_CACHE")
        return self.out

    def _check_ours(self) -> None:
        """Raises an :class:`InputError` where an artifact in this folder would be among, or replace, what is not ours."""
        where, hint = str(self.out), "choose another --out: a new folder, an empty one, or one that holds an earlier fit"
        try:
            known = own_files(self.out) or journal.is_journal(self.out / journal.FILE) or not any(self.out.iterdir())
            taken = strangers(self.out, TOP_FILES)
        except InputError as exc:
            raise InputError(f"its manifest.json is no earlier fit's: {exc.what}", where=where, hint=hint) from exc
        except OSError as exc:
            raise StorageError(f"cannot be read: {exc.strerror}", where=where, hint=hint) from exc
        if not known:
            raise InputError("the folder is not empty, and what it holds is no fit", where=where, hint=hint)
        if taken:
            raise InputError(f"{taken[0]} is there, and is no earlier fit's", where=where, hint=hint)


def _check_writable(folder: Path, hint: str) -> None:
    """Makes a folder and writes a file in it that nobody sees."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise StorageError(f"cannot write there: {exc.strerror}", where=str(exc.filename or folder), hint=hint) from exc


def cache_folder() -> Path:
    """``$DOVETAIL_CACHE``, else ``$XDG_CACHE_HOME/dovetail``, else ``~/.cache/dovetail``."""
    chosen = os.environ.get("DOVETAIL_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dovetail"


def calibration_folder(cache: Path) -> Path:
    """Where the calibration of this machine lies."""
    return cache / "calibration"


def describe(request: Request, note: Callable[[str], None]) -> Job:
    """Reads model and data, and checks all of it before anything runs.

    Raises:
        DovetailError: something cannot be used; says what, where, and what to do.
    """
    machine = environment()
    job = request.job
    original = model_file(job, request.cache)
    model_hash = content_hash(original.path)
    inputs, outputs = signature(load_onnx(original.path, weights=False))
    original = gathered(original, model_hash, request.cache)
    state = job.state or detect_state(inputs, outputs)
    if state and not job.state:
        note("recurrent state found: " + ", ".join(f"{a} ← {b}" for a, b in state.items()))
    logs = request.cache / "logs"
    source = normalized(original, model_hash, request.cache, logs)
    job, native = job.model_copy(update={"state": dict(state)}), native_file(str(job.model))
    if job.preprocessing == "model":
        source = original = _with_preprocessing(request, job, source, model_hash, inputs)
        model_hash, native, job = content_hash(source.path), None, job.deployed()
        inputs, outputs = signature(load_onnx(source.path, weights=False))
        note("the model takes raw input: " + ", ".join(f"{i.name} {i.dtype} {list(i.shape)}" for i in inputs))
    splits, warnings = _read_data(request, job, inputs)
    training, left_out = _training(request, job, inputs, splits)
    warnings += left_out
    metric_spec, metric = _metric(job, outputs, splits)
    metric_file = source_file(str(metric_spec)) if isinstance(metric, FunctionMetric) else None
    wish = _wish(job, metric)
    timing = _timing(splits, inputs, job, request.cache, wish.batch)
    if timing.assumed:
        warnings += (_made_up_note(timing.assumed),)
        note(warnings[-1])
    return Job(
        name=Path(str(job.model)).name,
        original=original,
        native=native,
        source=source,
        model_hash=model_hash,
        inputs=inputs,
        outputs=outputs,
        workload=_analyzed(source, timing.calls[0], logs),
        environment=restricted(machine, job.target_isa),
        wish=wish,
        splits=_as_splits(splits, timing.data, training),
        timing_indices=timing.indices,
        call_shapes=timing.calls,
        metric_spec=metric_spec,
        metric_hash="" if metric_file is None else sha256(metric_file),
        metric=metric,
        state=state,
        free_dims=timing.free_dims(inputs),
        values={plan.spec.name: plan.value.tolist() for plan in job.request(inputs).inputs if plan.value is not None},
        warnings=(*warnings, *([FOREIGN.format(target=job.target_isa)] if job.target_isa else [])),
    )


def onnx_form(path: Path) -> Path:
    """A model file in ONNX form: itself, or what it was imported to.

    Raises:
        ModelError: it cannot be imported.
    """
    return model_file(FitJob(model=str(path)), cache_folder()).path


def analyze_file(path: Path, shapes: Mapping[str, list[int]]) -> Workload:
    """Analyses a model file as the user gave it.

    Raises:
        ModelError: it cannot be read or is not valid.
    """
    path = onnx_form(path)
    load_onnx(path, weights=False)
    answer = in_child("analyze", Model(path=path), cache_folder() / "logs", model=str(path), shapes=dict(shapes))
    return decode(Workload, answer["workload"])


def timing_conditions(model: Model, data: Any, batch: int, runtime: str = "onnxruntime") -> Conditions:
    """Conditions for timing runs outside a search, on the user's samples or on random ones.

    Args:
        model: whose inputs the samples are for.
        data: the user's samples; ``None`` for random ones.
        batch: samples per call.
        runtime: that runs the model, where its format has no form in ONNX.

    Raises:
        DovetailError: the model or the data cannot be read.
    """
    cache = cache_folder()
    inputs, outputs = _ports(model, runtime, cache / "logs")
    state = detect_state(inputs, outputs)
    job = FitJob(model=str(model.path), data=data, state=state)
    request = Request(job=job, out=cache, cache=cache)
    splits, _ = _read_data(request, job, inputs)
    return conditions_of(_timing(splits, inputs, job, cache, batch), batch)


def conditions_of(timing: Timing, batch: int) -> Conditions:
    """Conditions for timing runs outside a search."""
    return Conditions(
        split=timing.data.folder,
        indices=timing.indices,
        batch=batch,
        logs=cache_folder() / "logs",
        memory_limit_bytes=MEMORY_SHARE * environment().memory_bytes,
    )


def _ports(model: Model, runtime: str, logs: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a model: from its ONNX form, or as its runtime tells them where it has none."""
    if model.format in ("onnx", "litert"):
        return signature(load_onnx(onnx_form(model.path), weights=False))
    told = in_child("load", model, logs, path=str(model.path), format=model.format, runtime=runtime, options={})
    inputs, outputs = (tuple(decode(TensorSpec, spec) for spec in told[side]) for side in ("inputs", "outputs"))
    return inputs, outputs


def _with_preprocessing(request: Request, job: FitJob, source: Model, source_hash: str, inputs: Sequence[TensorSpec]) -> Model:
    """The model that takes the data as they are."""

    def build(model: Model, step: PassSpec, folder: Path) -> Model:
        folder.mkdir(parents=True, exist_ok=True)
        made = in_child(
            "build", model, request.cache / "logs", path=str(model.path), format=model.format, step=step.to_json(),
            workdir=str(folder), environment=encode(environment()),
        )  # fmt: skip
        return Model(path=Path(made["path"]))

    home = request.cache / "preprocessed"
    return taken_in(source, source_hash, _files(request, job), job.request(tuple(inputs)), home, build)


def _analyzed(source: Model, call: Shapes, logs: Path) -> Workload | None:
    shapes = {name: list(shape) for name, shape in call.items()}
    answer = in_child("analyze", source, logs, model=str(source.path), shapes=shapes)
    return decode(Workload, answer["workload"])


def restricted(machine: Environment, target: str | None) -> Environment:
    """The machine with the instruction sets of another one.

    Raises:
        InputError: an unknown target.
    """
    if target is None:
        return machine
    if target not in ISA_TARGETS:
        raise InputError(f"there is no target {target!r}", where="target_isa", hint=f"known: {', '.join(ISA_TARGETS)}")
    return replace(machine, isa=tuple(flag for flag in ISA_TARGETS[target]))


# -- data ----------------------------------------------------------------------------------------------------------------


def _read_data(request: Request, job: FitJob, inputs: Sequence[TensorSpec]) -> tuple[Splits | None, tuple[str, ...]]:
    """Stores the splits under their content hash, so that the same data take their space once."""
    files = _files(request, job)
    if files is None:
        return None, ()
    home = request.cache / "splits"
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=home, prefix="new-"))
    try:
        splits = prepare_splits(files, job.request(tuple(inputs)), folder, seed=job.seed)
        warnings = splits.warnings
        final = home / digest([split.content_hash for split in splits.present()])
        if not final.exists():
            folder.replace(final)
        return open_splits(final), warnings
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _training(
    request: Request, job: FitJob, inputs: Sequence[TensorSpec], splits: Splits | None
) -> tuple[StoredDataset | None, tuple[str, ...]]:
    """Stores the samples to train on like the others, without those that judge."""
    if request.train is None and job.train is None:
        if job.train_budget is not None:
            raise InputError("a time for training needs samples to train on", where="train_budget", hint="add --train")
        return None, ()
    if splits is None:
        raise InputError("training needs data that judge its result", where="train", hint="add --data")
    judges = [split for split in (splits.selection, splits.certification) if split is not None]
    stored = stored_training(job, request.train, inputs, request.cache, judges)
    left_out = len(open_split(stored.folder.parent / "all")) - len(stored)
    return stored, (f"{left_out:,} training samples also select or certify and are not trained on",) if left_out else ()


def stored_training(
    job: FitJob, data: Any, inputs: Sequence[TensorSpec], cache: Path, judges: Sequence[StoredDataset] = ()
) -> StoredDataset:
    """The samples to train on, stored under their content hash without those that judge.

    Args:
        job: names the samples, and says what they hold.
        data: samples in memory; stand in for the job's path.
        inputs: of the model.
        cache: folder that outlives runs.
        judges: splits whose samples are left out.

    Raises:
        InputError: none are given, they cannot be read, or do not fit the model.
        MissingDependency: torch is not installed.
    """
    given = data if data is not None else job.train
    if importlib.util.find_spec("torch") is None:
        raise MissingDependency("training needs torch", where="train", hint="pip install 'dovetail[torch]'")
    if given is None:
        raise InputError("there are no samples to train on", where="train", hint="dovetail train MODEL --data FILE")
    home = cache / "splits"
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=home, prefix="new-"))
    try:
        stored = store_training(given, job.request(tuple(inputs)), folder, judges)
        final = home / f"train-{stored.content_hash}"
        if not final.exists():
            folder.replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return open_split(final / "training")


def _files(request: Request, job: FitJob) -> DataFiles | None:
    return DataFiles(data=request.data) if request.data is not None else job.files()


def _metric(job: FitJob, outputs: Sequence[TensorSpec], splits: Splits | None) -> tuple[Any, RowMetric | None]:
    """The metric the user names, or the obvious one: accuracy for class labels, else agreement with the original."""
    if splits is None:
        if job.metric is not None:
            get_metric(job.metric)
            raise InputError("a metric needs data to be judged on", where="metric", hint="add --data")
        return None, None
    spec = job.metric if job.metric is not None else _obvious_metric(outputs, splits.selection)
    metric = get_metric(spec)
    if metric.needs_labels and splits.selection.labels is None:
        raise InputError(
            f"{metric.name} needs labels; the data have none",
            where="metric",
            hint="name their key with `labels:`, or use --metric agreement",
        )
    return spec, metric


def _obvious_metric(outputs: Sequence[TensorSpec], data: StoredDataset) -> str:
    labels = data.labels
    classes = labels is not None and labels.ndim == 1 and labels.dtype.kind in "iu"
    return "accuracy" if classes and len(outputs) == 1 and len(outputs[0].shape) == 2 else "agreement"


def _timing(splits: Splits | None, inputs: Sequence[TensorSpec], job: FitJob, cache: Path, batch: int) -> Timing:
    if splits is not None:
        return on_samples(splits.selection, batch)
    return made_up(inputs, job.request(tuple(inputs)).inputs, cache / "splits", seed=job.seed, batch=batch)


def _made_up_note(assumed: Mapping[str, int]) -> str:
    sizes = ", ".join(f"{name} = {size}" for name, size in assumed.items())
    how = "give data, or declare `shape:` under `inputs:`"
    return f"no data tell these sizes, so they are assumed for timing and stay free: {sizes}; {how}"


def _as_splits(splits: Splits | None, timing: StoredDataset, training: StoredDataset | None) -> dict[str, Split]:
    present = {} if splits is None else {s.name: s for s in splits.present()}
    if training is not None:
        present["training"] = training
    return {name: _split(data) for name, data in {**present, "timing": timing}.items()}


def _split(data: StoredDataset) -> Split:
    units = len(units_of(np.asarray(data.groups)))
    return Split(folder=data.folder, samples=len(data), units=units, content_hash=data.content_hash)


def _wish(job: FitJob, metric: RowMetric | None) -> Wish:
    drop = job.permitted_drop() or parse_max_drop("0" if metric is None else metric.default_max_drop)
    known = tuple(name for name in plugins.names("dovetail.runtimes") if name != "null")
    chosen = tuple(job.runtimes or _usual_first(known))
    for name in chosen:
        plugins.runtime(name)
    return Wish(
        max_drop=drop,
        constraints=job.constraints(),
        objectives=job.objectives(),
        budget_s=job.budget_s() or (DEFAULT_BUDGET_S if metric else NO_DATA_BUDGET_S),
        runtimes=chosen,
        train_budget_s=job.train_budget_s() or DEFAULT_TRAIN_BUDGET_S,
        variants=job.variants or 0,
        batch=job.batch or 1,
        seed=job.seed,
    )


def _usual_first(names: Sequence[str]) -> list[str]:
    """ONNX Runtime first: its default is the "before" of every table."""
    return sorted(names, key=lambda name: (name != "onnxruntime", name))
