"""The folder that ``optimize`` writes: its manifest and what one variant in it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dovetail.core.certificate import Certificate
from dovetail.core.measurement import Environment
from dovetail.core.recipe import Recipe
from dovetail.core.sizes import Shapes

SCHEMA_VERSION = 2
READABLE = (1, 2)
"""Schema versions that this one reads; what an older file lacks has a default."""
BASELINE = "baseline"
"""Name of the variant that holds the best baseline's model file, where that is not the original's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One runnable model in an artifact.

    Attributes:
        name: ``fastest``, ``smallest``, ``original``.
        path: model file, relative to the artifact.
        format: ``onnx`` or ``openvino``.
        recipe: how it was made and how it runs.
        certificates: what is proved of it.
        notes: what its passes adjusted; also that it takes only one shape where the original took any.
    """

    name: str
    path: str
    format: str
    recipe: Recipe
    certificates: tuple[Certificate, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``manifest.json``: what is in the folder, where it comes from, and where its numbers hold.

    Attributes:
        baseline: recipe of the best baseline, which speed is claimed against; ``None`` in files of schema 1.
        batch: samples per call.
        call_shapes: of the calls that were timed, equal ones once; empty in files of schema 1.
        values: input → the declared value that every call feeds to it.
    """

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
    baseline: Recipe | None = None
    batch: int = 1
    call_shapes: tuple[Shapes, ...] = ()
    values: Mapping[str, object] = field(default_factory=dict)
