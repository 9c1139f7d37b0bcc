"""Matrix products as a library runs them: cut into tiles, dealt out to the multiprocessors in waves.

A product ``[m, n]`` is cut into tiles of one of a few shapes, and its sum over ``k`` into slices where tiles are few (split-K).
The tiles go to the multiprocessors in rounds; a last round that is not full costs as much as a full one (wave quantisation:
NVIDIA, *Matrix Multiplication Background User's Guide*, sections 4 and 5). Each choice has a time; the library is taken to
choose nearly the best, so the answer is a soft minimum over all choices. All parameters are shares of the data sheet or
seconds that hardly differ between GPUs, so that they carry over to GPUs that were never measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.gemm.shapes import Gemms, Gpus

Floats = NDArray[np.float64]

SHAPES = ((256, 128), (128, 256), (128, 128), (256, 64), (64, 256), (128, 64), (64, 128), (64, 64))
SLICES = (1, 2, 3, 4, 6, 8)
_ROWS, _COLUMNS, _SLICED = np.array([(a, b, s) for a, b in SHAPES for s in SLICES], dtype=np.float64).T
_AREA = np.log2(_ROWS * _COLUMNS / 4096).astype(int)
_STEP = 32.0
"""Elements of ``k`` that a multiprocessor takes at a time."""
_SOFTNESS = 0.04
"""Width of the soft minimum, in natural logarithms: choices that lie this close are as good as equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileModel:
    """Parameters; each is a logarithm, or the logit of a share, so that all values are allowed.

    Attributes:
        share_64: logit of the share of the reachable peak inside a tile of 64·64 elements; ``share_128`` of twice as many, and
            so on.
        fill: ln of elements of ``k`` that starting and ending a tile costs.
        waves: logit of how far a wave that is not full is paid for; ``blur`` ln of how fast that fades over many waves.
        stream: logit of the share of memory bandwidth.
        cache: ln of the cache's bandwidth over the memory's.
        launch: ln of microseconds of any product.
        gather: ln of microseconds that summing up slices takes; ``gather_rate`` ln of its bandwidth over the memory's.
        overlap: ln of the exponent less 1 with which arithmetic and traffic add up: 1 adds, a great one takes the longer.
    """

    share_64: float
    share_128: float
    share_256: float
    share_512: float
    fill: float
    waves: float
    blur: float
    stream: float
    cache: float
    launch: float
    gather: float
    gather_rate: float
    overlap: float

    @classmethod
    def of_vector(cls, vector: Floats) -> TileModel:
        """From the parameters in the order of the fields."""
        return cls(**{item.name: float(value) for item, value in zip(fields(cls), vector, strict=True)})

    @classmethod
    def of_json(cls, values: Mapping[str, float]) -> TileModel:
        """From what :meth:`to_json` wrote."""
        return cls(**{item.name: float(values[item.name]) for item in fields(cls)})

    def to_json(self) -> dict[str, float]:
        """Name → value."""
        return {item.name: round(getattr(self, item.name), 5) for item in fields(self)}

    def log_seconds(self, gemms: Gemms, gpus: Gpus) -> Floats:
        """``[n]`` natural logarithm of the seconds."""
        choices = np.log(self._seconds(gemms, gpus))
        best = choices.min(axis=1)
        spread = np.exp((best[:, None] - choices) / _SOFTNESS).sum(axis=1)
        return np.asarray(best - _SOFTNESS * np.log(spread))

    def _seconds(self, gemms: Gemms, gpus: Gpus) -> Floats:
        """``[n, choices]``."""
        m, n, k = gemms.m[:, None], gemms.n[:, None], gemms.k[:, None]
        bandwidth = gpus.bandwidth_bytes_per_s[:, None]
        tiles = np.ceil(m / _ROWS) * np.ceil(n / _COLUMNS) * _SLICED
        depth = np.ceil(k / _SLICED / _STEP) * _STEP
        arithmetic = self._arithmetic(tiles, depth, gpus)
        memory = gemms.bytes[:, None] / (bandwidth * _share(self.stream))
        cache = gemms.element_bytes * tiles * (_ROWS + _COLUMNS) * depth / (bandwidth * np.exp(self.cache))
        power = 1 + np.exp(self.overlap)
        together = memory * (1 + (arithmetic / memory) ** power + (cache / memory) ** power) ** (1 / power)
        gathered = np.exp(self.gather) * 1e-6 + 8 * m * n * _SLICED / (bandwidth * np.exp(self.gather_rate))
        return np.asarray(together + (_SLICED > 1) * gathered + np.exp(self.launch) * 1e-6)

    def _arithmetic(self, tiles: Floats, depth: Floats, gpus: Gpus) -> Floats:
        count = gpus.processors[:, None]
        waves = tiles / count
        paid = _share(self.waves) * np.exp(-0.1 * np.exp(self.blur) * np.maximum(waves - 1, 0))
        rounds = paid * np.ceil(waves) + (1 - paid) * np.maximum(waves, 1)
        shares = np.array([_share(getattr(self, f"share_{size}")) for size in (64, 128, 256, 512)])
        rate = (gpus.peak_flop_per_s * gpus.reached)[:, None] / count * shares[_AREA]
        return np.asarray(rounds * 2 * _ROWS * _COLUMNS * (depth + np.exp(self.fill)) / rate)


def _share(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))
