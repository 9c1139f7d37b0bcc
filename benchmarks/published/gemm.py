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
from dovetail.predict.gemm.model import FITTED, NEW, TOKENS, GemmModel
from dovetail.predict.gemm.on_device import on_device
from dovetail.predict.gemm.shapes import Gemms, Gpus
from dovetail.predict.peak_share import peak_shares
from dovetail.predict.spread import conformal
from published import matmul_peak_share
from published.device_spread import on_new_device
from published.gemm_fit import fit_tiles, fit_trees
from published.table import Floats, Gate, Indices, Predicted, Row, folds, read_csv

FILE = "kernel_vidur_gemm.csv"

DEVICES = {"a100": "A100 SXM 80GB", "h100": "H100 SXM 80GB", "a40": "A40"}
"""Of vidur: what the catalogue calls them."""
_CHIPS = {"A100 SXM 80GB": ("A100",), "H100 SXM 80GB": ("H100", "H200"), "A40": ("A40",)}
"""Device → words in the names of accelerators of that chip, in the set :mod:`published.matmul_peak_share`."""
_ROLES = {"attn_pre_proj": "qkv", "attn_post_proj": "out", "mlp_up_proj": "up", "mlp_down_proj": "down"}
_INNER = 2
"""Folds that the errors behind the intervals come from."""
_NEW_SPREAD = (0.8, 1.22)
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
        places = {short: on_device(device(name), 1) for short, name in DEVICES.items()}
        accelerators = matmul_peak_share.TABLE.read(folder)
        rows: list[Row] = []
        for line in read_csv(folder / FILE):
            place = places[line["device"]]
            assert place is not None
            rows.append({
                "device": place.name[0], "peak": place.peak_flop_per_s[0], "bandwidth": place.bandwidth_bytes_per_s[0],
                "processors": place.processors[0], "model": line["model"], "accelerators": accelerators,
                "role": _ROLES.get(line["op"], ""),
                "m": float(line["M"]), "n": float(line["N"]), "k": float(line["K"]), "seconds": float(line["median_ms"]) / 1e3,
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
        names = sorted({row["device"] for row in rows})
        by_device = {name: np.array([row["device"] == name for row in rows]) for name in names}
        few, many = TOKENS
        return by_device | {"few tokens": m <= few, "some tokens": (m > few) & (m <= many), "many tokens": m > many}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """GPUs, within one product."""
        return [row["device"] for row in rows], [(row["m"], row["n"], row["k"]) for row in rows]

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Tiles, then trees; intervals from models left out of the trees, and from devices left out of both."""
        log_s = np.log(self.measured(rows))
        names = sorted({row["device"] for row in rows})
        rows = _reaching(rows, names)
        point = _point(rows, log_s)
        fold, errors = folds([row["model"] for row in rows], _INNER), np.zeros(len(rows))
        for number in np.unique(fold):
            rest, out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            inner = _trees(_some(rows, rest), point, log_s[rest], quick=True) if len(rest) else point
            errors[out] = log_s[out] - np.log(self.predict(inner, _some(rows, out)).value)
        spreads: dict[str, Any] = {FITTED: _by_tokens(_column(rows, "m"), errors), NEW: list(_NEW_SPREAD)}
        if len(names) > 1:
            errors_new = [_new_errors(rows, name, log_s) for name in names]
            found = on_new_device(np.concatenate(errors_new), np.repeat(names, [len(e) for e in errors_new]))
            spreads[NEW] = list(found or _NEW_SPREAD)
        return point | {"spreads": spreads}

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """By :class:`~dovetail.predict.gemm.model.GemmModel`."""
        found = GemmModel(parameters).predict(*_inputs(_reaching(rows, parameters["devices"])))
        return Predicted(value=found.seconds, low=found.low_s, high=found.high_s)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """A plain roofline, and three constants a device (share of peak, share of bandwidth, launch), fitted."""
        fitted, rows = _reaching(fitted, ()), _reaching(rows, ())
        flop_s, bytes_s = _roofs(rows)
        plain = np.maximum(flop_s, bytes_s)
        three = np.full(len(rows), np.nan)
        for name in {row["device"] for row in rows}:
            inside = np.array([row["device"] == name for row in rows])
            old = [row for row in fitted if row["device"] == name] or list(fitted)
            three[inside] = _three(old, flop_s[inside], bytes_s[inside])
        return {"roofline": plain, "three constants": three}


def _reaching(rows: Sequence[Row], fitted: Sequence[str]) -> list[Row]:
    """Rows with the share of their peak that NVIDIA's accelerators reach, told by those that are not of a device left out.

    With all devices fitted it is the share that the product ships.
    """
    hidden = [word for name, words in _CHIPS.items() if name not in fitted for word in words]
    others = [row for row in rows[0]["accelerators"] if not any(word in row["device"] for word in hidden)]
    shares = peak_shares(matmul_peak_share.TABLE.fit(others), ["NVIDIA"], ["bf16"]).share
    return [{**row, "reached": float(shares[0])} for row in rows]


def _point(rows: Sequence[Row], log_s: Floats) -> dict[str, Any]:
    gemms, gpus = _inputs(rows)
    bare = {"tiles": fit_tiles(gemms, gpus, log_s).to_json()}
    return _trees(rows, bare | {"devices": sorted(set(gpus.name))}, log_s)


def _trees(rows: Sequence[Row], tiles: Mapping[str, Any], log_s: Floats, quick: bool = False) -> dict[str, Any]:
    gemms, gpus = _inputs(rows)
    return {**tiles, "trees": fit_trees(gemms, gpus, tiles, log_s, quick).to_json()}


def _new_errors(rows: Sequence[Row], name: str, log_s: Floats) -> Floats:
    """``[n]`` of the rows on one device, by the tiles and quick trees of the others."""
    rest = np.array([row["device"] != name for row in rows])
    kept_names = sorted({row["device"] for row in rows} - {name})
    rows = _reaching(rows, kept_names)
    old = [row for row, kept in zip(rows, rest, strict=True) if kept]
    gemms, gpus = _inputs(old)
    bare = {"tiles": fit_tiles(gemms, gpus, log_s[rest]).to_json(), "devices": sorted(set(gpus.name))}
    found = GemmModel(_trees(old, bare, log_s[rest], quick=True))
    new = [row for row, kept in zip(rows, rest, strict=True) if not kept]
    return np.asarray(log_s[~rest] - np.log(found.predict(*_inputs(new)).seconds))


def _by_tokens(m: Floats, errors: Floats) -> list[list[float]]:
    """Factors of the ends in each of the classes of :data:`~dovetail.predict.gemm.model.TOKENS`."""
    place = np.searchsorted(TOKENS, m)
    found = [conformal(errors[place == c] if (place == c).any() else errors) for c in range(len(TOKENS) + 1)]
    return [[round(one.low, 4), round(one.high, 4)] for one in found]


def _three(rows: Sequence[Row], flop_s: Floats, bytes_s: Floats) -> Floats:
    old_flop_s, old_bytes_s = _roofs(rows)
    seconds = _column(rows, "seconds")
    terms = np.stack([old_flop_s, old_bytes_s, np.ones(len(rows))], axis=1) / seconds[:, None]
    weights = np.abs(np.linalg.lstsq(terms, np.ones(len(rows)), rcond=None)[0])
    return np.asarray(np.stack([flop_s, bytes_s, np.ones(len(flop_s))], axis=1) @ weights)


def _roofs(rows: Sequence[Row]) -> tuple[Floats, Floats]:
    gemms, gpus = _inputs(rows)
    return gemms.flop / gpus.peak_flop_per_s, gemms.bytes / gpus.bandwidth_bytes_per_s


def _some(rows: Sequence[Row], indices: Indices) -> list[Row]:
    return [rows[i] for i in indices]


def _column(rows: Sequence[Row], key: str) -> Floats:
    return np.array([row[key] for row in rows], dtype=np.float64)


def _inputs(rows: Sequence[Row]) -> tuple[Gemms, Gpus]:
    m, n, k = (_column(rows, key) for key in "mnk")
    gpus = Gpus(
        name=[row["device"] for row in rows],
        peak_flop_per_s=_column(rows, "peak"),
        bandwidth_bytes_per_s=_column(rows, "bandwidth"),
        processors=_column(rows, "processors"),
        reached=_column(rows, "reached"),
    )
    return Gemms(m=m, n=n, k=k, role=[row["role"] for row in rows]), gpus


TABLE = GemmTable()
