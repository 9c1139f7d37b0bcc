"""Share of its data sheet's peak that an accelerator reaches in the best of all matrix products.

A logarithmic mean with effects of the vendor and of the data type, each shrunk towards none where few accelerators tell; fitted
by ``benchmarks/published/matmul_peak_share.py`` to the best achieved rates of stas00/ml-engineering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakShares:
    """Of ``n`` accelerators: the share and the ends of its 90 % interval, each ``[n]``, at most 1."""

    share: Floats
    low: Floats
    high: Floats


def peak_shares(parameters: Mapping[str, Any], vendors: Sequence[str], dtypes: Sequence[str]) -> PeakShares:
    """Of accelerators by vendor and type of the operands; a vendor or type that was not fitted counts as the mean one.

    Args:
        parameters: ``mean``, ``vendor`` and ``dtype`` effects in natural logarithms, ``spread`` factors.
        vendors: ``NVIDIA``, ``AMD``, ``Intel``, …
        dtypes: of :data:`dovetail.core.device.DTYPES`.
    """
    by_vendor, by_dtype = parameters["vendor"], parameters["dtype"]
    logs = [
        parameters["mean"] + by_vendor.get(vendor, 0.0) + by_dtype.get(dtype, 0.0)
        for vendor, dtype in zip(vendors, dtypes, strict=True)
    ]
    share = np.minimum(np.exp(np.array(logs, dtype=np.float64)), 1.0)
    low, high = parameters["spread"]
    return PeakShares(share=share, low=share * low, high=np.minimum(share * high, 1.0))
