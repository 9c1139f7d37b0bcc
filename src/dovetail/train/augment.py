"""Image augmentation of whole batches, in the value range that the model's input has.

What is black, and where values are clipped, is told by :class:`Ranges`, measured per channel on the training samples: a
normalised image has neither 0 nor 255. All random numbers come from the seed, the epoch and the number of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from dovetail.core.errors import InputError
from dovetail.core.protocols import Array, Dataset

_LOOK = 512
"""Samples that ranges are measured on."""
_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is done to the images of a batch; a share is the probability per image, of ``mixup`` and ``cutmix`` per batch.

    Attributes:
        crop: largest shift, as a share of height and width; what enters is black.
        flip: mirror half of the images from left to right.
        turn: largest rotation in degrees. zoom: largest change of scale, as a share. turned: share.
        brightness, contrast, saturation: largest change of each, as a share. jittered: share.
        erased: share of images in which a box of 2 % to 20 % of the area takes one random colour (Zhong 2020).
        mixup: share of batches whose images are blended with another of the batch (Zhang 2018).
        cutmix: share of batches whose images take a box from another of the batch (Yun 2019).
        alpha: of the Beta distribution that both draw the share of the other image from.
    """

    crop: float = 0.125
    flip: bool = True
    turn: float = 0.0
    zoom: float = 0.0
    turned: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    jittered: float = 0.0
    erased: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    alpha: float = 1.0


_STRONG: Mapping[str, Any] = {
    "turn": 15.0, "zoom": 0.15, "turned": 0.5,
    "brightness": 0.3, "contrast": 0.3, "saturation": 0.4, "jittered": 0.8,
    "erased": 0.3, "mixup": 0.3, "cutmix": 0.4,
}  # fmt: skip
RECIPES: Mapping[str, Recipe | None] = {
    "none": None,
    "shifts": Recipe(flip=False),
    "images": Recipe(),
    "strong_shifts": Recipe(flip=False, **_STRONG),
    "strong_images": Recipe(**_STRONG),
}
"""By name. ``images`` mirrors them; ``shifts`` does not, for digits, text and spectra."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Values per channel, ``[C]``: ``low`` is black, ``high`` white."""

    low: Array
    high: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Whose label each sample partly has.

    Attributes:
        partner: ``[B]`` int64, place in the batch.
        share: ``[B]`` float32, weight of the sample's own label; the partner's has the rest.
    """

    partner: Any
    share: Any


def image_input(dataset: Dataset, *, wanted: str) -> tuple[str, str]:
    """Name and layout (``NCHW`` or ``NHWC``) of the input that holds images: four axes, 1, 3 or 4 channels.

    Raises:
        InputError: no input or several do.
    """
    found = []
    for name, feed in dataset.sample(0).feeds.items():
        if feed.ndim == 4 and feed.dtype.kind in "fui":
            found += [(name, layout) for layout, axis in (("NCHW", 1), ("NHWC", 3)) if feed.shape[axis] in (1, 3, 4)][:1]
    if len(found) != 1:
        what = "no input holds" if not found else f"{len(found)} inputs could hold"
        raise InputError(f"augment: {wanted} needs images; {what} images of 1, 3 or 4 channels", where="training")
    return found[0]


def measure_ranges(dataset: Dataset, indices: Array, name: str, layout: str) -> Ranges:
    """Extremes of each channel over up to 512 samples, evenly spread: among so many pixels some are black, and some white."""
    others = tuple(axis for axis, letter in enumerate(layout) if letter != "C")
    chosen = indices[np.linspace(0, len(indices) - 1, min(_LOOK, len(indices))).astype(int)]
    images = (dataset.sample(int(index)).feeds[name].astype(np.float32) for index in chosen)
    extremes = [(image.min(axis=others), image.max(axis=others)) for image in images]
    return Ranges(low=np.min([low for low, _ in extremes], axis=0), high=np.max([high for _, high in extremes], axis=0))


class Augment:
    """Changes batches of images.

    Args:
        recipe: what is done.
        ranges: of the images' values.
        input: name of the input that holds them.
        layout: ``NCHW`` or ``NHWC``.
        seed: of all random numbers.
    """

    def __init__(self, recipe: Recipe, ranges: Ranges, *, input: str, layout: str = "NCHW", seed: int = 0) -> None:
        self.input, self._recipe, self._layout, self._seed = input, recipe, layout, seed
        shape = (1, -1, 1, 1)
        self._low = torch.tensor(ranges.low, dtype=torch.float32).reshape(shape)
        span = np.where(ranges.high > ranges.low, ranges.high - ranges.low, 1.0)
        self._span = torch.tensor(span, dtype=torch.float32).reshape(shape)
        channels = self._low.numel()
        luma = _LUMA if channels == 3 else (1 / channels,) * channels
        self._luma = torch.tensor(luma, dtype=torch.float32).reshape(shape)

    @property
    def mixes(self) -> bool:
        """Whether images may become mixtures."""
        return bool(self._recipe.mixup or self._recipe.cutmix)

    def __call__(self, images: Any, key: tuple[int, int]) -> tuple[Any, Mix | None]:
        """Changed images of the same shape and type, and who was mixed with whom.

        Args:
            images: ``[B, C, H, W]`` or ``[B, H, W, C]`` by the layout.
            key: epoch and number of the batch.
        """
        rng = np.random.default_rng((self._seed, 3, *key))
        x_NCHW = images if self._layout == "NCHW" else images.permute(0, 3, 1, 2)
        changed, mix = self._changed(x_NCHW, rng)
        return (changed if self._layout == "NCHW" else changed.permute(0, 2, 3, 1)), mix

    def _changed(self, x_NCHW: Any, rng: np.random.Generator) -> tuple[Any, Mix | None]:
        recipe = self._recipe
        if not (recipe.turned or recipe.jittered or recipe.erased or recipe.mixup or recipe.cutmix):
            return shifted(x_NCHW, self._low.to(x_NCHW.dtype), recipe, rng), None
        u = (x_NCHW.float() - self._low) / self._span  # 0 is black, 1 white
        u = moved(u, recipe, rng) if recipe.turned else shifted(u, torch.zeros_like(self._low), recipe, rng)
        if recipe.jittered:
            u = jittered(u, self._luma, recipe, rng)
        if recipe.erased:
            u = erased(u, recipe.erased, rng)
        u, mix = mixed(u, recipe, rng)
        x = u.mul_(self._span).add_(self._low)
        return (x if x_NCHW.is_floating_point() else x.round_()).to(x_NCHW.dtype), mix


def shifted(x_NCHW: Any, black: Any, recipe: Recipe, rng: np.random.Generator) -> Any:
    """Random crops of the padded images, mirrored or not, by one look-up of rows and columns; ``channels_last`` in memory."""
    n, _, h, w = x_NCHW.shape
    rise, side = round(recipe.crop * h), round(recipe.crop * w)
    rows = torch.from_numpy(rng.integers(0, 2 * rise + 1, (n, 1))) + torch.arange(h)
    columns = torch.from_numpy(rng.integers(0, 2 * side + 1, (n, 1))) + torch.arange(w)
    if recipe.flip:
        columns = torch.where(torch.from_numpy(rng.random((n, 1)) < 0.5), columns.flip(1), columns)
    padded = black.permute(0, 2, 3, 1).repeat(n, h + 2 * rise, w + 2 * side, 1)
    padded[:, rise : rise + h, side : side + w] = x_NCHW.permute(0, 2, 3, 1)
    picked = padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def moved(u_NCHW: Any, recipe: Recipe, rng: np.random.Generator) -> Any:
    """Shift by whole pixels, mirror, rotation and zoom in one bilinear look-up; outside the image is black (0)."""
    n, _, h, w = u_NCHW.shape
    turned = rng.random(n) < recipe.turned
    angle = np.where(turned, rng.uniform(-recipe.turn, recipe.turn, n), 0.0) * (math.pi / 180)
    scale = np.where(turned, rng.uniform(1 - recipe.zoom, 1 + recipe.zoom, n), 1.0)
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0) if recipe.flip else np.ones(n)
    rise, side = round(recipe.crop * h), round(recipe.crop * w)
    down, right = rng.integers(-rise, rise + 1, n), rng.integers(-side, side + 1, n)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # Coordinates run from -1 to 1 on both axes, so that a rotation of an image that is not square is scaled by its sides.
    theta = np.stack(
        [
            np.stack([mirror * cos, -mirror * sin * (h / w), 2 * right / w], axis=1),
            np.stack([sin * (w / h), cos, 2 * down / h], axis=1),
        ],
        axis=1,
    )
    grid = functional.affine_grid(torch.tensor(theta, dtype=torch.float32), list(u_NCHW.shape), align_corners=False)
    return functional.grid_sample(u_NCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def jittered(u_NCHW: Any, luma: Any, recipe: Recipe, rng: np.random.Generator) -> Any:
    """Brightness, contrast and saturation of a share of the images: ``u·b``, ``m + (u - m)·c``, ``g + (u - g)·s``, clipped.

    ``m`` is the image's mean brightness, ``g`` each pixel's.
    """
    n, channels = u_NCHW.shape[:2]
    chosen = rng.random(n) < recipe.jittered

    def drawn(most: float) -> Any:
        values = np.where(chosen, rng.uniform(1 - most, 1 + most, n), 1.0)
        return torch.tensor(values, dtype=torch.float32).reshape(n, 1, 1, 1)

    bright, contrast, saturation = drawn(recipe.brightness), drawn(recipe.contrast), drawn(recipe.saturation)
    mean = (u_NCHW.mean(dim=(2, 3), keepdim=True) * luma).sum(dim=1, keepdim=True) * bright
    u = torch.addcmul(mean * (1 - contrast), u_NCHW, bright * contrast)
    if channels == 3:
        grey = (u * luma).sum(dim=1, keepdim=True)
        u = torch.lerp(grey.expand_as(u), u, saturation)
    return u.clamp_(0, 1)


def erased(u_NCHW: Any, share: float, rng: np.random.Generator) -> Any:
    """A box of one random colour in a share of the images."""
    n, channels, h, w = u_NCHW.shape
    area = np.where(rng.random(n) < share, rng.uniform(0.02, 0.2, n), 0.0)
    inside = _boxes(area, np.exp(rng.uniform(-1, 1, n)), h, w, rng)
    colour = torch.tensor(rng.random((n, channels, 1, 1)), dtype=torch.float32)
    return torch.where(inside, colour, u_NCHW)


def mixed(u_NCHW: Any, recipe: Recipe, rng: np.random.Generator) -> tuple[Any, Mix | None]:
    """Mixup or cutmix of the whole batch, or neither."""
    n, _, h, w = u_NCHW.shape
    kind = rng.random()
    if kind >= recipe.mixup + recipe.cutmix or n < 2:
        return u_NCHW, None
    partner = torch.from_numpy(rng.permutation(n))
    other = rng.beta(recipe.alpha, recipe.alpha, n)
    if kind < recipe.mixup:
        share = torch.tensor(1 - other, dtype=torch.float32)
        return torch.lerp(u_NCHW[partner], u_NCHW, share.reshape(n, 1, 1, 1)), Mix(partner=partner, share=share)
    inside = _boxes(other, np.ones(n), h, w, rng)
    share = 1 - inside.float().mean(dim=(1, 2, 3))
    return torch.where(inside, u_NCHW[partner], u_NCHW), Mix(partner=partner, share=share)


def _boxes(area: Array, aspect: Array, h: int, w: int, rng: np.random.Generator) -> Any:
    """``[N, 1, H, W]`` booleans: a box of each area (a share of the image) and aspect, anywhere its centre fits."""
    tall, wide = np.sqrt(area * aspect) * h, np.sqrt(area / aspect) * w
    top, left = rng.uniform(0, 1, len(area)) * h - tall / 2, rng.uniform(0, 1, len(area)) * w - wide / 2

    def within(start: Array, length: Array, size: int) -> Any:
        first, last = torch.tensor(np.rint(start))[:, None], torch.tensor(np.rint(start + length))[:, None]
        places = torch.arange(size)
        return (places >= first) & (places < last)

    return (within(top, tall, h)[:, :, None] & within(left, wide, w)[:, None, :])[:, None]
