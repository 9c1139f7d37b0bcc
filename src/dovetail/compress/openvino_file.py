"""Loads ONNX files into OpenVINO and saves its own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dovetail.compress import quiet
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Model


def load(model: Model) -> Any:
    """An ``openvino.Model``.

    Raises:
        ModelError: OpenVINO cannot read it; the message names the operator.
    """
    openvino = quiet.import_openvino()
    try:
        return openvino.Core().read_model(model.path)
    except RuntimeError as exc:
        raise ModelError(f"OpenVINO cannot read the model: {exc}", where=str(model.path)) from exc


def save(source: Any, path: Path) -> Model:
    """Writes ``path`` (``.xml``) and the ``.bin`` beside it; float constants keep 32 bits."""
    quiet.import_openvino().save_model(source, path, compress_to_fp16=False)
    return Model(path=path, format="openvino")
