"""Padding of operators that look through a window, as the ONNX standard resolves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from dovetail.train.ops.node import NodeView


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Settings of a window over ``n`` spatial axes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    auto_pad: str
    pads: tuple[int, ...]
    ceil: bool

    @property
    def n(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    def fixed(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Padding before and after each axis where it does not depend on the input's size."""
        if self.auto_pad in ("NOTSET", ""):
            return self.pads[: self.n], self.pads[self.n :]
        if self.auto_pad == "VALID":
            return (0,) * self.n, (0,) * self.n
        total = [(k - 1) * d for k, d in zip(self.kernel, self.dilations, strict=True)]
        if all(s == 1 for s in self.strides):
            return self._halves(total)
        return None

    def padding(self, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Padding before and after each axis of an input with these sizes."""
        fixed = self.fixed()
        if fixed is not None:
            return fixed
        spans = zip(sizes, self.kernel, self.strides, self.dilations, strict=True)
        return self._halves([max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size) for size, k, s, d in spans])

    def _halves(self, total: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        less = tuple(t // 2 for t in total)
        more = tuple(t - t // 2 for t in total)
        return (less, more) if self.auto_pad == "SAME_UPPER" else (more, less)

    def beyond(self, sizes: Sequence[int], before: Sequence[int], after: Sequence[int]) -> tuple[int, ...]:
        """What ``ceil_mode`` adds behind the padding: room for a last window that starts inside input or leading padding."""
        if not self.ceil:
            return (0,) * self.n
        extra = []
        for axis, size in enumerate(sizes):
            padded, stride = size + before[axis] + after[axis], self.strides[axis]
            span = (self.kernel[axis] - 1) * self.dilations[axis] + 1
            last = -(-(padded - span) // stride)
            if last * stride >= size + before[axis]:
                last -= 1
            extra.append(max(0, last * stride + span - padded))
        return tuple(extra)


def windows(node: NodeView, kernel: Sequence[int]) -> Windows:
    """Reads the settings of a node."""
    n = len(kernel)
    return Windows(
        kernel=tuple(kernel),
        strides=tuple(node.get("strides", (1,) * n)),
        dilations=tuple(node.get("dilations", (1,) * n)),
        auto_pad=node.get("auto_pad", "NOTSET"),
        pads=tuple(node.get("pads", (0,) * 2 * n)),
        ceil=bool(node.get("ceil_mode", 0)),
    )


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads the trailing axes with a value."""
    pairs = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return F.pad(x, pairs, value=value) if any(pairs) else x
