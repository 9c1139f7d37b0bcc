"""Quantisation-aware training: static 8-bit quantisation, then training under its rounding (Jacob 2018).

The quantised graph itself is trained: its rounding is what the runtime computes, so nothing is lost on the way out.
"""

from __future__ import annotations

from dataclasses import fields
from typing import ClassVar

from dovetail.compress import settings
from dovetail.compress.quantize_static import Config, calibration_data
from dovetail.compress.training_settings import Training, looks, train
from dovetail.core.protocols import Model, Pass, PassContext

_TRAINING = frozenset(field.name for field in fields(Training))


class QuantizeAware(Pass):
    """8-bit weights and activations, trained to answer as the original does.

    Parameters are those of :class:`dovetail.compress.quantize_static.Config` and of
    :class:`dovetail.compress.training_settings.Training`.
    """

    name: ClassVar[str] = "quantize_aware"
    version: ClassVar[int] = 3
    needs_calibration: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx``, quantised.

        Raises:
            InputError: a parameter is wrong.
            DataError: there are no calibration or training samples, or they do not fit the model.
            ModelError: the graph cannot be quantised or trained.
        """
        from dovetail.compress import onnx_file
        from dovetail.compress.calibrated import calibrate

        rounding = settings.read(Config, {k: v for k, v in ctx.config.items() if k not in _TRAINING}, self.name)
        config = settings.read(Training, {k: v for k, v in ctx.config.items() if k in _TRAINING}, self.name)
        calibrated = calibrate(model, rounding, calibration_data(ctx, self.name), ctx.progress)
        quantised = onnx_file.save(calibrated.quantised(), ctx.workdir / "rounded.onnx")
        return train(quantised, config, looks(onnx_file.load(model, where=self.name)), ctx, fine=True).model
