"""Steps on the ONNX graph before it is lowered: what the runtime has as one operator, or as an attribute, becomes that."""

from __future__ import annotations

from dovetail.lowering.rewrite import (
    activations,
    affine,
    attention,
    blocks,
    centred,
    fusing,
    integers,
    normalisation,
    raw,
    scale,
    spectrum,
    tables,
)
from dovetail.lowering.rewrite.terms import (
    ACTIVATION,
    AXES,
    BIAS,
    DYNAMIC,
    EMBEDDING,
    FROM_ZERO,
    activation,
    bounds,
    never_negative,
)
from dovetail.lowering.source import Source

__all__ = [
    "ACTIVATION", "AXES", "BIAS", "DYNAMIC", "EMBEDDING", "FROM_ZERO", "WRITTEN_OUT",
    "activation", "bounds", "never_negative", "rewrite",
]  # fmt: skip

WRITTEN_OUT = frozenset({"Attention", "DFT", "STFT", "DynamicQuantizeLinear", "MatMulInteger"})
"""Operators that the steps replace by others; of the integers of the last two, the form that quantisers write."""
STEPS = (
    fusing.skip_nothing,
    fusing.skip_pad_of_nothing,
    raw.as_reals,
    integers.join_scales,
    centred.centre,
    integers.widen_small,
    integers.unpack_blocks,
    integers.dynamic_products,
    tables.mark,
    attention.write_out,
    spectrum.write_out,
    normalisation.recognise,
    activations.recognise,
    fusing.add_bias,
    scale.into_weights,
    affine.into_weights,
    affine.write_out,
    blocks.order_channels,
    fusing.fuse_bounds,
)
"""In this order: patterns are found before their parts are fused elsewhere."""


def rewrite(source: Source) -> None:
    """All steps, in order; the graph is changed in place."""
    for step in STEPS:
        step(source)
        source.drop_dead()
