"""Translates a model for another system, without a search: normalise, clean up, lower, compare, hand out."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.core.errors import InputError, ModelError, StorageError
from dovetail.core.protocols import Model
from dovetail.core.recipe import PassSpec, freeze
from dovetail.core.serial import encode
from dovetail.devices.probe import environment
from dovetail.export.artifact import MANIFEST, read_manifest, variant_model
from dovetail.measure.child import Child, ChildFailure
from dovetail.pipeline.artifacts import pick
from dovetail.pipeline.describe import cache_folder
from dovetail.workloads.load import load_onnx

TARGETS = {"litert": "tflite"}
"""Format → the usual ending of its files."""
LIMIT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export wrote.

    Attributes:
        notes: adjustments that the format demanded.
    """

    path: Path
    size_bytes: float
    notes: tuple[str, ...]


def export(model: str, to: str, out: Path, *, dims: Sequence[str] = (), force: bool = False) -> Exported:
    """Writes a model in another format; the file appears whole or not at all.

    Args:
        model: an ONNX file, or an artifact (``FOLDER`` or ``FOLDER@VARIANT``).
        to: a key of :data:`TARGETS`.
        out: file to write.
        dims: ``name=size`` for symbolic sizes; leading ones not named become 1.
        force: replace a file that is there.

    Raises:
        InputError: an unknown format, or the file is there already.
        ModelError: the model has no form in that format; the message names the operators.
        StorageError: the file cannot be written.
    """
    if to not in TARGETS:
        raise InputError(f"there is no format {to!r}", where="--to", hint=f"known: {', '.join(TARGETS)}")
    if out.exists() and not force:
        raise InputError("the file is there already", where=str(out), hint="choose another name, or add --force")
    source = _source(model)
    with tempfile.TemporaryDirectory(prefix="dovetail-export-") as folder:
        if source.format == to:
            return _hand_out(source.path, out, ())
        if source.format != "onnx":
            raise ModelError(f"a model in the format {source.format} cannot be turned into {to}", where=model)
        lowered, notes = _lower(source, Path(folder), dims)
        return _hand_out(lowered, out, notes)


def _source(text: str) -> Model:
    path, _, variant = text.partition("@")
    if (Path(path) / MANIFEST).exists():
        manifest = read_manifest(Path(path))
        return variant_model(Path(path), pick(manifest, variant or None, Path(path)))
    load_onnx(Path(text), weights=False)
    return Model(path=Path(text))


def _lower(source: Model, folder: Path, dims: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    normal = folder / "normal" / "model.onnx"
    logs = cache_folder() / "logs"
    try:
        with Child(logs / "export.log") as child:
            child.call("normalize", timeout_s=LIMIT_S, source=str(source.path), out=str(normal))
            clean = _build(child, normal, PassSpec(name="clean"), folder / "clean")
            sizes = PassSpec(name="lower_litert", params=freeze({"dims": list(dims)}))
            lowered = _build(child, Path(clean["path"]), sizes, folder / "lowered")
    except ChildFailure as exc:
        raise ModelError(exc.outcome.reason, where=str(source.path)) from exc
    return Path(lowered["path"]), tuple(lowered["notes"])


def _build(child: Child, path: Path, step: PassSpec, workdir: Path) -> dict[str, Any]:
    return child.call(
        "build", timeout_s=LIMIT_S, path=str(path), format="onnx", step=step.to_json(), workdir=str(workdir),
        environment=encode(environment()),
    )  # fmt: skip


def _hand_out(made: Path, out: Path, notes: tuple[str, ...]) -> Exported:
    partial = out.with_name(out.name + ".part")
    try:
        shutil.copyfile(made, partial)
        os.replace(partial, out)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise StorageError(f"cannot be written: {exc.strerror}", where=str(out)) from exc
    return Exported(path=out, size_bytes=float(out.stat().st_size), notes=notes)
