"""Lossless clean-up: what can be computed once is computed once, and what remains has the form that runtimes run fastest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dovetail.compress import settings
from dovetail.compress.graph import activation, affine, files, matmul, normalization, pooling, shortcut, simplify
from dovetail.core.protocols import Model, Pass, PassContext


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanConfig:
    """Which groups of rewrite rules apply.

    Attributes:
        affine: batch norms and constant factors and offsets go into the weights next to them.
        shortcut_conv: parameter-free residual shortcuts become 1×1 convolutions.
        gemm: form of fully connected layers: ``gemm``, ``matmul`` (MatMul and Add) or ``keep``.
        pooling: global means become GlobalAveragePool, padding goes into AveragePool.
        pixel_shuffle: rearrangements of channels into pixels become DepthToSpace.
        normalization: written-out layer norms become one operator where the opset has it.
        activation: so do GELUs; bounds in a row (ReLU6) become one.
    """

    affine: bool = True
    shortcut_conv: bool = True
    gemm: Literal["gemm", "matmul", "keep"] = "gemm"
    pooling: bool = True
    pixel_shuffle: bool = True
    normalization: bool = True
    activation: bool = True


class Clean(Pass):
    """Removes what costs time and changes nothing; outputs equal the original's up to float rounding."""

    name: ClassVar[str] = "clean"
    lossless: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes the cleaned model; parameters as in :class:`CleanConfig`.

        Raises:
            InputError: unknown parameter.
            ModelError: the model cannot be read, or its opset is too old (:data:`.simplify.OLDEST_OPSET`).
        """
        config = settings.read(CleanConfig, ctx.config, self.name)
        graph_model = simplify.simplify(files.load(model))
        ctx.progress(0.5, "rewriting")
        if simplify.apply_rules(graph_model, rules(config, files.opset(graph_model))):
            graph_model = simplify.simplify(graph_model)
        ctx.progress(1.0, "cleaned")
        return files.save(graph_model, ctx.workdir)


def rules(config: CleanConfig, opset: int) -> list[simplify.Rule]:
    """The rewrite rules of a configuration, in the order they are tried.

    Patterns of several operators come before the rules that take operators out of them.
    """
    chosen: list[simplify.Rule] = []
    if config.normalization and opset >= normalization.LAYER_NORM_OPSET:
        chosen.append(normalization.layer_norm)
    if config.activation and opset >= activation.GELU_OPSET:
        chosen.append(activation.gelu)
    if config.activation:
        chosen.append(activation.merge_bounds)
    if config.shortcut_conv:
        chosen.append(shortcut.shortcut_to_conv)
    if config.pixel_shuffle:
        chosen.append(pooling.pixel_shuffle)
    if config.pooling:
        chosen += [pooling.pad_to_average_pool, pooling.mean_to_global_pool, pooling.average_to_global_pool]
    if config.gemm == "gemm":
        chosen.append(matmul.matmul_to_gemm)
    if config.affine:
        chosen += [affine.fold_after, affine.fold_before]
    if config.gemm == "matmul":
        chosen.append(matmul.gemm_to_matmul)
    return chosen
