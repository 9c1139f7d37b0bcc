"""The pass that writes a model for LiteRT, checked against ONNX Runtime before anybody times it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Feeds, Model, Pass, PassContext

FORMAT = "litert"
FLOAT_TOLERANCE = 1e-4
"""Greatest difference of a float model's outputs, relative to the greatest output."""
QUANTISED_TOLERANCE = 0.05
"""The same for a quantised one: its kernels round in another way, and roundings add up from layer to layer. What that means for
quality is measured on data; beyond this it is an error of the lowering, unless ONNX Runtime's own kernels lie as far apart."""
SPREAD_FACTOR = 2.0
"""Times the difference between ONNX Runtime with and without fused kernels that a deep quantised model may lie from it."""
WIDEST_TOLERANCE = 0.5


class LowerLitert(Pass):
    """ONNX to LiteRT: channels last, static shapes, quantisation as types of tensors.

    ``dims`` (``name=size``, ``input:axis=size``) fixes symbolic sizes; leading ones not named become 1.
    """

    name: ClassVar[str] = "lower_litert"

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.tflite``.

        Raises:
            InputError: a parameter is wrong.
            ModelError: operators that LiteRT has no form for, or outputs that differ from ONNX Runtime's.
        """
        from dovetail.lowering.check import examples
        from dovetail.lowering.lower import lower

        unknown = sorted(set(ctx.config) - {"dims"})
        if unknown:
            raise InputError(f"unknown key {', '.join(map(repr, unknown))}", where=self.name, hint="known: dims")
        dims = read_dims(ctx.config.get("dims", ()))
        out = ctx.workdir / "model.tflite"
        report = lower(model.path, out, dims)
        ctx.progress(0.6, "comparing with ONNX Runtime")
        for feeds in examples(report.inputs, ctx.calibration, ctx.seed):
            _require_equal(model.path, out, feeds, report.quantised)
        for note in report.notes:
            ctx.note(note)
        ctx.progress(1.0, "lowered")
        return Model(path=out, format=FORMAT)


def _require_equal(path: Path, lowered: Path, feeds: Feeds, quantised: bool) -> None:
    from dovetail.lowering.check import compare, own_spread

    found = compare(path, lowered, feeds)
    tolerance = QUANTISED_TOLERANCE if quantised else FLOAT_TOLERANCE
    if quantised and not found.relative <= tolerance:
        tolerance = max(tolerance, min(SPREAD_FACTOR * own_spread(path, lowered, feeds), WIDEST_TOLERANCE))
    if not found.relative <= tolerance:
        raise ModelError(
            f"output {found.output!r} differs from ONNX Runtime's by {found.relative:.2g} of its greatest value;"
            f" {tolerance:.2g} is permitted"
        )


def read_dims(given: object) -> Mapping[str, int]:
    """``("batch=1", "x:2=16")`` as a mapping.

    Raises:
        InputError: not of that form.
    """
    if not isinstance(given, list | tuple):
        raise InputError(f"{given!r} is not a list of name=size", where="lower_litert.dims")
    sizes = {}
    for entry in given:
        key, _, text = str(entry).rpartition("=")
        if not key or not text.isdecimal() or int(text) < 1:
            raise InputError(f"{entry!r} is not name=size with a positive size", where="lower_litert.dims")
        sizes[key] = int(text)
    return sizes
