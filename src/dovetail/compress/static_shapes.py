"""Fixes every symbolic input size: shape arithmetic is computed once, and runtimes plan memory and kernels in advance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from dovetail.compress import settings
from dovetail.compress.graph import files, simplify
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Model, Pass, PassContext
from dovetail.core.sizes import only_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticShapesConfig:
    """Sizes to fix.

    Attributes:
        batch: size of every symbolic leading dimension.
        dims: ``name=size`` for symbolic dimensions, ``input:axis=size`` for those without a name.
    """

    batch: int = 1
    dims: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settings.require(self.batch >= 1, f"a batch is 1 or more, not {self.batch}", "static_shapes.batch")


class StaticShapes(Pass):
    """Gives every input one shape; the model then takes no other. Names and types of the interface stay."""

    name: ClassVar[str] = "static_shapes"
    lossless: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes the specialised model; parameters as in :class:`StaticShapesConfig`.

        A size comes from ``dims``, else ``batch`` (leading dimensions), else the first calibration sample, else the workload.

        Raises:
            InputError: a parameter is malformed or names a dimension that the model does not have.
            ModelError: a size is unknown, or the graph does not allow it.
        """
        config = settings.read(StaticShapesConfig, ctx.config, self.name)
        graph_model = files.load(model)
        free = [value for value in graph_model.graph.inputs if value.shape is not None and not value.shape.is_static()]
        bind(graph_model, _sizes(graph_model.graph, config, _example_shapes(ctx)))
        if free:
            ctx.note(only_shape({str(value.name): list(value.shape or ()) for value in free}))
        result = files.save(simplify.simplify(graph_model), ctx.workdir)
        _check(result)
        return result


def bind(model: ir.Model, sizes: Mapping[str, int]) -> None:
    """Puts sizes in the place of symbols (keys as in :func:`dimension_key`) and forgets what was inferred before."""
    for value in model.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape(
                [d if isinstance(d, int) else sizes.get(dimension_key(value, i), d) for i, d in enumerate(value.shape)]
            )
    for graph in model.graphs():
        for node in graph:
            for output in node.outputs:
                output.shape = None


def dimension_key(value: ir.Value, axis: int) -> str:
    """The name of a symbolic dimension, or ``input:axis`` where it has none."""
    assert value.shape is not None
    dim = value.shape[axis]
    name = None if isinstance(dim, int) else dim.value
    return str(name) if name else f"{value.name}:{axis}"


def _sizes(graph: ir.Graph, config: StaticShapesConfig, examples: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    symbols: dict[str, list[tuple[ir.Value, int]]] = {}
    for value in graph.inputs:
        if value.shape is None:
            raise ModelError(f"input {value.name!r} has no declared rank", hint="export the model with input shapes")
        for axis, dim in enumerate(value.shape):
            if not isinstance(dim, int):
                symbols.setdefault(dimension_key(value, axis), []).append((value, axis))
    given = _parsed(config.dims, list(symbols))
    sizes: dict[str, int] = {}
    for key, places in symbols.items():
        size = given.get(key, config.batch if any(axis == 0 for _, axis in places) else _example_size(key, places, examples))
        if size is None:
            where = ", ".join(f"axis {axis} of input {value.name!r}" for value, axis in places)
            raise ModelError(f"the size of {key!r} ({where}) is unknown", hint=f"set dims to {key}=SIZE")
        sizes[key] = size
    return sizes


def _parsed(dims: tuple[str, ...], known: list[str]) -> dict[str, int]:
    result: dict[str, int] = {}
    for entry in dims:
        key, _, text = entry.rpartition("=")
        if not key or not text.isdecimal() or int(text) < 1:
            raise InputError(f"{entry!r} is not name=size with a positive size", where="static_shapes.dims")
        if key not in known:
            hint = f"symbolic: {', '.join(known)}" if known else "all of its input sizes are fixed already"
            raise InputError(f"the model has no symbolic dimension {key!r}", where="static_shapes.dims", hint=hint)
        result[key] = int(text)
    return result


def _example_shapes(ctx: PassContext) -> dict[str, tuple[int, ...]]:
    shapes = dict(ctx.workload.input_shapes) if ctx.workload is not None else {}
    if ctx.calibration is not None and len(ctx.calibration):
        shapes |= {name: tuple(array.shape) for name, array in ctx.calibration.sample(0).feeds.items()}
    return shapes


def _example_size(key: str, places: list[tuple[ir.Value, int]], examples: Mapping[str, tuple[int, ...]]) -> int | None:
    shapes = [(examples.get(str(value.name), ()), axis) for value, axis in places]
    found = {shape[axis] for shape, axis in shapes if axis < len(shape)}
    if len(found) > 1:
        raise ModelError(f"the data give {key!r} the sizes {sorted(found)}", hint=f"set dims to {key}=SIZE")
    return found.pop() if found else None


def _check(model: Model) -> None:
    """Infers all shapes strictly: a Reshape that was exported for another size, for instance, is found here."""
    import onnx

    try:
        onnx.shape_inference.infer_shapes_path(str(model.path), str(model.path.with_suffix(".inferred")), strict_mode=True)
    except onnx.shape_inference.InferenceError as exc:
        raise ModelError(f"the graph does not allow these sizes: {exc}", where=str(model.path)) from exc
    finally:
        model.path.with_suffix(".inferred").unlink(missing_ok=True)
