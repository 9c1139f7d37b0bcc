"""Model files as users give them, in the forms that everything else starts from. What is made is kept under its hash."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Model
from dovetail.core.recipe import digest
from dovetail.data.job import FitJob
from dovetail.export.artifact import sha256
from dovetail.measure.child import Child, ChildFailure
from dovetail.workloads.load import gather, weight_files

NATIVE_LIMIT_S = 300.0
LITERT_SUFFIX = ".tflite"


def model_file(job: FitJob, cache: Path) -> Model:
    """The ONNX file: the user's own, or one exported from torch or imported from LiteRT.

    Raises:
        InputError: none is given.
        ModelError: it cannot be exported or imported.
    """
    if not job.model:
        raise InputError("no model is given", hint="dovetail optimize MODEL, or `model:` in the job file")
    text = str(job.model)
    if text.endswith(".pt2") or ".py:" in text:
        from dovetail.workloads.torch_import import import_torch

        folder = cache / "exports" / digest([text, _stamp(text), job.seed])
        return Model(path=import_torch(text, folder / "model.onnx", seed=job.seed).path)
    if text.endswith(LITERT_SUFFIX):
        return _imported(Path(text), cache)
    return Model(path=Path(text))


def _imported(path: Path, cache: Path) -> Model:
    """A LiteRT file in ONNX form, made once."""
    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    out = cache / "imports" / sha256(path)[:16] / "model.onnx"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name("partial.onnx")
        in_child("import_litert", Model(path=path), cache / "logs", source=str(path), out=str(partial))
        partial.replace(out)
    return Model(path=out)


def native_file(text: str) -> Model | None:
    """The user's own file where ONNX is not its format: it runs as it is in its own runtime."""
    return Model(path=Path(text), format="litert") if text.endswith(LITERT_SUFFIX) else None


def _stamp(text: str) -> list[float]:
    path = Path(text.rpartition(":")[0] if ".py:" in text else text)
    return [path.stat().st_mtime, path.stat().st_size] if path.exists() else []


def gathered(original: Model, model_hash: str, cache: Path) -> Model:
    """The user's file where its weights lie as a :class:`Model` has them, else a copy that does, made once."""
    if weight_files(original.path) == tuple(file.resolve() for file in original.files()[1:]):
        return original
    out = cache / "originals" / model_hash / original.path.name
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as folder:
            partial = Model(path=Path(folder) / out.name)
            gather(original.path, partial.path)
            for file in reversed(partial.files()):  # the model itself last: it says that all is there
                file.replace(out.parent / file.name)
    return Model(path=out)


def normalized(original: Model, model_hash: str, cache: Path, logs: Path) -> Model:
    """The model in the normal form that passes start from, made once.

    Raises:
        ModelError: it cannot be normalised.
    """
    out = cache / "normalized" / model_hash / "model.onnx"
    if not out.exists():
        partial = out.with_name("partial") / "model.onnx"
        in_child("normalize", original, logs, source=str(original.path), out=str(partial))
        out.parent.mkdir(parents=True, exist_ok=True)
        for file in Model(path=partial).files():
            file.replace(out.parent / file.name)
    return Model(path=out)


def in_child(op: str, origin: Model, logs: Path, **arguments: Any) -> dict[str, Any]:
    """Runs native graph code on a model from anywhere.

    Raises:
        ModelError: it failed, or crashed.
    """
    try:
        with Child(logs / f"{op}.log") as child:
            return child.call(op, timeout_s=NATIVE_LIMIT_S, **arguments)
    except ChildFailure as exc:
        raise ModelError(exc.outcome.reason, where=str(origin.path)) from exc
