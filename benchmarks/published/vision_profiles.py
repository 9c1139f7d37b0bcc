"""What timm's networks are made of: sums over their operators, traced once by ``benchmarks/timm_profiles.py``."""

from __future__ import annotations

import csv
import difflib
import gzip
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dovetail.predict.nets.quantities import FIXED, FLOP, QUANTITIES
from published.table import Floats

FILE = Path(__file__).with_name("timm_profiles.csv.gz")
_AGREE = 0.1
"""Relative difference from timm's stated operations from which a profile is scaled to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """Name → side of the image → quantities of one sample."""

    by_name: dict[str, dict[int, Floats]]

    @classmethod
    def load(cls, path: Path = FILE) -> Profiles:
        """From the file."""
        found: dict[str, dict[int, Floats]] = {}
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                values = np.array([float(line[name] or 0) for name in QUANTITIES])
                found.setdefault(line["name"], {})[int(line["size"])] = values
        return cls(by_name=found)

    def find(self, name: str, size: float, gmacs: float | None) -> Floats:
        """``[quantities]`` of a network: of the nearest name and image size that was traced, scaled to the operations stated.

        Raises:
            LookupError: no traced name is near.
        """
        sizes = self.by_name.get(name)
        if sizes is None:
            near = difflib.get_close_matches(name, self.by_name, n=1, cutoff=0.6)
            if not near:
                raise LookupError(f"no network like {name} was traced; run benchmarks/timm_profiles.py with a timm that has it")
            sizes = self.by_name[near[0]]
        traced = min(sizes, key=lambda side: abs(math.log(side / size)))
        values = sizes[traced]
        if gmacs:
            factor = gmacs * 2e9 / max(float(values[: len(FLOP)].sum()), 1.0)
        else:
            factor = (size / traced) ** 2
        return values if abs(math.log(factor)) < _AGREE else _scaled(values, factor)


def _scaled(values: Floats, factor: float) -> Floats:
    """A network of more pixels: all but the number of operators and parameters grows."""
    return np.where(FIXED, values, values * factor)


def family(name: str) -> str:
    """Letters that a name begins with: ``resnet50d`` → ``resnet``."""
    found = re.match(r"(?:tf_|gluon_|legacy_|tv_|ssl_|swsl_|ig_)?([a-z]+)", name)
    return found[1] if found else name
