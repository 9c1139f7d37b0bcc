"""The folder that ``optimize`` writes: its manifest and what one variant in it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dovetail.core.certificate import Certificate
from dovetail.core.measurement import Environment
from dovetail.core.recipe import Recipe

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One runnable model in an artifact.

    Attributes:
        name: ``fastest``, ``smallest``, ``original``.
        path: model file, relative to the artifact.
        format: ``onnx`` or ``openvino``.
        recipe: how it was made and how it runs.
        certificates: what is proved of it.
    """

    name: str
    path: str
    format: str
    recipe: Recipe
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``manifest.json``: what is in the folder, where it comes from, and where its numbers hold."""

    schema: int
    created: str
    status: str
    headline: str
    model_name: str
    model_hash: str
    variants: tuple[Variant, ...]
    files: Mapping[str, str]
    environment: Environment
    metric: str
    max_drop: str
    objective: str
    data_hashes: Mapping[str, str]
    splits: Mapping[str, int]
    inputs: tuple[Mapping[str, object], ...]
    outputs: tuple[Mapping[str, object], ...]
