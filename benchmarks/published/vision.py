"""Throughput of timm's image networks in PyTorch: inference and training, eager and compiled, on four GPUs and two CPUs.

What networks are made of comes from tracing timm's own code (``benchmarks/timm_profiles.py``), not from their names. Left out:
rows without a rate.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.nets.model import FITTED, NEW, SIMILAR, NetModel
from dovetail.predict.nets.quantities import FIXED
from dovetail.predict.nets.setting import Setting
from dovetail.predict.spread import conformal
from published.device_spread import on_new_device
from published.table import Floats, Gate, Indices, Predicted, Row, folds, read_csv
from published.vision_fit import fit_trees, fit_weights
from published.vision_profiles import Profiles, family
from published.vision_settings import setting

FILE = "vision_timm_bench.csv"
_INNER = 3
"""Folds that the errors behind the intervals come from."""
_UNLIKE, _SIMILAR = 1.2, 1.8
"""Factors on the errors behind intervals: networks of a family that was not fitted err 1.4 times as far as others, and some of
those to come are such; a setting of which only a similar one was fitted adds its own difference (assumed)."""
_FEWEST = 60
"""Errors that an interval of its own needs."""


class VisionTable:
    """See :class:`published.table.Table`."""

    name = "vision"
    source = "huggingface/pytorch-image-models results/benchmark-*.csv"
    gates: Sequence[Gate] = (
        Gate(split="unseen models", statistic="median", limit=0.08, part="compiled"),
        Gate(split="unseen models", statistic="median", limit=0.12, part="eager"),
    )

    def read(self, folder: Path) -> Sequence[Row]:
        """One row a network, image size and setting."""
        profiles, rows = Profiles.load(), []
        for line in read_csv(folder / FILE):
            if not float(line["samples_per_s"] or 0):
                continue
            gmacs = float(line["gmacs"]) if line["gmacs"] else None
            size = float(line["img_size"])
            rows.append({
                "model": line["model"], "size": size, "batch": float(line["batch_size"]), "setting": setting(line),
                "quantities": profiles.find(line["model"], size, gmacs), "gmacs": gmacs,
                "macts": float(line["macts_m"] or "nan"), "seconds": 1 / float(line["samples_per_s"]),
            })  # fmt: skip
        return rows

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Seconds an image."""
        return _column(rows, "seconds")

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By network, whatever its names, by family of networks, by device."""
        return {
            "unseen models": _networks(rows),
            "unseen families": [family(row["model"]) for row in rows],
            "unseen devices": [row["setting"].device for row in rows],
        }

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """By how they run, and by device."""
        settings: list[Setting] = [row["setting"] for row in rows]
        compiled, training = (np.array([getattr(s, name) for s in settings]) for name in ("compiled", "training"))
        by_device = {name: np.array([s.device == name for s in settings]) for name in sorted({s.device for s in settings})}
        return {"compiled": compiled, "eager": ~compiled, "inference": ~training, "training": training, **by_device}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """Devices, within one network, image size and way to run."""
        works = [_work(row) for row in rows]
        return [row["setting"].device for row in rows], works

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Weights, then trees; intervals from networks left out of both, and from devices left out of both as well.

        A fit without each device would take long for all networks: each is judged on those of one fold.
        """
        log_s = np.log(self.measured(rows))
        point = _point(rows, log_s)
        fold, seen, new = folds(_networks(rows), _INNER), np.zeros(len(rows)), np.full(len(rows), np.nan)
        devices = np.array([row["setting"].device for row in rows])
        names = sorted(set(devices))
        for number in np.unique(fold):
            rest, out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            inner = _point(_some(rows, rest), log_s[rest], quick=True)
            seen[out] = log_s[out] - _log_predicted(inner, _some(rows, out))
            for name in names[int(number) :: _INNER]:
                new[out] = np.where(devices[out] == name, log_s[out] - _log_new(name, rows, rest, out, log_s), new[out])
        return point | {"spreads": _spreads(rows, seen, new)}

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """By :class:`~dovetail.predict.nets.model.NetModel`."""
        found = NetModel(parameters).predict(*_inputs(rows))
        return Predicted(value=found.seconds, low=found.low_s, high=found.high_s)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """``a·GMACs + b·activations + c`` of each setting, where timm states them; a constant share of its peak."""
        share, line = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        for key in {row["setting"].key for row in rows}:
            inside = [i for i, row in enumerate(rows) if row["setting"].key == key]
            way = rows[inside[0]]["setting"].way
            old = [row for row in fitted if row["setting"].key == key] or [r for r in fitted if r["setting"].way == way]
            old, here = old or list(fitted), [rows[i] for i in inside]
            share[inside] = _at_peak(here) * np.median(_column(old, "seconds") / _at_peak(old))
            line[inside] = _line(old, here, share[inside])
        return {"a·GMACs + b·activations + c": line, "constant share of peak": share}


def _networks(rows: Sequence[Row]) -> list[Hashable]:
    """Of each row a key that all names of one architecture share: timm has ``resnet50d`` as ``gluon_resnet50_v1d`` too."""
    known: dict[str, Hashable] = {}
    for row in rows:
        known.setdefault(row["model"], tuple(row["quantities"][FIXED].tolist()))
    return [known[row["model"]] for row in rows]


def _point(rows: Sequence[Row], log_s: Floats, quick: bool = False) -> dict[str, Any]:
    quantities, batch, pixels, settings = _inputs(rows)
    weights = fit_weights(quantities, batch, settings, np.exp(log_s))
    return weights | {"trees": fit_trees(weights, quantities, batch, pixels, settings, log_s, quick).to_json()}


def _log_predicted(parameters: Mapping[str, Any], rows: Sequence[Row]) -> Floats:
    return np.log(NetModel(parameters).predict(*_inputs(rows)).seconds)


def _log_new(name: str, rows: Sequence[Row], rest: Indices, out: Indices, log_s: Floats) -> Floats:
    """``[out]`` by a fit to the rows of ``rest`` on other devices; NaN where none of them runs that way."""
    others = np.array([i for i in rest if rows[i]["setting"].device != name], dtype=np.intp)
    if not len(others):
        return np.full(len(out), np.nan)
    point = _point(_some(rows, others), log_s[others], quick=True)
    told = [k for k, i in enumerate(out) if rows[i]["setting"].way in point["ways"]]
    found = np.full(len(out), np.nan)
    if told:
        found[told] = _log_predicted(point, [rows[out[k]] for k in told])
    return found


def _spreads(rows: Sequence[Row], seen: Floats, new: Floats) -> dict[str, list[float]]:
    """Way and nearness → factors of the interval; of nearness alone where a way has too few rows."""
    ways = np.array([row["setting"].way for row in rows])
    devices, told = np.array([row["setting"].device for row in rows]), ~np.isnan(new)
    found = {FITTED: _ends(seen, _UNLIKE), SIMILAR: _ends(seen, _SIMILAR)}
    for way in sorted(set(ways)):
        inside = ways == way
        if inside.sum() >= _FEWEST:
            found |= {f"{way}, {FITTED}": _ends(seen[inside], _UNLIKE), f"{way}, {SIMILAR}": _ends(seen[inside], _SIMILAR)}
        other = on_new_device(new[inside & told], devices[inside & told])
        if other is not None:
            found[f"{way}, {NEW}"] = list(other)
    return found


def _ends(errors: Floats, wider: float) -> list[float]:
    found = conformal(wider * errors)
    return [round(found.low, 4), round(found.high, 4)]


def _work(row: Row) -> Hashable:
    own: Setting = row["setting"]
    return row["model"], row["size"], own.training, own.compiled


def _at_peak(rows: Sequence[Row]) -> Floats:
    return np.array([row["quantities"][:7].sum() / row["setting"].peak_flop_per_s for row in rows])


def _line(old: Sequence[Row], new: Sequence[Row], instead: Floats) -> Floats:
    """Least squares of the relative error; ``instead`` where activations are not stated."""
    terms, seconds = _sizes(old), _column(old, "seconds")
    kept = ~np.isnan(terms).any(axis=1)
    if kept.sum() < 3:
        return instead
    weights = np.linalg.lstsq(terms[kept] / seconds[kept, None], np.ones(kept.sum()), rcond=None)[0]
    found = np.maximum(_sizes(new) @ weights, 1e-6)
    return np.where(np.isnan(found), instead, found)


def _sizes(rows: Sequence[Row]) -> Floats:
    return np.array([[row["gmacs"] or np.nan, row["macts"], 1.0] for row in rows], dtype=np.float64)


def _column(rows: Sequence[Row], key: str) -> Floats:
    return np.array([row[key] for row in rows], dtype=np.float64)


def _some(rows: Sequence[Row], indices: Indices) -> list[Row]:
    return [rows[i] for i in indices]


def _inputs(rows: Sequence[Row]) -> tuple[Floats, Floats, Floats, list[Setting]]:
    quantities = np.array([row["quantities"] for row in rows])
    return quantities, _column(rows, "batch"), _column(rows, "size"), [row["setting"] for row in rows]


TABLE = VisionTable()
