"""One function per LiteRT operator; the table says which."""

from __future__ import annotations

from collections.abc import Mapping

from dovetail.lowering.raising.folding import Raising
from dovetail.lowering.raising.ops import (
    blocks,
    conversion,
    convolution,
    dense,
    elementwise,
    joining,
    logic,
    movement,
    normalisation,
    padding,
    pooling,
    reduction,
    resizing,
    shapes,
    slicing,
)

TABLE: Mapping[str, Raising] = {
    **blocks.TABLE,
    **conversion.TABLE,
    **convolution.TABLE,
    **dense.TABLE,
    **elementwise.TABLE,
    **joining.TABLE,
    **logic.TABLE,
    **movement.TABLE,
    **normalisation.TABLE,
    **padding.TABLE,
    **pooling.TABLE,
    **reduction.TABLE,
    **resizing.TABLE,
    **shapes.TABLE,
    **slicing.TABLE,
}
