"""Static 8-bit quantisation that leaves in float just the layers that cost the most quality for the least time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dovetail.compress import quantize_static, settings
from dovetail.compress.islands import choose_islands
from dovetail.core.errors import InputError
from dovetail.core.protocols import Dataset, Model, Pass, PassContext

if TYPE_CHECKING:
    from dovetail.compress.calibrated import Calibrated

ROUNDS = 4
"""How often the budget is halved when the chosen islands do not keep the drop, drops not being quite additive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(quantize_static.Config):
    """Parameters of static quantisation, and of the choice.

    Attributes:
        keep: names of the layers to keep in float; given, nothing is chosen, so that a recipe is reproduced.
        max_layers: islands at most; the most sensitive of the chosen ones when there are more.
        max_drop: permitted drop in the metric's unit, where the framework can score models.
        min_sqnr_db: signal-to-quantisation-noise ratio to reach on the outputs where it cannot.
        probes: samples that measure the sensitivity.
        measured: most sensitive layers whose drop and time are measured instead of derived, where the framework can.
    """

    keep: tuple[str, ...] = ()
    max_layers: int = 8
    max_drop: float = 0.01
    min_sqnr_db: float = 20.0
    probes: int = 16
    measured: int = 2

    def __post_init__(self) -> None:
        quantize_static.Config.__post_init__(self)
        for key in ("max_layers", "probes"):
            settings.require(getattr(self, key) >= 1, f"{getattr(self, key)} is less than 1", f"float_islands.{key}")
        for key in ("max_drop", "measured"):
            settings.require(getattr(self, key) >= 0, f"{getattr(self, key)} is negative", f"float_islands.{key}")


class FloatIslands(Pass):
    """8-bit quantisation with float islands; parameters are those of :class:`Config`."""

    name: ClassVar[str] = "float_islands"
    needs_calibration: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx`` and ``sensitivity.json``.

        Raises:
            InputError: a parameter is wrong, or ``keep`` names a layer that is not quantised.
            DataError: there are no calibration samples, or they do not fit the model.
            ModelError: the graph cannot be quantised.
        """
        from dovetail.compress import onnx_file
        from dovetail.compress.calibrated import calibrate

        config = settings.read(Config, ctx.config, self.name)
        dataset = quantize_static.calibration_data(ctx, self.name)
        calibrated = calibrate(model, config, dataset, ctx.progress)
        unknown = sorted(set(config.keep) - set(calibrated.layers()))
        if unknown:
            raise InputError(f"no quantised layer is named {', '.join(map(repr, unknown))}", where="float_islands.keep")
        choice = _Choice(calibrated=calibrated, config=config, dataset=dataset, ctx=ctx)
        islands = set(config.keep) or choice.islands()
        return onnx_file.save(calibrated.quantised(also_float=islands), ctx.workdir / "model.onnx")


Judge = Callable[[Collection[str]], float]
"""Drop, or relative noise power, of the whole model with these layers in float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """One choice of islands: measures, decides, and writes down why."""

    calibrated: Calibrated
    config: Config
    dataset: Dataset
    ctx: PassContext

    def islands(self) -> set[str]:
        """Layers that keep the measured drop within the limit at least cost, or the best found."""
        from dovetail.compress.sensitivity import float_penalty_s, layer_sensitivity

        noise = layer_sensitivity(self.calibrated, self.dataset, self.config.probes, self.ctx.progress)
        cost_s = float_penalty_s(self.ctx.workload, noise)
        top = sorted(noise, key=lambda layer: -noise[layer])[: self.config.measured]
        if self.ctx.cost is not None:
            cost_s |= self._measured_costs(self.ctx.cost, top)
        if self.ctx.score is None:
            drops, judge, limit = noise, self._noise_judge(), 10 ** (-self.config.min_sqnr_db / 10)
        else:
            judge, limit = self._score_judge(self.ctx.score), self.config.max_drop
            drops = _apportioned(noise, judge, top)
        islands = self._search(drops, cost_s, judge, limit)
        self._trial.unlink(missing_ok=True)
        self._write(noise, drops, cost_s, islands)
        return islands

    def _search(self, drops: Mapping[str, float], cost_s: Mapping[str, float], judge: Judge, limit: float) -> set[str]:
        """Tightens the budget until the whole model keeps the limit; drops are not quite additive."""
        best: tuple[float, set[str]] = (judge(()), set())
        budget = limit
        for _ in range(ROUNDS):
            if best[0] <= limit:
                break
            chosen = sorted(choose_islands(drops, cost_s, budget), key=lambda layer: -drops[layer])
            islands = set(chosen[: self.config.max_layers])
            best = min(best, (judge(islands), islands), key=lambda found: found[0])
            budget /= 2
        return best[1]

    def _noise_judge(self) -> Judge:
        from dovetail.compress.sensitivity import noise, outputs

        probes = self.config.probes
        reference = outputs(self.calibrated.proto, self.dataset, probes)
        return lambda floats: noise(reference, outputs(self.calibrated.quantised(floats), self.dataset, probes))

    def _score_judge(self, score: Callable[[Model], float]) -> Judge:
        return lambda floats: score(self._file(floats))

    def _measured_costs(self, cost: Callable[[Model], float], layers: Collection[str]) -> dict[str, float]:
        base_s = cost(self._file(()))
        return {layer: cost(self._file((layer,))) - base_s for layer in layers}

    @property
    def _trial(self) -> Path:
        return self.ctx.workdir / "trial.onnx"

    def _file(self, also_float: Collection[str]) -> Model:
        from dovetail.compress import onnx_file

        return onnx_file.save(self.calibrated.quantised(also_float), self._trial)

    def _write(
        self, noise: Mapping[str, float], drops: Mapping[str, float], cost_s: Mapping[str, float], islands: Collection[str]
    ) -> None:
        rows: list[dict[str, Any]] = [
            {"layer": n, "noise": noise[n], "drop": drops[n], "cost_s": cost_s[n], "float": n in islands} for n in noise
        ]
        text = json.dumps({"config": dataclasses.asdict(self.config), "layers": rows}, indent=1)
        (self.ctx.workdir / "sensitivity.json").write_text(text + "\n", encoding="utf-8")


def _apportioned(noise: Mapping[str, float], judge: Judge, top: Collection[str]) -> dict[str, float]:
    """Drop ascribed to each layer: measured alone for ``top``, the rest of the total shared out by noise power."""
    measured = {layer: judge(set(noise) - {layer}) for layer in top}
    rest = sum(power for layer, power in noise.items() if layer not in measured)
    scale = max(judge(()) - sum(measured.values()), 0.0) / rest if rest else 0.0
    return {layer: measured.get(layer, power * scale) for layer, power in noise.items()}
