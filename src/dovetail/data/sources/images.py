"""A folder of images: one subfolder per class, or flat without labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.errors import DataError, MissingDependency
from dovetail.core.protocols import Array
from dovetail.data.preprocess import parse_layout
from dovetail.data.request import DataRequest, InputPlan
from dovetail.data.sources.record import Record, Records

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def from_folder(folder: Path, request: DataRequest) -> Records:
    """Lists the images; each is read as uint8 ``[H, W, 3]`` RGB, or ``[H, W, 1]`` for a model with one channel.

    Classes are numbered in the order of ``classes`` where the job gives it, else by sorted folder name.

    Raises:
        DataError: no image in it, or a model with more than one input to feed.
        MissingDependency: Pillow is absent.
    """
    opener = _pillow()
    if len(request.fed) != 1:
        raise DataError(
            f"images feed one input; the model takes {len(request.fed)}",
            where=str(folder),
            hint="give the others a `value` in fit.yaml, or yield samples from a function",
        )
    files = _listed(folder, request.classes)
    if not files:
        raise DataError("there is no image (nor .npy file) in this folder", where=str(folder))
    plan = request.fed[0]
    mode = "L" if _channels(plan) == 1 else "RGB"

    def iterate() -> Iterator[Record]:
        for path, label in files:
            yield Record(feeds={plan.spec.name: _read(opener, path, mode)}, label=label)

    return Records(where=str(folder), iterate=iterate, size=len(files))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency("reading images needs Pillow", hint="pip install 'dovetail[images]'") from error
    return Image


def _images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in _SUFFIXES)


def _listed(folder: Path, classes: tuple[str, ...]) -> list[tuple[Path, int | None]]:
    subfolders = {p.name: _images_in(p) for p in sorted(folder.iterdir()) if p.is_dir()}
    subfolders = {name: files for name, files in subfolders.items() if files}
    flat = _images_in(folder)
    if flat and subfolders:
        raise DataError(
            f"images lie both in the folder ({len(flat)}) and in {len(subfolders)} subfolders",
            where=str(folder),
            hint="use one subfolder per class, or none",
        )
    if flat:
        return [(path, None) for path in flat]
    names = list(classes or subfolders)
    unknown = sorted(set(subfolders) - set(names))
    if unknown:
        raise DataError(f"folder {unknown[0]!r} is not one of the declared classes", where=str(folder))
    return [(path, names.index(name)) for name, files in subfolders.items() for path in files]


def _channels(plan: InputPlan) -> int | None:
    """Channels the model takes: by the layout's ``C``, else the second axis or the last, whichever is 1 or 3."""
    shape = plan.spec.shape[plan.batched :]
    if plan.preprocess.layout:
        target = parse_layout(plan.preprocess.layout)[1]
        size = shape[target.index("C")] if "C" in target and len(target) == len(shape) else None
        return size if isinstance(size, int) else None
    if len(shape) != 3:
        return None
    return next((s for s in (shape[0], shape[-1]) if isinstance(s, int) and s in (1, 3)), None)


def _read(opener: Any, path: Path, mode: str) -> Array:
    try:
        with opener.open(path) as image:
            pixels: Array = np.asarray(image.convert(mode))
    except (OSError, ValueError, SyntaxError, opener.DecompressionBombError) as error:
        raise DataError(f"not a readable image: {error}", where=str(path)) from error
    return pixels[:, :, None] if mode == "L" else pixels
