"""What a calibration of this machine says of recipes that nobody has run yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dovetail.core.calibration import CALIBRATED, Calibration
from dovetail.core.errors import InputError
from dovetail.core.estimate import Estimate
from dovetail.core.measurement import Environment
from dovetail.core.recipe import Recipe, Scalar
from dovetail.core.workload import Workload
from dovetail.pipeline import calibrate
from dovetail.pipeline.learned import learned
from dovetail.predict.machine_model import MachineModel, Setting, setting
from dovetail.predict.plan_model import Plan, form, plan
from dovetail.search.race import TUNE_WITHIN

UNCALIBRATED_OPTION = math.exp(TUNE_WITHIN)
"""Factor that an option may change a time by which was not calibrated."""
_FLOAT = frozenset({"clean", "static_shapes", "fold_input", "lower_litert"})
"""Passes that leave a model's numbers in float."""
_INT8 = frozenset({"quantize_static", "quantize_nncf"})
"""Passes that leave chains of 8-bit operators."""
_DYNAMIC = frozenset({"quantize_dynamic"})
"""Passes that leave 8-bit matrix products between float operators."""
_ONE_THREAD = frozenset({"litert"})
"""Runtimes whose own choice is one thread; the others take all cores."""


class ModelForecast:
    """Ratios of the times of one model's recipes.

    Args:
        machine: learned from the calibration.
        workload: of the model as it was given.
        cores: of this machine.
    """

    def __init__(self, machine: MachineModel, workload: Workload, cores: int) -> None:
        self._machine, self._cores = machine, cores
        self._plan: Plan = plan(workload)
        self._original = form(workload)
        self._known = frozenset(machine.settings)
        self._ratios: dict[tuple[Setting, Setting], Estimate | None] = {}

    def ratio(self, recipe: Recipe, measured: Recipe) -> Estimate | None:
        """Time of a recipe over that of one that was measured; ``None`` where the calibration has no like of them."""
        one, other = self._setting(recipe), self._setting(measured)
        if one is None or other is None:
            return None
        if (one, other) not in self._ratios:
            self._ratios[one, other] = self._told(one, other)
        return _widened(self._ratios[one, other], len(_uncalibrated(recipe) ^ _uncalibrated(measured)))

    def _told(self, one: Setting, other: Setting) -> Estimate | None:
        try:
            return self._machine.ratio(one, other, self._plan)
        except KeyError:
            return None

    def _setting(self, recipe: Recipe) -> Setting | None:
        """The calibrated setting that a recipe comes down to, but for options that were not calibrated."""
        names = {step.name for step in recipe.passes}
        made = _form(names) or self._original
        if made is None or names - _FLOAT - _INT8 - _DYNAMIC:
            return None
        options: dict[str, Scalar] = {"threads": threads_of(recipe.runtime, recipe.settings, self._cores)}
        precision = recipe.settings.get("precision")
        if precision in ("bf16", "f16") and made == "float":
            options["precision"] = precision
        found = setting(recipe.runtime, made, options)
        return found if found in self._known else None


def _form(passes: set[str]) -> str | None:
    """That passes bring a model to, as calibrations call it; ``None`` where they leave its numbers as they are."""
    return "int8" if passes & _INT8 else "int8-dynamic" if passes & _DYNAMIC else None


def _uncalibrated(recipe: Recipe) -> set[tuple[str, object]]:
    """Options that no calibration tried."""
    return {(name, value) for name, value in recipe.options if name not in CALIBRATED}


def _widened(ratio: Estimate | None, options: int) -> Estimate | None:
    """A ratio whose sides differ in so many options of which nothing is known but that each may gain, or cost, so much."""
    if ratio is None or not options:
        return ratio
    factor = UNCALIBRATED_OPTION**options
    return replace(ratio, low=ratio.low / factor, high=ratio.high * factor)


def threads_of(runtime: str, options: Mapping[str, Scalar], cores: int) -> int:
    """Threads as the options say, else as the runtime chooses by itself."""
    chosen = options.get("threads")
    return chosen if isinstance(chosen, int) else 1 if runtime in _ONE_THREAD else cores


def machine_model(folder: Path, machine: Environment) -> MachineModel | None:
    """Learned from the calibration that lies in a folder; ``None`` where there is none of this machine with these libraries."""
    path = folder / calibrate.FILE
    if not path.exists():
        return None
    try:
        found = learned(path, folder)
    except InputError:
        return None
    return MachineModel(found) if found.calls and not unlike(found.calibration, machine) else None


def ignored(folder: Path, machine: Environment) -> str:
    """Why a stored calibration steers no search, and what to do about it; empty where it does, or where there is none."""
    path = folder / calibrate.FILE
    if not path.exists():
        return ""
    try:
        why = unlike(learned(path, folder).calibration, machine)
        why = f"it is of {why}" if why else ""
    except InputError as error:
        why = error.what
    return f"the calibration {path} is ignored: {why}; `dovetail devices probe --calibrate` replaces it" if why else ""


def unlike(calibration: Calibration, machine: Environment) -> str:
    """What a calibration is of where it is not of this machine with these runtimes; empty where it is."""
    made = calibration.environment
    if made.fingerprint != machine.fingerprint:
        return f"another machine: {made.cpu}, {made.cores} cores"
    pairs = [(name, made.versions.get(name, "none"), machine.versions.get(name, "none")) for name in _PACKAGES]
    other = [f"{name} {old}, now {new}" for name, old, new in pairs if old != new]
    return f"other versions: {'; '.join(other)}" if other else ""


_PACKAGES = ("onnxruntime", "openvino", "ai-edge-litert")
"""Whose version decides which kernels run."""
