"""MLPerf Tiny v1.2: seconds and joules an inference of its four networks on microcontrollers and small accelerators.

Reported without a gate: there are about forty rows, and four networks. Derived figures here are not verified by MLCommons.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.edge.mcu import TERMS, Mcu, McuModel, core, design, power_design
from dovetail.predict.edge.network import Network
from dovetail.predict.edge.timed import KNOWN, NEW
from published.edge_fit import blank, fit, left_out, names, power_law, spread
from published.table import Floats, Gate, Indices, Predicted, Row, read_csv

FILE = "edge_mlperf_tiny_v1_2.csv"

NETWORKS = {
    "ad": Network(flop=5.28e5, params=2.68e5, tags={"depthwise": 0.0, "vectors": 1.0}),
    "ic": Network(flop=2.50e7, params=7.8e4, tags={"depthwise": 0.0, "vectors": 0.0}),
    "kws": Network(flop=5.32e6, params=2.5e4, tags={"depthwise": 1.0, "vectors": 0.0}),
    "vww": Network(flop=1.50e7, params=2.2e5, tags={"depthwise": 1.0, "vectors": 0.0}),
}
"""Dense autoencoder, ResNet-8, DS-CNN and MobileNetV1 0.25 (Banbury et al., MLPerf Tiny Benchmark, 2021), counted from their
shapes; ``vectors`` multiplies matrices with single vectors, so that no weight is used twice."""

_LIBRARIES = (r"x-cube", "X-CUBE-AI"), (r"hale|bosch", "HALE"), (r"tflite|tensorflow", "TFLM"), (r"onnc", "ONNC")


class Tiny:
    """See :class:`published.table.Table`."""

    name = "tiny"
    source = "mlcommons/tiny_results_v1.2"
    gates: Sequence[Gate] = ()

    def read(self, folder: Path) -> Sequence[Row]:
        """A row for each time, and one for each energy that was measured; without rows that state no clock."""
        return [row for line in read_csv(folder / FILE) for row in _rows(line)]

    def measured(self, rows: Sequence[Row]) -> Floats:
        """Seconds or joules an inference."""
        return np.array([row["value"] for row in rows])

    def groups(self, rows: Sequence[Row]) -> Mapping[str, Sequence[Hashable]]:
        """By network, by kind of core."""
        return {"unseen models": [row["model"] for row in rows], "unseen devices": [row["part"].core for row in rows]}

    def parts(self, rows: Sequence[Row]) -> Mapping[str, NDArray[np.bool_]]:
        """Times and energies."""
        energy = np.array([row["energy"] for row in rows])
        return {"latency": ~energy, "energy": energy}

    def devices(self, rows: Sequence[Row]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
        """Systems, within one network and quantity."""
        return [row["system"] for row in rows], [(row["model"], row["energy"]) for row in rows]

    def fit(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Parameters of :class:`~dovetail.predict.edge.mcu.McuModel`; intervals from what inner fits left out."""
        found = _point(rows)
        for key, energy in (("spreads", False), ("energy spreads", True)):
            errors = {kind: _errors(rows, group, energy) for kind, group in ((KNOWN, _by_model), (NEW, _by_core))}
            found[key] = found[key] | {kind: spread(own) for kind, own in errors.items() if np.isfinite(own).any()}
        return found

    def predict(self, parameters: Mapping[str, Any], rows: Sequence[Row]) -> Predicted:
        """By :class:`~dovetail.predict.edge.mcu.McuModel`; NaN for the energy of cores whose power nobody measured."""
        networks, parts = [row["network"] for row in rows], [row["part"] for row in rows]
        model = McuModel(parameters)
        seconds, joules = model.predict(networks, parts), model.energy(networks, parts)
        energy = np.array([row["energy"] for row in rows])
        ends = {name: np.where(energy, getattr(joules, name), getattr(seconds, name)) for name in ("seconds", "low", "high")}
        silent = energy & np.array([part.core not in model.power.conditions for part in parts])
        ends = {name: np.where(silent, np.nan, values) for name, values in ends.items()}
        return Predicted(value=ends["seconds"], low=ends["low"], high=ends["high"])

    def baselines(self, fitted: Sequence[Row], rows: Sequence[Row]) -> Mapping[str, Floats]:
        """A constant number of cycles an operation, and a power law of operations over the clock; constant energy for both."""
        share, power = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        for energy in {row["energy"] for row in rows}:
            inside = [i for i, row in enumerate(rows) if row["energy"] == energy]
            old = [row for row in fitted if row["energy"] == energy] or list(fitted)
            cycles, values = _work(old), np.array([row["value"] for row in old])
            new = _work([rows[i] for i in inside])
            share[inside], power[inside] = new * np.median(values / cycles), power_law(cycles, values, new)
        return {"constant cycles an operation": share, "a·ops^b": power}


def _by_model(row: Row) -> Hashable:
    return row["model"]


def _by_core(row: Row) -> Hashable:
    return row["part"].core


def _errors(rows: Sequence[Row], group: Any, energy: bool) -> Floats:
    log_value = np.log([row["value"] for row in rows])

    def inner(kept: Indices) -> dict[str, Any]:
        return _point([rows[i] for i in kept])

    def predict(parameters: dict[str, Any], rest: Indices) -> Floats:
        return np.log(TABLE.predict(parameters, [rows[i] for i in rest]).value)

    errors = left_out([group(row) for row in rows], inner, (predict,), log_value)[0]
    wanted = np.array([row["energy"] == energy for row in rows])
    return errors[wanted] if wanted.any() else errors


def _work(rows: Sequence[Row]) -> Floats:
    return np.array([row["network"].flop / row["part"].clock_hz for row in rows])


def _point(rows: Sequence[Row]) -> dict[str, Any]:
    timed = [row for row in rows if not row["energy"]]
    powered = [row for row in rows if row["energy"]]
    networks, parts = [row["network"] for row in timed], [row["part"] for row in timed]
    empty = blank(TERMS, names([part.conditions() for part in parts]), ("depthwise", "vectors"), ())
    times = fit(empty, design(networks, parts, empty), np.log([row["value"] for row in timed]))
    cores = sorted({row["part"].core for row in powered})
    watt = blank(("seconds",), cores, (), ())
    if powered:
        known = power_design([row["seconds"] for row in powered], [row["part"] for row in powered], watt)
        watt = fit(watt, known, np.log([row["value"] for row in powered]))
    nothing = {KNOWN: [1.0, 1.0]}
    return {"times": times.to_json(), "power": watt.to_json(), "spreads": nothing, "energy spreads": nothing}


def _rows(line: Mapping[str, str]) -> list[dict[str, Any]]:
    clock = re.match(r"([\d.]+)\s*([GM])", line["freq"])
    if clock is None or line["benchmark"] not in NETWORKS:
        return []
    text = f"{line['accelerator']} {line['processor']}"
    part = Mcu(
        core=core(text),
        clock_hz=float(clock[1]) * {"G": 1e9, "M": 1e6}[clock[2]],
        floats="float" in line["system"],
        library=next((name for pattern, name in _LIBRARIES if re.search(pattern, line["framework"].lower())), None),
        tuned="max_performance" in line["system"],
    )
    common = {"model": line["benchmark"], "network": NETWORKS[line["benchmark"]], "part": part, "system": line["system"]}
    seconds = float(line["latency_ms"]) / 1e3
    found = [common | {"energy": False, "value": seconds, "seconds": seconds}]
    if line["energy_uJ_per_inf"]:
        found.append(common | {"energy": True, "value": float(line["energy_uJ_per_inf"]) / 1e6, "seconds": seconds})
    return found


TABLE = Tiny()
