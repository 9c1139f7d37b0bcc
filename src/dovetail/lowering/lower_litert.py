"""The pass that writes a model for LiteRT, checked against ONNX Runtime before anybody times it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Feeds, Model, Pass, PassContext

if TYPE_CHECKING:
    from dovetail.lowering.check import Difference

FORMAT = "litert"
FLOAT_TOLERANCE = 1e-4
"""Greatest difference of a float model's outputs, relative to the greatest output."""
FLOAT_UNEQUAL = 0.001
"""Greatest share of its integers that may differ: positions of the greatest number where two are nearly equal, for instance."""
QUANTISED_TOLERANCE = QUANTISED_UNEQUAL = 0.05
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
        for feeds in examples(model.path, report.inputs, ctx.calibration, ctx.seed):
            _require_equal(model.path, out, feeds, report.quantised)
        for note in report.notes:
            ctx.note(note)
        ctx.progress(1.0, "lowered")
        return Model(path=out, format=FORMAT)


def _require_equal(path: Path, lowered: Path, feeds: Feeds, quantised: bool) -> None:
    from dovetail.lowering.check import differences, own_differences

    own: dict[str, Difference] = {}
    for found in differences(path, lowered, feeds):
        refusal = _refusal(found, quantised)
        if refusal and quantised:
            own = own or {difference.output: difference for difference in own_differences(path, lowered, feeds)}
            refusal = _refusal(found, quantised, own[found.output])
        if refusal:
            raise ModelError(f"output {found.output!r} {refusal}")


def _refusal(found: Difference, quantised: bool, own: Difference | None = None) -> str:
    """Why an output is not equal enough; empty where it is.

    ``own`` is how far ONNX Runtime lies from itself there.
    """
    tolerance, share = (QUANTISED_TOLERANCE, QUANTISED_UNEQUAL) if quantised else (FLOAT_TOLERANCE, FLOAT_UNEQUAL)
    if own is not None:
        tolerance = max(tolerance, min(SPREAD_FACTOR * own.relative, WIDEST_TOLERANCE))
        share = max(share, min(SPREAD_FACTOR * (own.unequal or 0.0), WIDEST_TOLERANCE))
    if found.unequal is not None:
        near = found.unequal <= share or (found.narrow and found.relative <= tolerance)
        return "" if near else f"differs from ONNX Runtime's in {found.unequal:.2%} of its elements; {share:.2%} is permitted"
    if found.relative == math.inf:
        return "is finite nowhere, or in other places than ONNX Runtime's, which leaves nothing to compare"
    if not found.relative <= tolerance:
        return f"differs from ONNX Runtime's by {found.relative:.2g} of its greatest value; {tolerance:.2g} is permitted"
    if not quantised and not found.sliced <= tolerance:  # integers are rounded alike wherever they share a scale
        size = "of the greatest value of one of its slices"
        return f"differs from ONNX Runtime's by {found.sliced:.2g} {size}; {tolerance:.2g} is permitted"
    return ""


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
