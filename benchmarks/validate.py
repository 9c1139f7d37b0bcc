"""How far predictions lie from published measurements: ``python benchmarks/validate.py [--sets gemm,vision] [--fit]``.

Each set is split by groups (models, devices): the groups of one fold are predicted with parameters fitted to the others, so
that every row is judged unseen. Errors on the fitted rows stand beside it. ``--fit`` writes the parameters that the product
ships, fitted to all rows, to ``src/dovetail/predict/fitted``. Appends a row a set to ``benchmarks/results/validate.jsonl`` and
writes ``docs/accuracy.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import pkgutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import accuracy_page
import numpy as np
import published
import rows
from promises import promises
from published.table import Error, Gate, Indices, Predicted, Row, Table, folds, judge
from scipy import stats

from dovetail.core.files import write_whole
from dovetail.predict.fitted_file import FOLDER, SCHEMA, parameters

SHARED = Path(os.environ.get("DOVETAIL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
NEEDS = {"gemm": "matmul_peak_share", "mlperf": "trtllm"}
"""Set → the one whose parameters it starts from: shares of peaks; the engine that language models run on."""

LEAST_DEVICES = 4
"""Devices that a set must have before they are ranked."""

LEAST_RANKED = 3
"""Devices that a work must have been done on before it ranks them."""


def names() -> list[str]:
    """Of all sets."""
    return sorted(m.name for m in pkgutil.iter_modules(published.__path__) if _has_table(m.name))


def _has_table(name: str) -> bool:
    return hasattr(importlib.import_module(f"published.{name}"), "TABLE")


def table(name: str) -> Table:
    """The set of one file in ``published``."""
    found: Table = importlib.import_module(f"published.{name}").TABLE
    return found


class Validation:
    """One set: its rows, split and judged."""

    def __init__(self, name: str, folder: Path) -> None:
        self.table = table(name)
        file: str = importlib.import_module(f"published.{name}").FILE
        self.data = f"{file} sha256 {hashlib.sha256((folder / file).read_bytes()).hexdigest()[:16]}"
        self.rows = self.table.read(folder)
        self.measured = self.table.measured(self.rows)

    def fitted(self) -> Error:
        """Errors on the rows that the parameters were fitted to."""
        found = self.table.predict(self.table.fit(self.rows), self.rows)
        return judge(found, self.measured, self.table.baselines(self.rows, self.rows))

    def unseen(self, split: str) -> tuple[Predicted, Mapping[str, Any]]:
        """Each row as it is predicted when its group is left out of the fit; the trivial models likewise."""
        fold = folds(self.table.groups(self.rows)[split])
        value, low, high = (np.full(len(self.rows), np.nan) for _ in range(3))
        plain: dict[str, Any] = {}
        for number in np.unique(fold):
            test = np.flatnonzero(fold == number)
            rest = self._take(np.flatnonzero(fold != number))
            found = self.table.predict(self.table.fit(rest), self._take(test))
            value[test], low[test], high[test] = found.value, found.low, found.high
            for name, values in self.table.baselines(rest, self._take(test)).items():
                plain.setdefault(name, np.full(len(self.rows), np.nan))[test] = values
        return Predicted(value=value, low=low, high=high), plain

    def _take(self, indices: Indices) -> Sequence[Row]:
        return [self.rows[i] for i in indices]

    def kendall(self, predicted: Predicted) -> tuple[float, int] | None:
        """Mean rank correlation (τ-b) of devices within equal work, and the number of works that rank at least three.

        A device that did a work several times counts once, with the medians of what was measured and predicted.
        """
        devices, works = self.table.devices(self.rows)
        if len(set(devices)) < LEAST_DEVICES:
            return None
        runs: dict[Any, dict[Any, list[int]]] = {}
        for index, (device, work) in enumerate(zip(devices, works, strict=True)):
            if np.isnan(predicted.value[index]):
                continue
            runs.setdefault(work, {}).setdefault(device, []).append(index)
        found = []
        for ranked in runs.values():
            if len(ranked) >= LEAST_RANKED:
                middle = [[float(np.median(of[rows])) for rows in ranked.values()] for of in (predicted.value, self.measured)]
                tau = float(stats.kendalltau(*middle).statistic)
                found += [] if np.isnan(tau) else [tau]
        return (float(np.mean(found)), len(found)) if found else None

    def figures(self) -> dict[str, Any]:
        """Everything about this set."""
        splits: dict[str, Any] = {}
        for split in self.table.groups(self.rows):
            predicted, plain = self.unseen(split)
            told = ~np.isnan(predicted.value)
            parts = {name: mask & told for name, mask in ({"": told} | dict(self.table.parts(self.rows))).items()}
            splits[split] = {
                part: asdict(judge(_some(predicted, mask), self.measured[mask], {k: v[mask] for k, v in plain.items()}))
                for part, mask in parts.items()
                if mask.any()
            }
            splits[split][""]["kendall"] = self.kendall(predicted)
        return {"rows": len(self.rows), "fitted": asdict(self.fitted()), "unseen": splits, "gates": self._gates(splits)}

    def _gates(self, splits: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [asdict(gate) | _reached(gate, splits) for gate in self.table.gates]


def _some(predicted: Predicted, mask: Any) -> Predicted:
    return Predicted(value=predicted.value[mask], low=predicted.low[mask], high=predicted.high[mask])


def _reached(gate: Gate, splits: Mapping[str, Any]) -> dict[str, Any]:
    value = splits[gate.split].get(gate.part, {}).get(gate.statistic)
    return {"value": value, "kept": value is not None and value <= gate.limit}


def in_order(chosen: Sequence[str]) -> list[str]:
    """Sets whose parameters others start from come before them.

    Raises:
        SystemExit: a set that does not exist, or one that starts from parameters that are not there.
    """
    unknown = sorted(set(chosen) - set(names()))
    if unknown:
        raise SystemExit(f"no such set: {', '.join(unknown)}; known: {', '.join(names())}")
    for name in chosen:
        needed = NEEDS.get(name, name)
        if needed not in chosen and not (FOLDER / f"{needed}.json").exists():
            raise SystemExit(f"{name} starts from {needed}, which is not fitted yet: --sets {needed},{name} --fit")
    return sorted(set(chosen), key=lambda name: (name not in NEEDS.values(), name))


def write_parameters(validation: Validation) -> None:
    """Fits all rows and writes the file that the product ships; from then on the product's functions read that."""
    document = {
        "schema": SCHEMA,
        "date": datetime.now(UTC).date().isoformat(),
        "data": validation.data,
        "fitted_by": f"benchmarks/published/{validation.table.name}.py",
        "source": validation.table.source,
        "rows": len(validation.rows),
        "parameters": validation.table.fit(validation.rows),
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{validation.table.name}.json"
    write_whole(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    parameters.cache_clear()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", help="names, with commas between them (default: all)")
    parser.add_argument("--data", type=Path, default=SHARED / "validation", help="folder of the published rows")
    parser.add_argument("--fit", action="store_true", help="write the parameters that the product ships")
    parser.add_argument("--dry", action="store_true", help="append no row and write no page")
    options = parser.parse_args()
    missed: list[str] = []
    for name in in_order(options.sets.split(",") if options.sets else names()):
        started = time.perf_counter()
        validation = Validation(name, options.data)
        if options.fit:
            write_parameters(validation)
        figures = validation.figures()
        print(accuracy_page.text(name, figures), f"({time.perf_counter() - started:.1f} s)", sep="\n", flush=True)
        missed += [f"{name}: {item.text}" for item in promises(figures) if not item.kept]
        if not options.dry:
            rows.append("validate", {"model": name, "source": validation.table.source}, figures)
            accuracy_page.write(rows.latest("validate"))
    print(f"{len(missed)} promises missed", *missed, sep="\n- ")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
