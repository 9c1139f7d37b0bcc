"""Unstructured pruning: single weights become zero. This saves storage where zeros are coded; no kernel here skips them.

No claim of speed is made. Training afterwards can hold the zeros (:func:`masks`).
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from dovetail.compress import settings
from dovetail.compress.graph import files
from dovetail.compress.prune import importance, report
from dovetail.compress.prune.graph import QUANTISED, finish, interface
from dovetail.compress.prune.walk import is_constant
from dovetail.core import units
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array, Model, Pass, PassContext

WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2),
}  # fmt: skip
"""Operator → places of its weights among its inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How many weights become zero, and which.

    Attributes:
        sparsity: share of zeros in the end, above 0 and below 1.
        scope: the share of every tensor, or of all weights together.
        importance: ``magnitude`` or ``normalized`` (|w| / σ of the tensor), which suits ``global``.
        exclude: operators whose weights stay.
    """

    sparsity: float = 0.5
    scope: Literal["local", "global"] = "global"
    importance: Literal["magnitude", "normalized"] = "normalized"
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settings.require(0 < self.sparsity < 1, f"{self.sparsity} lies outside 0 to 1", "prune_weights.sparsity")


class PruneWeights(Pass):
    """Sets the least important weights to zero; parameters are those of :class:`Config`."""

    name: ClassVar[str] = "prune_weights"

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx``, of the same size and speed, and ``pruned.json``; notes the size that coding would give.

        Raises:
            InputError: a parameter is wrong, or ``exclude`` names no operator.
            ModelError: not readable, quantised, without weights, or left with a tensor of zeros alone.
        """
        config = settings.read(Config, ctx.config, self.name)
        graph_model = files.load(model)
        if any(node.op_type in QUANTISED for graph in graph_model.graphs() for node in graph):
            raise ModelError("prune_weights needs a float model", where=str(model.path), hint="prune first, then quantise")
        before, tensors = interface(graph_model), _tensors(graph_model, config.exclude)
        if not tensors:
            raise ModelError("has no weights to prune", where=str(model.path))
        arrays = {name: _array(value) for name, value in tensors.items()}
        kept = keep(arrays, config.sparsity, config.scope, config.importance)
        empty = [name for name, mask in kept.items() if arrays[name].any() and not arrays[name][mask].any()]
        if empty:
            what = f"every weight of {', '.join(map(repr, empty))} would become zero"
            raise ModelError(what, where=self.name, hint="ask for a smaller sparsity, or exclude the operators that read it")
        for name, value in tensors.items():
            value.const_value = ir.tensor(np.where(kept[name], arrays[name], 0).astype(arrays[name].dtype), name=name)
        rows = [{"layer": n, "before": m.size, "after": int(m.sum())} for n, m in kept.items()]
        stored = [_array(value) for value in tensors.values()]
        sizes = {"dense_bytes": sum(a.nbytes for a in stored), "zlib_bytes": _zlib(stored), "bitmask_bytes": _bitmask(stored)}
        report.write(ctx.workdir, "weights", config.importance, rows, config=dataclasses.asdict(config), **sizes)
        ctx.note(
            f"{1 - sum(int(m.sum()) for m in kept.values()) / sum(m.size for m in kept.values()):.0%} of the weights are zero: "
            f"{units.size(sizes['dense_bytes'])} would take {units.size(sizes['zlib_bytes'])} in zlib and "
            f"{units.size(sizes['bitmask_bytes'])} with a bit mask; no faster"
        )
        return finish(graph_model, before, ctx)


def keep(
    weights: Mapping[str, Array],
    sparsity: float,
    scope: Literal["local", "global"],
    method: importance.Elementwise,
    gradients: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Name → which weights stay, ``bool`` of the tensor's shape. Exactly ``round(sparsity · n)`` go, the least important.

    Args:
        weights: name → tensor.
        sparsity: share that goes, of each tensor (``local``) or of all (``global``).
        scope: see there.
        method: importance of single weights.
        gradients: name → gradient, for ``taylor``.
    """
    scores = {name: importance.of_weights(w, method, (gradients or {}).get(name)) for name, w in weights.items()}
    if scope == "local":
        return {name: _most(score.ravel(), sparsity).reshape(score.shape) for name, score in scores.items()}
    if not scores:
        return {}
    mask = _most(np.concatenate([score.ravel() for score in scores.values()]), sparsity)
    parts = np.split(mask, np.cumsum([score.size for score in scores.values()])[:-1])
    return {name: part.reshape(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def cubic(step: float, begin: float, end: float, final: float, initial: float = 0.0) -> float:
    """Sparsity at a step of gradual pruning: fast at first, slow near the end.

    s = s_f + (s_i - s_f) · (1 - (t - t_0) / (t_1 - t_0))³ (Zhu and Gupta, "To prune, or not to prune", 2017, equation 1).

    Raises:
        InputError: the end does not lie behind the beginning.
    """
    if end <= begin:
        raise InputError(f"the schedule ends at {end:g}, before it begins at {begin:g}", where="cubic")
    done = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return final + (initial - final) * (1 - done) ** 3


def masks(model: Model) -> dict[str, Array]:
    """Weight's name → which of its elements are not zero, ``bool`` of its shape: what training must leave at zero.

    Weights without zeros are left out.

    Raises:
        ModelError: the model cannot be read.
    """
    arrays = {name: _array(value) for name, value in _tensors(files.load(model), ()).items()}
    return {name: array != 0 for name, array in arrays.items() if not array.all()}


def _tensors(graph_model: ir.Model, exclude: Sequence[str]) -> dict[str, ir.Value]:
    """Weights of two axes or more, by name, in execution order."""
    names = {str(node.name) for node in graph_model.graph}
    missing = sorted(set(exclude) - names)
    if missing:
        raise InputError(f"no operator is named {', '.join(map(repr, missing))}", where="prune_weights.exclude")
    found: dict[str, ir.Value] = {}
    for node in graph_model.graph:
        for place in WEIGHTS.get(node.op_type, ()) if node.name not in exclude else ():
            value = node.inputs[place] if place < len(node.inputs) else None
            if value is not None and is_constant(value) and _array(value).ndim >= 2 and _array(value).dtype.kind == "f":
                found[str(value.name)] = value
    return found


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    array: Array = value.const_value.numpy()
    return array


def _most(scores: Array, sparsity: float) -> Array:
    mask = np.ones(scores.size, bool)
    mask[np.argsort(scores, kind="stable")[: round(sparsity * scores.size)]] = False
    return mask


def _zlib(arrays: Sequence[Array]) -> int:
    return sum(len(zlib.compress(np.ascontiguousarray(array).tobytes(), 6)) for array in arrays)


def _bitmask(arrays: Sequence[Array]) -> int:
    """One bit for every weight, and the weights that are not zero."""
    return sum(-(-array.size // 8) + int(np.count_nonzero(array)) * array.itemsize for array in arrays)
