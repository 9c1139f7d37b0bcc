"""Local response normalisation."""

from __future__ import annotations

from dovetail.core.errors import ModelError
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.types import operand
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import channels_last


def local_response_normalization(em: Emitter, node: Node) -> None:
    """LRN over an odd number of channels.

    Raises:
        ModelError: an even number, which the runtime's symmetric window cannot be.
    """
    size = node.get("size")
    if size % 2 == 0:
        raise ModelError(f"LRN {node.output!r} sums over {size} channels; the runtime takes odd numbers")
    x = operand(em, node)
    if x.rank != 4:
        raise ModelError(f"LRN {node.output!r} has rank {x.rank}; the runtime takes 4")
    order = channels_last(4)
    em.emit(
        "LOCAL_RESPONSE_NORMALIZATION", [em.ordered(x, order)], [em.result(node.output, order)],
        "LocalResponseNormalizationOptions", radius=size // 2, bias=node.get("bias", 1.0),
        alpha=node.get("alpha", 1e-4) / size, beta=node.get("beta", 0.75),
    )  # fmt: skip


TABLE = {"LRN": local_response_normalization}
