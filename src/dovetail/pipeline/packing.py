"""Packs a model's weights into a small file, and gives them back."""

from __future__ import annotations

from pathlib import Path

from dovetail.compress import packed
from dovetail.core.errors import InputError, ModelError
from dovetail.export.artifact import MANIFEST, read_manifest, variant_model
from dovetail.pipeline.artifacts import pick
from dovetail.workloads.load import load_onnx

SUFFIX = ".dtvw"


def pack(model: str, out: Path, *, force: bool = False) -> packed.Packed:
    """Packs a model.

    Args:
        model: an ONNX file, or an artifact (``FOLDER`` or ``FOLDER@VARIANT``).
        out: file to write.
        force: replace a file that is there.

    Raises:
        InputError: the file is there already.
        ModelError: the model cannot be read, or is not ONNX.
        StorageError: the file cannot be written.
    """
    source = _source(model)
    _check_free(out, force)
    return packed.pack(source, out)


def unpack(file: Path, out: Path, *, force: bool = False) -> Path:
    """Gives back the ONNX file that was packed, byte for byte.

    Raises:
        InputError: the file is there already.
        ModelError: it is no packed model, or damaged.
        StorageError: the file cannot be written.
    """
    _check_free(out, force)
    return packed.unpack(file, out)


def _source(text: str) -> Path:
    path, _, variant = text.partition("@")
    if not (Path(path) / MANIFEST).exists():
        load_onnx(Path(text), weights=False)
        return Path(text)
    manifest = read_manifest(Path(path))
    model = variant_model(Path(path), pick(manifest, variant or None, Path(path)))
    if model.format != "onnx":
        raise ModelError(f"a model in the format {model.format} cannot be packed", where=text, hint="ONNX files can")
    return model.path


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise InputError("the file is there already", where=str(out), hint="choose another name, or add --force")
