"""Declared preprocessing of one input, applied on the host while a split is written.

The order is fixed: resize → layout → to float → ``* scale`` → ``- mean`` → ``/ std`` → dtype. So ``scale: 0.00392157`` with
``mean: [0.485, 0.456, 0.406]`` and ``std: [0.229, 0.224, 0.225]`` is torchvision's ``ToTensor`` and ``Normalize``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail.core.errors import DataError, InputError
from dovetail.core.protocols import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """What is done to one sample (without its batch axis) before it is fed.

    Attributes:
        resize: target height and width in pixels.
        layout: axis letters before and after, ``NHWC->NCHW``; ``N`` may be left out on both sides, a letter that is new on the
            right is an axis of 1 (``HW->CHW``).
        scale: factor.
        mean: subtracted after scaling; one number, or one per channel.
        std: divided by at last; one number, or one per channel.
        dtype: numpy name of the result; the model's own when empty.
    """

    resize: tuple[int, int] | None = None
    layout: str = ""
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    dtype: str = ""

    def __post_init__(self) -> None:
        if self.resize is not None and min(self.resize) < 1:
            raise InputError(f"a size in pixels is 1 or more, not {list(self.resize)}", where="resize")
        if self.layout:
            parse_layout(self.layout)
        if any(s == 0 or not np.isfinite(s) for s in self.std):
            raise InputError(f"a standard deviation is finite and not zero; std is {list(self.std)}", where="std")
        numbers = (*self.mean, *(() if self.scale is None else (self.scale,)))
        if not np.isfinite(numbers).all():
            raise InputError("scale and mean are finite numbers", where="scale")

    @property
    def arithmetic(self) -> bool:
        """Whether it computes, so that integers become floats by intent."""
        return self.scale is not None or bool(self.mean) or bool(self.std)

    @property
    def raw_rank(self) -> int | None:
        """Rank of a raw sample without its batch axis, where the layout tells."""
        return len(parse_layout(self.layout)[0]) if self.layout else None

    def apply(self, x: Array) -> Array:
        """Transforms one sample without its batch axis.

        Raises:
            DataError: the sample has another rank than the layout, or channels do not match ``mean`` or ``std``.
        """
        source, target = parse_layout(self.layout) if self.layout else ("", "")
        if source and x.ndim != len(source):
            raise DataError(f"layout {self.layout} takes {len(source)} axes besides the batch; the sample is {list(x.shape)}")
        if self.resize is not None:
            x = resize_bilinear(x, self.resize, source or _image_axes(x))
        if source:
            x = _relayout(x, source, target)
        if self.arithmetic:
            x = x.astype(np.float32)
            if self.scale is not None:
                x = x * np.float32(self.scale)
            if self.mean:
                x = x - _per_channel(self.mean, x, target, "mean")
            if self.std:
                x = x / _per_channel(self.std, x, target, "std")
        return x.astype(self.dtype) if self.dtype else x


def parse_layout(layout: str) -> tuple[str, str]:
    """``NHWC->NCHW`` → ``("HWC", "CHW")``: axis letters before and after, without the batch.

    Raises:
        InputError: not two lists of distinct letters, or an axis that the target lacks.
    """
    source, arrow, target = layout.replace(" ", "").upper().partition("->")
    source, target = source.replace("N", ""), target.replace("N", "")
    valid = bool(arrow) and source.isalpha() and target.isalpha()
    if not valid or len(set(source)) != len(source) or len(set(target)) != len(target) or set(source) - set(target):
        raise InputError(
            f"{layout!r} is not a layout",
            where="layout",
            hint="write axis letters before and after, like NHWC->NCHW or HW->CHW",
        )
    return source, target


def _relayout(x: Array, source: str, target: str) -> Array:
    kept = [source.index(letter) for letter in target if letter in source]
    x = x.transpose(kept)
    for axis, letter in enumerate(target):
        if letter not in source:
            x = np.expand_dims(x, axis)
    return np.ascontiguousarray(x)


def _per_channel(values: tuple[float, ...], x: Array, layout: str, what: str) -> Array:
    """Values shaped to broadcast over the channel axis: the layout's ``C``, else the first or last axis of that length."""
    array = np.asarray(values, dtype=np.float32)
    if len(values) == 1:
        return array
    axes = [layout.index("C")] if "C" in layout else [0, x.ndim - 1]
    for axis in axes:
        if x.ndim and x.shape[axis] == len(values):
            shape = [1] * x.ndim
            shape[axis] = len(values)
            return array.reshape(shape)
    raise DataError(f"{what} has {len(values)} values; no channel axis of the sample {list(x.shape)} has that length")


def _image_axes(x: Array) -> str:
    if x.ndim not in (2, 3):
        raise DataError(f"resize takes an image [H, W] or [H, W, C]; the sample is {list(x.shape)}", hint="declare `layout`")
    return "HWC"[: x.ndim]


def resize_bilinear(x: Array, size: tuple[int, int], axes: str) -> Array:
    """Resizes the axes ``H`` and ``W`` with a triangle filter that widens when shrinking (anti-aliased).

    The convention is half-pixel centres and a support scaled by the reduction, as Pillow's ``BILINEAR`` has; integer types are
    rounded back to themselves.

    Raises:
        DataError: ``axes`` names no height and width.
    """
    if "H" not in axes or "W" not in axes:
        raise DataError(f"resize needs the axes H and W; the layout says {axes}")
    if (x.shape[axes.index("H")], x.shape[axes.index("W")]) == size:
        return x
    y = x.astype(np.float32)
    for letter, length in zip("HW", size, strict=True):
        axis = axes.index(letter)
        weights = _triangle_weights(x.shape[axis], length)
        y = np.moveaxis(np.tensordot(weights, y, axes=(1, axis)), 0, axis)
    if x.dtype.kind in "iu":
        y = np.rint(y).clip(np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return y.astype(x.dtype)


def _triangle_weights(n_in: int, n_out: int) -> Array:
    """``[n_out, n_in]`` rows that sum to 1."""
    step = n_in / n_out
    support = max(step, 1.0)
    centres = (np.arange(n_out) + 0.5) * step
    distance = np.abs(np.arange(n_in)[None, :] + 0.5 - centres[:, None]) / support
    weights = np.maximum(0.0, 1.0 - distance)
    scaled: Array = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return scaled
