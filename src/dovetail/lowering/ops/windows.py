"""Sliding windows: strides, dilations and padding in the runtime's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.core.errors import ModelError
from dovetail.lowering.source import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows over the spatial axes of a value.

    Attributes:
        begin: padding in front of each axis.
        end: padding after it.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def padded(self) -> bool:
        """Whether there is any padding."""
        return any(self.begin) or any(self.end)

    def same(self, sizes: Sequence[int]) -> bool:
        """Whether padding equals that of SAME: as many outputs as strides fit in, the odd element of padding at the end."""
        for size, k, s, d, begin, end in zip(
            sizes, self.kernel, self.strides, self.dilations, self.begin, self.end, strict=True
        ):
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            outputs = (size + begin + end - (k - 1) * d - 1) // s + 1
            # What lies behind the last window is never read, so ``end`` may be larger than SAME's.
            unread = size + begin + end - ((outputs - 1) * s + (k - 1) * d + 1)
            if outputs != -(-size // s) or begin != total // 2 or end - unread != total - total // 2:
                return False
        return True

    def needed_end(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Padding at the end that windows really reach."""
        found = []
        for size, k, s, d, begin, end in zip(
            sizes, self.kernel, self.strides, self.dilations, self.begin, self.end, strict=True
        ):
            outputs = (size + begin + end - (k - 1) * d - 1) // s + 1
            found.append(max(0, (outputs - 1) * s + (k - 1) * d + 1 - size - begin))
        return tuple(found)


def windows(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> Windows:
    """Reads the attributes of a convolution or pooling.

    Args:
        node: the operator.
        sizes: of the spatial axes of its input.
        kernel: window size along each.
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
    return Windows(kernel=tuple(kernel), strides=strides, dilations=dilations, begin=begin, end=end)
