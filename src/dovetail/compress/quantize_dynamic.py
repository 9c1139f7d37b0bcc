"""Dynamic 8-bit quantisation: weights now, activations at run time from each call's own range. Needs no data.

Pays where weights outweigh activations, as in fully connected and recurrent layers. ONNX Runtime's dynamic convolution
(``ConvInteger``) is usually slower than the float one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dovetail.compress import settings
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Model, Pass, PassContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Parameters of dynamic quantisation.

    Attributes:
        weight: ``int8`` or ``uint8``.
        per_channel: one weight scale per output channel.
        reduce_range: 7-bit weights, which cannot saturate on machines without VNNI.
        conv: quantises convolutions too.
        exclude: names of operators that stay float.
    """

    weight: Literal["int8", "uint8"] = "int8"
    per_channel: bool = True
    reduce_range: bool = False
    conv: bool = False
    exclude: tuple[str, ...] = ()


class QuantizeDynamic(Pass):
    """8-bit matrix products with ranges found at run time; parameters are those of :class:`Config`."""

    name: ClassVar[str] = "quantize_dynamic"
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx``.

        Raises:
            InputError: a parameter is wrong.
            ModelError: no operator can be quantised, or ONNX Runtime's quantiser refuses the graph.
        """
        from onnxruntime.quantization import QuantType, quantize_dynamic

        from dovetail.compress import onnx_file, quiet

        config = settings.read(Config, ctx.config, self.name)
        proto = onnx_file.load(model, where=self.name)
        onnx_file.check_names(proto, config.exclude, f"{self.name}.exclude")
        types = ["MatMul", "Gemm", *(["Conv"] if config.conv else [])]
        weights = onnx_file.constants(proto)
        if not any(n.op_type in types and n.input[1] in weights and n.name not in config.exclude for n in proto.graph.node):
            raise ModelError(f"no {' or '.join(types)} with constant weights to quantise", where=str(model.path))
        path = ctx.workdir / "model.onnx"
        try:
            with quiet.silenced():
                quantize_dynamic(
                    proto,
                    path,
                    op_types_to_quantize=types,
                    per_channel=config.per_channel,
                    reduce_range=config.reduce_range,
                    weight_type=QuantType.QInt8 if config.weight == "int8" else QuantType.QUInt8,
                    nodes_to_exclude=list(config.exclude),
                    extra_options={"MatMulConstBOnly": True},
                )
        except Exception as exc:
            raise ModelError(f"onnxruntime.quantization refuses this graph: {exc}", where=str(model.path)) from exc
        return Model(path=path)
