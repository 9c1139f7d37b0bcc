"""Half-precision weights, and on request half-precision arithmetic, behind a float32 interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from dovetail.compress import settings
from dovetail.compress.calibration import sweep
from dovetail.compress.graph import files, simplify
from dovetail.compress.graph.edit import all_nodes, constant
from dovetail.compress.graph.half import MAX_FLOAT16, run_half, store_half
from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array, Model, Pass, PassContext

OVERFLOW_PRONE = (
    "CumSum", "Exp", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "Pow",
    "ReduceL2", "ReduceLogSumExp", "ReduceSum", "ReduceSumSquare", "Softmax",
)  # fmt: skip
"""Operators that sum or raise many values: they leave float16's range first."""
QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Float16Config:
    """What becomes half precision.

    Attributes:
        dtype: ``float16`` or ``bfloat16``.
        compute: ``half`` runs operators in float16; ``float32`` stores weights in half precision and computes as before, which
            costs no time where the runtime converts them once at load. bfloat16 is for storage alone: runtimes have few bf16
            kernels to call by type, and offer bf16 arithmetic as an option of theirs.
        keep: operator types and node names that stay in float32, besides those that calibration finds.
        samples: calibration samples that the range check runs.
        headroom: an operator stays in float32 when its values times this exceed float16's range.
    """

    dtype: Literal["float16", "bfloat16"] = "float16"
    compute: Literal["half", "float32"] = "half"
    keep: tuple[str, ...] = OVERFLOW_PRONE
    samples: int = 16
    headroom: float = 2.0

    def __post_init__(self) -> None:
        settings.require(self.samples >= 1, f"samples is 1 or more, not {self.samples}", "float16.samples")
        settings.require(self.headroom >= 1, f"headroom is 1 or more, not {self.headroom}", "float16.headroom")
        storage = self.dtype == "float16" or self.compute == "float32"
        settings.require(storage, "bfloat16 needs compute = float32", "float16.dtype")


class Float16(Pass):
    """Halves the file."""

    name: ClassVar[str] = "float16"
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes the converted model; parameters as in :class:`Float16Config`.

        Raises:
            InputError: a parameter is malformed.
            ModelError: the model is quantised already or has nothing to convert.
            DataError: calibration samples do not fit the model.
        """
        config = settings.read(Float16Config, ctx.config, self.name)
        graph_model = files.load(model)
        found = next((n.op_type for n in all_nodes(graph_model) if n.op_type in QUANTISED), None)
        if found is not None:
            raise ModelError(f"the model is quantised already (it has {found})", where=self.name)
        if config.compute == "float32":
            target = ir.DataType.FLOAT16 if config.dtype == "float16" else ir.DataType.BFLOAT16
            if not store_half(graph_model, target):
                raise ModelError("no float32 weights to convert", where=self.name)
            return files.save(graph_model, ctx.workdir)
        return self._convert(graph_model, config, ctx)

    def _convert(self, graph_model: ir.Model, config: Float16Config, ctx: PassContext) -> Model:
        graph_model = simplify.simplify(graph_model)
        for index, node in enumerate(all_nodes(graph_model)):
            node.name = node.name or f"{node.op_type}_{index}"
        beyond = _weights_beyond(graph_model, config) | _activations_beyond(graph_model, config, ctx)
        stays = beyond | set(config.keep)
        if not run_half(graph_model, lambda node: bool(stays & {node.op_type, str(node.name)})):
            raise ModelError("no operator can run in float16", where=self.name)
        note = f"float32 kept for {len(beyond)} operators beyond float16's range: {', '.join(sorted(beyond)[:5])}"
        ctx.progress(1.0, note if beyond else "converted")
        return files.save(graph_model, ctx.workdir)


def _weights_beyond(model: ir.Model, config: Float16Config) -> set[str]:
    """Nodes with a constant operand that float16 cannot hold."""
    return {str(node.name) for node in all_nodes(model) if any(_beyond(constant(v), config) for v in node.inputs)}


def _activations_beyond(graph_model: ir.Model, config: Float16Config, ctx: PassContext) -> set[str]:
    """Nodes of the main graph that read or write values beyond the range on some calibration sample; none without data."""
    if ctx.calibration is None:
        return set()
    tensors = [str(v.name) for node in graph_model.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT]
    proto = ir.to_proto(ir.external_data.load_to_model(graph_model))
    large: set[str] = set()
    for values in sweep(proto, tensors, ctx.calibration, config.samples, ctx.progress):
        large |= {name for name, array in values.items() if _beyond(array, config)}
    return {str(node.name) for node in proto.graph.node if large & {*node.input, *node.output}}


def _beyond(array: Array | None, config: Float16Config) -> bool:
    """Whether a float32 array holds a value that float16 cannot, headroom included; NaN counts."""
    if array is None or array.dtype != np.float32 or not array.size:
        return False
    return not float(np.abs(array).max()) * config.headroom <= MAX_FLOAT16
