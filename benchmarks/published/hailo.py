"""Hailo model zoo: frames a second of about 100 networks on five chips, in batches of one and of eight.

Left out: rows whose operations, weights or input size are not stated, and rates of zero. A rate in batches of eight needs no
longer than one in batches of one where the network fits the chip as a whole; that tells the two ways to run apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.edge.additive import Additive, rounded
from dovetail.predict.edge.network import Network, typical
from dovetail.predict.edge.npu import KINDS, SWAPS, TERMS, Chip, NpuModel, gate_features, swapped_design, whole_design
from dovetail.predict.edge.timed import BARE, KNOWN, NEW
from published.edge_fit import blank, fit, left_out, names, power_law, spread
from published.networks import known
from published.table import Floats, Gate, Indices, Predicted, Row, read_csv

FILE = "edge_hailo_model_zoo.csv"

TOPS = {"HAILO8": 26, "HAILO8L": 13, "HAILO10H": 20, "HAILO15H": 20, "HAILO15M": 11, "HAILO15L": 7}
"""int8, as the maker advertises the chips."""

_SAME_RATE = 1.05
"""Rates in batches of eight and of one closer than this: the network is on the chip as a whole."""
_GATE_PRIOR = {"size": 0.5, "chip": 0.3, "tag": 1.0, "size by chip": 3.0}
_NAMED = 100.0
"""Prior precision of a single chip's effects; see :mod:`published.edge_fit`."""


class Hailo:
    """See :class:`published.table.Table`."""

    name = "hailo"
    source = "hailo-ai/hailo_model_zoo docs/public_models"
    gates: Sequence[Gate] = (Gate(split="unseen models", statistic="median", limit=0.25),)

    def read(self, folder: Path) -> Sequence[Row]:
        """One row a network, chip and batch."""
        return [row for line in read_csv(folder / FILE) for row in _rows(line)]

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Seconds a frame."""
        return np.array([row["seconds"] for row in rows])

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By network in any version, by family of networks, by chip."""
        return {
            "unseen models": [row["model"] for row in rows],
            "unseen families": [row["family"] for row in rows],
            "unseen devices": [row["chip"].name for row in rows],
        }

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """By batch and by chip."""
        found = {f"batch {batch}": np.array([row["chip"].batch == batch for row in rows]) for batch in (1, 8)}
        return found | {name: np.array([row["chip"].name == name for row in rows]) for name in TOPS}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """Chips, within one network and batch."""
        return [row["chip"].name for row in rows], [(row["name"], row["chip"].batch) for row in rows]

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Parameters of :class:`~dovetail.predict.edge.npu.NpuModel`; intervals from what inner fits left out."""
        log_s = np.log(self.measured(rows))

        def inner(kept: Indices) -> dict[str, Any]:
            return _point([rows[i] for i in kept])

        def seen(parameters: dict[str, Any], rest: Indices) -> Floats:
            return np.log(self.predict(parameters, [rows[i] for i in rest]).value)

        def bare(parameters: dict[str, Any], rest: Indices) -> Floats:
            return np.log(self.predict(parameters, [rows[i] | {"network": _bare(rows[i]["network"])} for i in rest]).value)

        by_network, unknown = left_out([row["model"] for row in rows], inner, (seen, bare), log_s)
        by_chip = left_out([row["chip"].name for row in rows], inner, (seen,), log_s)[0]
        spreads = {KNOWN: spread(by_network), BARE: spread(unknown), NEW: spread(by_chip)}
        return _point(rows) | {"spreads": spreads, "most_params": _largest(rows)}

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """By :class:`~dovetail.predict.edge.npu.NpuModel`."""
        found = NpuModel(parameters).predict([row["network"] for row in rows], [row["chip"] for row in rows])
        return Predicted(value=found.seconds, low=found.low, high=found.high)

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """A constant share of the peak, and a power law of the operations, of each chip and batch."""
        share, power = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        for way in {(row["chip"].name, row["chip"].batch) for row in rows}:
            inside = [i for i, row in enumerate(rows) if (row["chip"].name, row["chip"].batch) == way]
            old = [row for row in fitted if (row["chip"].name, row["chip"].batch) == way] or list(fitted)
            at_peak, seconds = _at_peak(old), np.array([row["seconds"] for row in old])
            new = _at_peak([rows[i] for i in inside])
            share[inside] = new * np.median(seconds / at_peak)
            power[inside] = power_law(at_peak, seconds, new)
        return {"constant share of peak": share, "a·ops^b": power}


def _largest(rows: Sequence[Row]) -> dict[str, float]:
    """Family of chips → weights of the largest network that ran on one."""
    families = sorted({row["chip"].family for row in rows})
    return {name: max(row["network"].params for row in rows if row["chip"].family == name) for name in families}


def _at_peak(rows: Sequence[Row]) -> Floats:
    return np.array([row["network"].flop / row["chip"].peak_flop_per_s for row in rows])


def _bare(network: Network) -> Network:
    return Network(flop=network.flop, pixels=network.pixels, params=network.params)


def _rows(line: Mapping[str, str]) -> list[dict[str, Any]]:
    size = re.fullmatch(r"(\d+)x(\d+)x(\d+)", line["input_res"])
    flop, params = _number(line["ops_g"]), _number(line["params_m"])
    if size is None or not flop or not params or line["device"] not in TOPS:
        return []
    frames = max(1.0, float(size[3]) / 3)
    name = line["model"].replace("⭐", "").lower()
    network = _network(name, flop * 1e9, float(size[1]) * float(size[2]) * frames, params * 1e6)
    version = re.sub(r"_\d+(\.\d+)+$|_wo_spp$|_bbox_decoding_only$|_bn$|_postprocess$", "", name)
    found = []
    for batch in (1, 8):
        rate = _number(line[f"fps_batch{batch}"])
        if rate:
            peak = TOPS[line["device"]] * 1e12
            chip = Chip(name=line["device"], peak_flop_per_s=peak, dram="HAILO8" not in line["device"], batch=batch)
            row = {"name": name, "model": version, "family": _family(name), "chip": chip, "network": network}
            found.append(row | {"seconds": 1 / rate, "whole": _whole(line)})
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _whole(line: Mapping[str, str]) -> bool:
    one, eight = _number(line["fps_batch1"]), _number(line["fps_batch8"])
    return bool(one and eight and eight / one < _SAME_RATE)


def _family(name: str) -> str:
    found = re.match(r"(?:tiny_)?(yolov1[012]|yolov\d|yolox|[a-z]+)", name)
    return found[1] if found else name


def _network(name: str, flop: float, pixels: float, params: float) -> Network:
    found = known(name)
    if found is None:
        return Network(flop=flop, pixels=pixels, params=params)
    # The numbers of a text encoder's input are no image's: an analysis tells no pixels.
    seen = None if "text" in found.tags else pixels
    return Network(flop=flop, pixels=seen, params=params, layers=found.layers, tags=found.told())


def _point(rows: Sequence[Row]) -> dict[str, Any]:
    networks, chips = [row["network"] for row in rows], [row["chip"] for row in rows]
    log_s = np.log([row["seconds"] for row in rows])
    whole = np.array([row["whole"] for row in rows])
    unstated = typical(networks)
    conditions = names([chip.conditions() for chip in chips])
    tags = names([network.tags for network in networks], [row["model"] for row in rows], 2)
    families = names([{chip.family: 1.0} for chip in chips])
    empty = blank(TERMS, conditions, tags, families)
    streams = whole_design(networks, chips, empty, unstated)
    single = dict.fromkeys(TOPS, _NAMED)
    fitted = fit(empty, streams.take(whole), log_s[whole], single)
    swaps = blank(TERMS + SWAPS, conditions, tags, families)
    swapped = fit(swaps, swapped_design(networks, chips, swaps, unstated).take(~whole), log_s[~whole], single)
    return {
        "whole": fitted.to_json(),
        "swapped": swapped.to_json(),
        "unstated": unstated,
        "spreads": {KNOWN: [1.0, 1.0]},
    } | _gate(rows, fitted, unstated)


def _gate(rows: Sequence[Row], names: Additive, unstated: Mapping[str, Any]) -> dict[str, Any]:
    """Logistic regression of whether a network is on the chip as a whole, with normal priors."""
    networks, chips = [row["network"] for row in rows], [row["chip"] for row in rows]
    design = whole_design(networks, chips, names, unstated)
    start = {"unstated": unstated, "middle": [0.0] * 4}
    middle = gate_features(networks, chips, design, names, start)[:, :4].mean(axis=0)
    features = gate_features(networks, chips, design, names, start | {"middle": middle})
    counts = {"size": 7, "chip": len(KINDS), "tag": len(names.tags), "size by chip": 4 * len(KINDS)}
    prior = np.concatenate([*(np.full(n, _GATE_PRIOR[kind]) for kind, n in counts.items()), [1e-3]])
    weights = _logistic(features, np.array([row["whole"] for row in rows], dtype=float), prior)
    return {"gate": rounded(weights), "middle": rounded(middle)}


def _logistic(features: Floats, label: Floats, precision: Floats) -> Floats:
    weights = np.zeros(features.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        curvature = (features * (chance * (1 - chance) + 1e-5)[:, None]).T @ features + np.diag(precision)
        step = np.linalg.solve(curvature, features.T @ (chance - label) + precision * weights)
        weights -= step
        if math.sqrt(step @ step) < 1e-6:
            break
    return weights


TABLE = Hailo()
