"""What the sets of DPU boards have in common: names of networks, fit, prediction, trivial models."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from dovetail.predict.edge.dpu import TERMS, Dpu, DpuModel, Run, design
from dovetail.predict.edge.network import Network, typical
from dovetail.predict.edge.timed import BARE, KNOWN, NEW
from published.edge_fit import blank, fit, left_out, names, power_law, spread
from published.networks import known
from published.table import Floats, Gate, Indices, Predicted, Row

_FRAMEWORK = r"^(pt|tf2|tf|cf|dk|torchvision|onnx)_"
_DATA = (
    r"_(imagenet|coco|voc|wider|kitti|cityscapes|market1501|marketcuhk|color|compcars|edd|div2k|mixed|nuclei|cvc|rp2k)(?=_|$)"
)
_LEAST_GROUPS = 2
"""Networks that a kind must have before it gets coefficients of its own."""
_BOARDS_DIFFER = 2.0
"""Factor on either end of an interval on another board where only one was fitted, so that nothing tells how boards differ
(assumed)."""
_NAMED = 10.0
"""Prior precision of a single configuration's effects; see :mod:`published.edge_fit`."""


class DpuTable:
    """What the sets have in common of :class:`published.table.Table`."""

    gates: Sequence[Gate] = (Gate(split="unseen models", statistic="median", limit=0.25),)

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Seconds a frame."""
        return np.array([row["seconds"] for row in rows])

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By network under any of its names, by family of networks, by board (with two, one predicts the other)."""
        return {
            "unseen models": [row["model"] for row in rows],
            "unseen families": [row["family"] for row in rows],
            "unseen devices": [row["board"] for row in rows],
        }

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """See :func:`fit_rows`."""
        return fit_rows(rows)

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """By :class:`~dovetail.predict.edge.dpu.DpuModel`."""
        return predict_rows(parameters, rows)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """See :func:`trivial`."""
        return trivial(fitted, rows)


def network(name: str, flop: float, pixels: float | None, pruned: float) -> Network:
    """What is known of a network of the zoo.

    Args:
        name: as the zoo writes it.
        flop: of one inference.
        pixels: of its input.
        pruned: share of its operations that were taken out; weights are taken to have shrunk alike.
    """
    found = known(name)
    if found is None:
        return Network(flop=flop, pixels=pixels)
    params = found.params * (1 - pruned) if found.params else None
    return Network(flop=flop, pixels=pixels, params=params, layers=found.layers, tags=found.told())


def same_network(name: str) -> str:
    """One word for all names of a network: without framework, data set, operations, zoo version and depth's spelling."""
    short = re.sub(_FRAMEWORK, "", name.lower())
    short = re.sub(r"(_[\d.]+[gm])?(_[23]\.5)?$", "", short)
    short = re.sub(r"^mlperf_", "", re.sub(_DATA, "", short))
    short = re.sub(r"^vehicle-\w+-classification", "vehicle", short)
    short = re.sub(r"v[12][-_](?=\d{2,3}(?!\d))", "", short)
    return re.sub(r"[-_]+", "-", short)


def family(name: str) -> str:
    """One word for a network of any size, resolution and sparsity."""
    found = re.split(r"-(?=\d)", same_network(name))[0]
    return re.sub(r"^ofa-|-(?:s|m|l|large|small|res\d+|resnet\d+)$", "", re.sub(r"\d+(?:\.\d+)*$", "", found))


def fit_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Parameters of :class:`~dovetail.predict.edge.dpu.DpuModel`; intervals from networks and boards left out of inner fits."""
    log_s = np.log([row["seconds"] for row in rows])

    def inner(kept: Indices) -> dict[str, Any]:
        return _point([rows[i] for i in kept])

    def seen(parameters: dict[str, Any], rest: Indices) -> Floats:
        return np.log(predict_rows(parameters, [rows[i] for i in rest]).value)

    def bare(parameters: dict[str, Any], rest: Indices) -> Floats:
        return np.log(predict_rows(parameters, [rows[i] | {"network": _bare(rows[i]["network"])} for i in rest]).value)

    by_network, unknown = left_out([row["model"] for row in rows], inner, (seen, bare), log_s)
    spreads = {KNOWN: spread(by_network), BARE: spread(unknown)}
    low, high = spreads[KNOWN]
    spreads[NEW] = [low / _BOARDS_DIFFER, high * _BOARDS_DIFFER]
    if len({row["board"] for row in rows}) > 1:
        spreads[NEW] = spread(left_out([row["board"] for row in rows], inner, (seen,), log_s)[0])
    return _point(rows) | {"spreads": spreads}


def _bare(network: Network) -> Network:
    return Network(flop=network.flop, pixels=network.pixels)


def _point(rows: Sequence[Row]) -> dict[str, Any]:
    networks, runs = [row["network"] for row in rows], [row["run"] for row in rows]
    empty = blank(
        TERMS,
        names([run.conditions() for run in runs]),
        names([network.tags for network in networks], [row["model"] for row in rows], _LEAST_GROUPS),
        names([{run.dpu.core: 1.0} for run in runs]),
    )
    unstated = typical(networks)
    single = {name: _NAMED for run in runs for name in empty.conditions if name.startswith(run.dpu.name)}
    found = fit(empty, design(networks, runs, empty, unstated), np.log([row["seconds"] for row in rows]), single)
    return {"times": found.to_json(), "unstated": unstated, "spreads": {KNOWN: [1.0, 1.0]}}


def predict_rows(parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
    """What the product says of rows."""
    found = DpuModel(parameters).predict([row["network"] for row in rows], [row["run"] for row in rows])
    return Predicted(value=found.seconds, low=found.low, high=found.high)


def trivial(fitted: Sequence[Row], rows: Sequence[Row]) -> dict[str, Floats]:
    """A constant share of the peak, and a power law of the operations, of each configuration and way to run."""
    share, power = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for way in {_way(row) for row in rows}:
        inside = [i for i, row in enumerate(rows) if _way(row) == way]
        old = [row for row in fitted if _way(row) == way] or list(fitted)
        flop_s, seconds = _columns(old)
        new, _ = _columns([rows[i] for i in inside])
        share[inside] = new * np.median(seconds / flop_s)
        power[inside] = power_law(flop_s, seconds, new) if len(set(flop_s)) > 1 else share[inside]
    return {"constant share of peak": share, "a·ops^b": power}


def _columns(rows: Sequence[Row]) -> tuple[Floats, Floats]:
    """Seconds at peak, seconds measured."""
    at_peak = np.array([row["network"].flop / row["run"].peak_flop_per_s for row in rows])
    return at_peak, np.array([row["seconds"] for row in rows])


def _way(row: Row) -> tuple[str, bool]:
    return row["run"].dpu.name, row["run"].multi


def row(name: str, dpu: Dpu, multi: bool, found: Network, fps: float) -> dict[str, Any]:
    """One row as the functions here take it."""
    return {
        "model": same_network(name),
        "family": family(name),
        "name": name,
        "board": dpu.board,
        "run": Run(dpu=dpu, multi=multi),
        "network": found,
        "seconds": 1 / fps,
    }
