"""Best achieved rate of a matrix product against the data sheet, of 13 accelerators in bf16 and fp8.

Left out: a row without a rate. The share of NVIDIA parts in bf16 is what the model of single products starts from
(:mod:`published.gemm`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.peak_share import peak_shares
from dovetail.predict.spread import conformal
from published.table import Floats, Gate, Predicted, Row, read_csv

FILE = "matmul_mamf.csv"
_SHRINK = 1.0
"""Accelerators without an effect that each vendor and type is taken to have beside its own."""


class PeakShareTable:
    """See :class:`published.table.Table`."""

    name = "matmul_peak_share"
    source = "stas00/ml-engineering compute/accelerator (maximum achievable matmul FLOPS)"
    gates: Sequence[Gate] = ()

    def read(self, folder: Path) -> Sequence[Row]:
        """One row an accelerator and type."""
        return [
            {
                "device": line["accelerator"],
                "vendor": line["accelerator"].split()[0],
                "dtype": line["dtype"],
                "share": float(line["mamf_tflops"]) / float(line["theory_tflops"]),
            }
            for line in read_csv(folder / FILE)
            if line["mamf_tflops"]
        ]

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Share of the peak."""
        return np.array([row["share"] for row in rows])

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By accelerator, in any type."""
        return {"unseen devices": [row["device"] for row in rows]}

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """By vendor."""
        return {name: np.array([row["vendor"] == name for row in rows]) for name in sorted({row["vendor"] for row in rows})}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """None: shares of different peaks do not rank devices."""
        return [""] * len(rows), [""] * len(rows)

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Effects; the interval from accelerators left out one at a time."""
        found, errors = _effects(rows), []
        for name in sorted({row["device"] for row in rows}):
            rest, out = [row for row in rows if row["device"] != name], [row for row in rows if row["device"] == name]
            if rest:
                errors += list(np.log(self.measured(out)) - np.log(self.predict(_effects(rest), out).value))
        spread = conformal(np.array(errors or [0.0]))
        return found | {"spread": [round(spread.low, 4), round(spread.high, 4)]}

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """By :func:`~dovetail.predict.peak_share.peak_shares`."""
        found = peak_shares(parameters, [row["vendor"] for row in rows], [row["dtype"] for row in rows])
        return Predicted(value=found.share, low=found.low, high=found.high)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """One share for all."""
        return {"constant share": np.full(len(rows), float(np.median(self.measured(fitted))))}


def _effects(rows: Sequence[Row]) -> dict[str, Any]:
    """Ridge regression of the logarithm on vendor and type."""
    logs = np.log(np.array([row["share"] for row in rows]))
    vendors, dtypes = (sorted({row[key] for row in rows}) for key in ("vendor", "dtype"))
    flags = np.array([[row["vendor"] == v for v in vendors] + [row["dtype"] == d for d in dtypes] for row in rows], dtype=float)
    design = np.concatenate([np.ones((len(rows), 1)), flags], axis=1)
    penalty = np.diag([1e-6, *[_SHRINK] * flags.shape[1]])
    found = np.linalg.solve(design.T @ design + penalty, design.T @ logs).round(5).tolist()
    return {
        "mean": found[0],
        "vendor": dict(zip(vendors, found[1:], strict=False)),
        "dtype": dict(zip(dtypes, found[1 + len(vendors) :], strict=True)),
        "spread": [1.0, 1.0],
    }


TABLE = PeakShareTable()
