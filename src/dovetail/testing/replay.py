"""A bench that replays recorded measurements, so that whatever decides on them is tested without a clock."""

from __future__ import annotations

import json
from pathlib import Path

from dovetail.core.errors import InputError
from dovetail.core.measurement import Measurement
from dovetail.core.outcome import Infeasible
from dovetail.core.protocols import Bench, Model
from dovetail.core.recipe import Recipe
from dovetail.core.serial import decode, encode


class ReplayBench:
    """Answers :class:`dovetail.core.protocols.Bench` from a JSONL file; the model is not looked at.

    Each line holds ``recipe`` (its key) and either ``measurement`` (block medians and quantiles) or ``infeasible``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        self._rows = {row["recipe"]: row for row in rows}

    def measure(self, recipe: Recipe, model: Model) -> Measurement | Infeasible:
        """What was recorded of the recipe.

        Raises:
            InputError: nothing was recorded of it.
        """
        row = self._rows.get(recipe.key)
        if row is None:
            raise InputError(f"no measurement is recorded of {recipe}", where=str(self._path))
        if "infeasible" in row:
            return decode(Infeasible, row["infeasible"])
        return decode(Measurement, row["measurement"])


class RecordingBench:
    """Passes every question on to another bench and appends the answers to a file that :class:`ReplayBench` reads."""

    def __init__(self, bench: Bench, path: Path) -> None:
        self._bench, self._path = bench, path

    def measure(self, recipe: Recipe, model: Model) -> Measurement | Infeasible:
        """The other bench's answer, recorded."""
        answer = self._bench.measure(recipe, model)
        kind = "infeasible" if isinstance(answer, Infeasible) else "measurement"
        with self._path.open("a") as file:
            file.write(json.dumps({"recipe": recipe.key, kind: encode(answer)}) + "\n")
        return answer
