"""Distillation: trains a network to answer as the original does (Hinton et al. 2015). Labels are not needed."""

from __future__ import annotations

from typing import ClassVar

from dovetail.compress import settings
from dovetail.compress.training_settings import Training, looks, train
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Model, Pass, PassContext


class Distil(Pass):
    """Training with the original as teacher; parameters are those of :class:`dovetail.compress.training_settings.Training`."""

    name: ClassVar[str] = "distil"
    version: ClassVar[int] = 3
    trains: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx``: the same graph with trained weights.

        Raises:
            InputError: a parameter is wrong.
            DataError: there are no training samples.
            ModelError: the graph cannot be trained, or is quantised.
        """
        import onnx

        config = settings.read(Training, ctx.config, self.name)
        proto = onnx.load(model.path, load_external_data=False)
        if any(node.op_type == "DequantizeLinear" for node in proto.graph.node):
            raise ModelError("the graph is quantised", where=self.name, hint="quantize_aware trains under 8-bit rounding")
        return train(model, config, looks(proto), ctx).model
