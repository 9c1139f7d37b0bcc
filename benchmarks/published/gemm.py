"""Matrix products of transformers in 16-bit floats on A100 and H100, as vidur profiled them: batches of 1 to 32,768 tokens.

Medians are whole or half microseconds, so the shortest products (7 µs) are known to about 7 %. The same product profiled twice
differs by 3 % (median of pairs 2.3 %), on machines of the same type: no prediction can do better.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.devices.catalogue import device
from dovetail.predict.fitted_file import parameters
from dovetail.predict.gemm.model import FITTED, NEW, GemmModel
from dovetail.predict.gemm.processors import processors
from dovetail.predict.gemm.shapes import Gemms, Gpus
from dovetail.predict.peak_share import peak_shares
from dovetail.predict.spread import conformal
from published.gemm_fit import fit_tiles, fit_trees
from published.table import Floats, Gate, Predicted, Row, folds, read_csv

FILE = "kernel_vidur_gemm.csv"

DEVICES = {"a100": "A100 SXM 80GB", "h100": "H100 SXM 80GB", "a40": "A40"}
"""Of vidur: what the catalogue calls them."""
_ROLES = {"attn_pre_proj": "qkv", "attn_post_proj": "out", "mlp_up_proj": "up", "mlp_down_proj": "down"}
_INNER = 2
"""Folds that the errors behind the intervals come from."""
_NEW_SPREAD = (0.78, 1.25)
"""Where only one device was fitted, nothing tells how devices differ; assumed."""


class GemmTable:
    """See :class:`published.table.Table`."""

    name = "gemm"
    source = "microsoft/vidur data/profiling/compute"
    gates: Sequence[Gate] = (
        Gate(split="unseen models", statistic="mean", limit=0.05),
        Gate(split="unseen devices", statistic="mean", limit=0.15),
    )

    def read(self, folder: Path) -> Sequence[Row]:
        """One row a product; none is left out."""
        facts = {}
        for short, name in DEVICES.items():
            found = device(name)
            assert found.bandwidth_bytes_per_s is not None
            facts[short] = (name, found.peak_flop_per_s["bf16"].value, found.bandwidth_bytes_per_s.value, processors(found))
        rows: list[Row] = []
        for line in read_csv(folder / FILE):
            name, peak, bandwidth, count = facts[line["device"]]
            rows.append({
                "device": name, "peak": peak, "bandwidth": bandwidth, "processors": count, "model": line["model"],
                "role": _ROLES.get(line["op"], ""), "m": float(line["M"]), "n": float(line["N"]), "k": float(line["K"]),
                "seconds": float(line["median_ms"]) / 1e3,
            })  # fmt: skip
        return rows

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Seconds."""
        return _column(rows, "seconds")

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By model, by shape of the weights, by device."""
        return {
            "unseen models": [row["model"] for row in rows],
            "unseen shapes": [(row["n"], row["k"]) for row in rows],
            "unseen devices": [row["device"] for row in rows],
        }

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """By device, and by tokens."""
        m = _column(rows, "m")
        by_device = {name: np.array([row["device"] == name for row in rows]) for name in sorted({row["device"] for row in rows})}
        return by_device | {"at most 128 tokens": m <= 128, "129 to 1024 tokens": (m > 128) & (m <= 1024), "more": m > 1024}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """GPUs, within one product."""
        return [row["device"] for row in rows], [(row["m"], row["n"], row["k"]) for row in rows]

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Tiles, then trees; intervals from models left out of the trees, and from devices left out of both."""
        usable = float(peak_shares(parameters("matmul_peak_share"), ["NVIDIA"], ["bf16"]).share[0])
        log_s = np.log(self.measured(rows))
        names = sorted({row["device"] for row in rows})
        point = _point(rows, usable, log_s)
        fold, errors = folds([row["model"] for row in rows], _INNER), np.zeros(len(rows))
        for number in np.unique(fold):
            rest, out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            inner = _trees([rows[i] for i in rest], point, log_s[rest], quick=True) if len(rest) else point
            errors[out] = log_s[out] - np.log(self.predict(inner, [rows[i] for i in out]).value)
        spreads = {FITTED: _ends(errors), NEW: list(_NEW_SPREAD)}
        if len(names) > 1:
            spreads[NEW] = _wider(_ends(np.concatenate([_new_errors(rows, name, usable, log_s) for name in names])))
        return point | {"spreads": spreads}

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """By :class:`~dovetail.predict.gemm.model.GemmModel`."""
        found = GemmModel(parameters).predict(*_inputs(rows))
        return Predicted(value=found.seconds, low=found.low_s, high=found.high_s)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """A plain roofline, and three constants a device (share of peak, share of bandwidth, launch), fitted."""
        flop_s, bytes_s = _roofs(rows)
        plain = np.maximum(flop_s, bytes_s)
        three = np.full(len(rows), np.nan)
        for name in {row["device"] for row in rows}:
            inside = np.array([row["device"] == name for row in rows])
            old = [row for row in fitted if row["device"] == name] or list(fitted)
            three[inside] = _three(old, flop_s[inside], bytes_s[inside])
        return {"roofline": plain, "three constants": three}


def _point(rows: Sequence[Row], usable: float, log_s: Floats) -> dict[str, Any]:
    gemms, gpus = _inputs(rows)
    bare = {"usable": usable, "tiles": fit_tiles(gemms, gpus, usable, log_s).to_json()}
    return _trees(rows, bare | {"devices": sorted(set(gpus.name))}, log_s)


def _trees(rows: Sequence[Row], tiles: Mapping[str, Any], log_s: Floats, quick: bool = False) -> dict[str, Any]:
    gemms, gpus = _inputs(rows)
    return {**tiles, "trees": fit_trees(gemms, gpus, tiles, log_s, quick).to_json()}


def _new_errors(rows: Sequence[Row], name: str, usable: float, log_s: Floats) -> Floats:
    """``[n]`` of the rows on one device, by the tiles and quick trees of the others."""
    rest = np.array([row["device"] != name for row in rows])
    old = [row for row, kept in zip(rows, rest, strict=True) if kept]
    gemms, gpus = _inputs(old)
    bare = {"usable": usable, "tiles": fit_tiles(gemms, gpus, usable, log_s[rest]).to_json(), "devices": sorted(set(gpus.name))}
    found = GemmModel(_trees(old, bare, log_s[rest], quick=True))
    new = [row for row, kept in zip(rows, rest, strict=True) if not kept]
    return np.asarray(log_s[~rest] - np.log(found.predict(*_inputs(new)).seconds))


def _ends(errors: Floats) -> list[float]:
    found = conformal(errors)
    return [found.low, found.high]


def _wider(ends: Sequence[float]) -> list[float]:
    return [min(ends[0], _NEW_SPREAD[0]), max(ends[1], _NEW_SPREAD[1])]


def _three(rows: Sequence[Row], flop_s: Floats, bytes_s: Floats) -> Floats:
    old_flop_s, old_bytes_s = _roofs(rows)
    seconds = _column(rows, "seconds")
    terms = np.stack([old_flop_s, old_bytes_s, np.ones(len(rows))], axis=1) / seconds[:, None]
    weights = np.abs(np.linalg.lstsq(terms, np.ones(len(rows)), rcond=None)[0])
    return np.asarray(np.stack([flop_s, bytes_s, np.ones(len(flop_s))], axis=1) @ weights)


def _roofs(rows: Sequence[Row]) -> tuple[Floats, Floats]:
    gemms, gpus = _inputs(rows)
    return gemms.flop / gpus.peak_flop_per_s, gemms.bytes / gpus.bandwidth_bytes_per_s


def _column(rows: Sequence[Row], key: str) -> Floats:
    return np.array([row[key] for row in rows], dtype=np.float64)


def _inputs(rows: Sequence[Row]) -> tuple[Gemms, Gpus]:
    m, n, k = (_column(rows, key) for key in "mnk")
    peak, bandwidth, count = (_column(rows, key) for key in ("peak", "bandwidth", "processors"))
    gpus = Gpus(name=[row["device"] for row in rows], peak_flop_per_s=peak, bandwidth_bytes_per_s=bandwidth, processors=count)
    return Gemms(m=m, n=n, k=k, role=[row["role"] for row in rows]), gpus


TABLE = GemmTable()
