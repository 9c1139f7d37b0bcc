"""Spoken digits as pictures of their spectrum: ``train`` (480 recordings), ``select`` (120) and ``certify`` (300).

Reads ``data/audio/fsdd_900.npz`` of ``$DOVETAIL_SHARED``, or of ``../shared`` beside the repository: 15 takes of each digit by
each of six speakers at 8 kHz (Free Spoken Digit Dataset, CC BY-SA 4.0). What certifies is the data set's own test.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Samples = Iterator[tuple[Array, int]]

CERTIFY, SELECT, TRAIN = range(5), range(5, 7), range(7, 15)
"""Takes of each part."""
RATE_HZ, WINDOW, HOP, BANDS, FRAMES = 8000, 256, 128, 40, 64
"""Windows of 32 ms every 16 ms; mel bands; windows that the network hears, about a second."""
FLOOR = 1e-6
"""Least power, where full scale is 1: what is quieter counts as silence."""


def train() -> Samples:
    """What is trained on."""
    return samples(TRAIN)


def select() -> Samples:
    """What the search selects on."""
    return samples(SELECT)


def certify() -> Samples:
    """What certifies the answer."""
    return samples(CERTIFY)


def samples(takes: Collection[int]) -> Samples:
    """Spectra, float32 ``[1, BANDS, FRAMES]``, with the digit."""
    root = Path(os.environ.get("DOVETAIL_SHARED", Path(__file__).resolve().parent / "../../../shared"))
    with np.load(root / "data" / "audio" / "fsdd_900.npz", allow_pickle=False) as file:
        pcm, offsets, digits, take = (file[key] for key in ("samples", "offsets", "digit", "take"))
    filters = mel_filters()
    for i in np.flatnonzero(np.isin(take, list(takes))):
        yield spectrum(pcm[offsets[i] : offsets[i + 1]].astype(np.float32) / 32768, filters)[None], int(digits[i])


def spectrum(signal: Array, filters: Array) -> Array:
    """Log power per mel band and window, ``[BANDS, FRAMES]``, of mean 0 and deviation 1.

    Silence fills up what is short; what is long is cut.
    """
    wanted = HOP * (FRAMES - 1) + WINDOW
    heard = np.zeros(wanted, np.float32)
    heard[: min(len(signal), wanted)] = signal[:wanted]
    windows = np.lib.stride_tricks.sliding_window_view(heard, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows)) ** 2 / WINDOW
    log = np.log(filters @ power.T + FLOOR)
    return ((log - log.mean()) / log.std()).astype(np.float32)


def mel_filters() -> Array:
    """Triangles ``[BANDS, WINDOW // 2 + 1]``, evenly spaced in mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987)."""
    top = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.arange(WINDOW // 2 + 1) * RATE_HZ / WINDOW
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))
