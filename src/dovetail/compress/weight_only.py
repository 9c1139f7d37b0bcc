"""Weight-only quantisation to 8 or 4 bits, block by block; activations stay float. Needs no data.

Below 8 bits this is storage: x86 has no arithmetic on 4-bit integers, so kernels widen the weights to 8 bits or float before
they multiply. It can still be faster where reading the weights is what takes the time, as in large matrix-vector products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dovetail.compress import settings
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Model, Pass, PassContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Parameters of weight-only quantisation.

    Attributes:
        target: ``onnx`` writes ONNX Runtime's ``MatMulNBits``, ``openvino`` NNCF's compressed weights.
        bits: 8 or 4.
        block_size: weights that share a scale, a power of two from 16; with ``openvino`` and 8 bits a scale serves a channel.
        symmetric: no zero points.
        accuracy_level: how ``MatMulNBits`` multiplies: 0 as it likes, 1 in float32, 4 in 8-bit integers.
        exclude: names of operators that stay float.
    """

    target: Literal["onnx", "openvino"] = "onnx"
    bits: Literal[8, 4] = 8
    block_size: int = 32
    symmetric: bool = True
    accuracy_level: Literal[0, 1, 4] = 4
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        power = self.block_size >= 16 and self.block_size & (self.block_size - 1) == 0
        settings.require(power, f"{self.block_size} is not a power of two from 16", "weight_only.block_size")


class WeightOnly(Pass):
    """8- or 4-bit weights under float activations; parameters are those of :class:`Config`."""

    name: ClassVar[str] = "weight_only"
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx``, or ``model.xml`` and ``model.bin``.

        Raises:
            InputError: a parameter is wrong.
            ModelError: there is no matrix product with constant weights, or the vendor's tool refuses the graph.
        """
        config = settings.read(Config, ctx.config, self.name)
        write = _openvino if config.target == "openvino" else _onnx
        return write(model, config, ctx)


def _onnx(model: Model, config: Config, ctx: PassContext) -> Model:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    from dovetail.compress import onnx_file, quiet

    proto = onnx_file.load(model, where="weight_only")
    onnx_file.check_names(proto, config.exclude, "weight_only.exclude")
    graph = ONNXModel(proto)
    try:
        with quiet.silenced():
            graph.replace_gemm_with_matmul()
            quantizer = MatMulNBitsQuantizer(
                graph.model,
                bits=config.bits,
                block_size=config.block_size,
                is_symmetric=config.symmetric,
                accuracy_level=config.accuracy_level,
                nodes_to_exclude=list(config.exclude),
                op_types_to_quantize=("MatMul",),
            )
            quantizer.process()
    except Exception as exc:
        raise ModelError(f"ONNX Runtime's weight quantiser refuses this graph: {exc}", where=str(model.path)) from exc
    quantised = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for node in quantised.graph.node):
        raise ModelError("no matrix product with constant weights to quantise", where=str(model.path))
    return onnx_file.save(quantised, ctx.workdir / "model.onnx")


def _openvino(model: Model, config: Config, ctx: PassContext) -> Model:
    from dovetail.compress import openvino_file, quiet

    source = openvino_file.load(model)
    nncf = quiet.import_nncf()
    try:
        with quiet.silenced():
            compressed = nncf.compress_weights(
                source,
                mode=_mode(nncf, config),
                group_size=config.block_size if config.bits == 4 else None,
                all_layers=True if config.bits == 4 else None,
                ignored_scope=nncf.IgnoredScope(names=list(config.exclude)),
            )
    except Exception as exc:
        raise ModelError(f"NNCF refuses this graph: {exc}", where=str(model.path)) from exc
    return openvino_file.save(compressed, ctx.workdir / "model.xml")


def _mode(nncf: Any, config: Config) -> Any:
    kind = "SYM" if config.symmetric else "ASYM"
    return getattr(nncf.CompressWeightsMode, f"INT{config.bits}_{kind}")
