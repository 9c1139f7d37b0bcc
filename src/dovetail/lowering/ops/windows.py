"""Sliding windows: strides, dilations and padding in the runtime's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.source import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows over the spatial axes of a value.

    Attributes:
        begin: padding in front of each axis.
        end: padding after it.
        outputs: how many windows there are along each axis.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """From the first element of the first window to the last of the last one."""
        rows = zip(self.outputs, self.strides, self.kernel, self.dilations, strict=True)
        return tuple((n - 1) * s + (k - 1) * d + 1 for n, s, k, d in rows)

    def same(self, sizes: Sequence[int]) -> bool:
        """Whether padding equals that of SAME: as many outputs as strides fit in, the odd element of padding at the end."""
        # What lies behind the last window is never read, so ``end`` may be larger than SAME's.
        rows = zip(sizes, self.strides, self.begin, self.outputs, self.reach, strict=True)
        return all(n == -(-size // s) and begin == max(reach - size, 0) // 2 for size, s, begin, n, reach in rows)

    def needed_end(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Padding at the end that windows really reach."""
        rows = zip(sizes, self.begin, self.reach, strict=True)
        return tuple(max(0, reach - size - begin) for size, begin, reach in rows)

    def margins(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Padding that windows reach, for each axis of images stored channels last."""
        return [(0, 0), *zip(self.begin, self.needed_end(sizes), strict=True), (0, 0)]

    def reaches_out(self, sizes: Sequence[int]) -> bool:
        """Whether any window needs padding."""
        return any(self.begin) or any(self.needed_end(sizes))

    def counts(self, axis: int, size: int, counted: bool) -> Array:
        """How many elements each window covers along an axis; those of the padding where they are counted."""
        places = np.arange(self.outputs[axis])[:, None] * self.strides[axis] + np.arange(self.kernel[axis])[None]
        low, high = (0, self.begin[axis] + size + self.end[axis]) if counted else (self.begin[axis], self.begin[axis] + size)
        return np.asarray(((places >= low) & (places < high)).sum(axis=1))

    def along(self, *axes: int) -> Windows:
        """The windows along some of the axes."""
        parts = (self.kernel, self.strides, self.dilations, self.begin, self.end, self.outputs)
        k, s, d, b, e, o = (tuple(part[axis] for axis in axes) for part in parts)
        return Windows(kernel=k, strides=s, dilations=d, begin=b, end=e, outputs=o)

    def flat(self, width: int) -> Windows:
        """The windows with a second axis along which each of them covers one element."""
        return Windows(
            kernel=(*self.kernel, 1), strides=(*self.strides, 1), dilations=(*self.dilations, 1),
            begin=(*self.begin, 0), end=(*self.end, 0), outputs=(*self.outputs, width),
        )  # fmt: skip


def windows(node: Node, sizes: Sequence[int], kernel: Sequence[int], outputs: Sequence[int]) -> Windows:
    """Reads the attributes of a convolution or pooling.

    Args:
        node: the operator.
        sizes: of the spatial axes of its input.
        kernel: window size along each.
        outputs: sizes of the spatial axes of its result.

    Raises:
        ModelError: negative padding, or windows that the padded input does not hold.
    """
    n = len(sizes)
    strides = tuple(node.get("strides") or (1,) * n)
    dilations = tuple(node.get("dilations") or (1,) * n)
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        begin, end = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        begin = end = (0,) * n
    else:
        pads = tuple(node.get("pads") or (0,) * (2 * n))
        begin, end = pads[:n], pads[n:]
    if min((*begin, *end), default=0) < 0:
        raise ModelError(f"{node.op} {node.output!r} crops by negative padding, which the runtime cannot take")
    found = Windows(kernel=tuple(kernel), strides=strides, dilations=dilations, begin=begin, end=end, outputs=tuple(outputs))
    padded = [b + size + e for b, size, e in zip(begin, sizes, end, strict=True)]
    if not node.get("ceil_mode", 0) and any(reach > size for reach, size in zip(found.reach, padded, strict=True)):
        raise ModelError(f"{node.op} {node.output!r} has windows larger than its padded input")
    return found
