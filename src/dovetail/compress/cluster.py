"""Weight sharing: each tensor keeps so few different values that a packed file holds them as a codebook with indices.

Han, Mao, Dally, "Deep Compression", ICLR 2016, arXiv:1510.00149. The graph stays an ordinary float graph, of the same size and
speed; what shrinks is the file that :mod:`dovetail.compress.packed` makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from dovetail.compress import settings
from dovetail.compress.quantize_static import MAX_SAMPLES, calibration_data
from dovetail.compress.shared_values import MAX_VALUES, clusters
from dovetail.core.errors import InputError, ModelError
from dovetail.core.protocols import Array, Model, Pass, PassContext

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["ClusterWeights", "Config", "clusters"]

WEIGHTED: Mapping[str, tuple[int, ...]] = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "Gather": (0,), "Einsum": (0, 1, 2, 3),
    "LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2),
}  # fmt: skip
"""Operator → places of its weights among its inputs; biases and initial states are none."""
BETWEEN = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity"})
"""Operators that may lie between a stored weight and the layer that reads it."""
ZEROS_SHARE = 0.1
"""From this share of zeros on a tensor was pruned: they stay zero, and are one of the values."""
DAMPING = 0.01
"""Added to the diagonal of second moments, as a share of its mean, so that they have an inverse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Parameters of weight sharing.

    Attributes:
        values: different values per tensor, 2 to 4096.
        weighting: with ``activations`` an error of a weight counts by what it multiplies, and weights that are not placed yet
            make up for the errors of those that are, which takes calibration samples; with ``none`` all weights count the same;
            ``auto`` does the first where there are samples.
        samples: calibration samples used, 1 to 512.
        min_elements: smaller tensors, biases and norms stay as they are.
        layers: names of the only operators whose weights share values; empty for all.
        exclude: names of operators whose weights do not.
        keep_zeros: zeros of pruned tensors stay zero.
        fold: batch norms and constant factors go into the weights first.
        small: ``half`` rounds what stays as it is to half precision, so that a packed file holds it in two bytes.
    """

    values: int = 16
    weighting: Literal["auto", "activations", "none"] = "auto"
    samples: int = 128
    min_elements: int = 256
    layers: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    keep_zeros: bool = True
    fold: bool = True
    small: Literal["keep", "half"] = "keep"

    def __post_init__(self) -> None:
        check = settings.require
        check(2 <= self.values <= MAX_VALUES, f"{self.values} lies outside 2 to {MAX_VALUES}", "cluster_weights.values")
        check(1 <= self.samples <= MAX_SAMPLES, f"{self.samples} lies outside 1 to {MAX_SAMPLES}", "cluster_weights.samples")
        check(self.min_elements >= 1, f"{self.min_elements} is less than 1", "cluster_weights.min_elements")


class ClusterWeights(Pass):
    """Few different values per weight tensor; parameters are those of :class:`Config`."""

    name: ClassVar[str] = "cluster_weights"
    needs_calibration: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx``, of the same size; :func:`dovetail.compress.packed.pack` makes the small file of it.

        Raises:
            InputError: a parameter is wrong, or names no operator.
            DataError: calibration samples are needed, and there are none or they do not fit.
            ModelError: the model cannot be read, or has no float weights to share.
        """
        from dovetail.compress.graph import files

        config = settings.read(Config, ctx.config, self.name)
        graph_model = _prepared(model, config)
        targets = _targets(graph_model, config)
        if not targets:
            raise ModelError("it has no float weights that could share values", where=str(model.path), hint=_hint(config))
        moments = _moments(graph_model, targets, config, ctx)
        power = np.zeros(2)
        for value, readers in targets.items():
            array = _array(value)
            shared = _shared(array, readers[0], moments.get(str(readers[0].name)) if _own(value, readers[0]) else None, config)
            exact = array.astype(np.float64)
            power += np.sum((exact - shared) ** 2), np.sum(exact**2)
            _store(value, shared)
        if config.small == "half":
            _halve_rest(graph_model, set(targets))
        noise_db = 10 * np.log10(power[1] / power[0]) if power.all() else np.inf
        held = f"{len(targets)} weight tensors hold at most {config.values} values each"
        ctx.note(f"{held}, {noise_db:.1f} dB above the noise of that")
        return files.save(graph_model, ctx.workdir)


def _prepared(model: Model, config: Config) -> ir.Model:
    """The graph, with batch norms folded where that was asked for, and a name for every operator."""
    from onnx_ir.passes.common import NameFixPass

    from dovetail.compress.graph import affine, files, simplify

    graph_model = files.load(model)
    if config.fold and files.opset(graph_model) >= simplify.OLDEST_OPSET:
        graph_model = simplify.simplify(graph_model)
        if simplify.apply_rules(graph_model, [affine.fold_after, affine.fold_before]):
            graph_model = simplify.simplify(graph_model)
    NameFixPass()(graph_model)
    return graph_model


def _targets(graph_model: ir.Model, config: Config) -> dict[ir.Value, list[ir.Node]]:
    """Weights to share, with the layers that read them, in the graph's order."""
    from dovetail.compress.graph.edit import constant

    found: dict[ir.Value, list[ir.Node]] = {}
    names = set()
    for graph in graph_model.graphs():
        names |= {node.name for node in graph}
        for value in graph.initializers.values():
            array = constant(value)
            if array is None or array.dtype.kind != "f" or array.ndim < 2 or array.size < config.min_elements:
                continue
            readers = [node for node, place in _readers(value) if place in WEIGHTED.get(node.op_type, ())]
            if readers and np.isfinite(array).all():
                found[value] = readers
    for key, asked in (("layers", config.layers), ("exclude", config.exclude)):
        if missing := sorted(set(asked) - names):
            what = f"no operator is named {', '.join(map(repr, missing))}"
            raise InputError(what, where=f"cluster_weights.{key}", hint="names are those after folding: run `clean` first")
    chosen = set(config.layers or names) - set(config.exclude)
    return {value: readers for value, readers in found.items() if {node.name for node in readers} <= chosen}


def _readers(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """Operators that read a stored value, and at which of their inputs; those in between are passed through."""
    found = []
    for node, place in value.uses():
        if node.op_type not in BETWEEN:
            found.append((node, place))
        elif place == 0:  # a scale is no weight
            found += _readers(node.outputs[0])
    return found


def _own(value: ir.Value, layer: ir.Node) -> bool:
    """Whether a weight is what the layer's inputs are multiplied with, so that the moments of these count."""
    return len(layer.inputs) > 1 and layer.inputs[1] is value


def _hint(config: Config) -> str | None:
    return "see layers, exclude and min_elements" if config.layers or config.exclude else None


def _moments(
    graph_model: ir.Model, targets: Mapping[ir.Value, list[ir.Node]], config: Config, ctx: PassContext
) -> dict[str, Array]:
    """Second moments of what the first reader of each weight reads, where the weight is its own operand."""
    from dovetail.compress.moments import second_moments

    if config.weighting == "none" or (config.weighting == "auto" and ctx.calibration is None):
        return {}
    data = calibration_data(ctx, "cluster_weights")
    layers = [readers[0] for value, readers in targets.items() if _own(value, readers[0])]
    return second_moments(graph_model, layers, data, config.samples, ctx.progress)


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())


def _store(value: ir.Value, array: Array) -> None:
    import onnx_ir as ir

    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)


def _shared(array: Array, layer: ir.Node, moments: Array | None, config: Config) -> Array:
    """A weight tensor with few different values, in its own type."""
    from dovetail.compress import kmeans
    from dovetail.compress.moments import as_rows, from_rows

    rows = as_rows(layer, array) if moments is not None else None
    shaped = (array if rows is None else rows).astype(np.float64)
    held = shaped == 0 if config.keep_zeros and np.mean(shaped == 0) >= ZEROS_SHARE else np.zeros(shaped.shape, bool)
    free, k = ~held, config.values - int(held.any())
    if not free.any():
        return array
    if rows is None or moments is None:
        book = kmeans.codebook(shaped[free], k).astype(array.dtype)
        placed = np.where(held, 0, book[kmeans.nearest(shaped, book.astype(np.float64))])
        return placed.astype(array.dtype)
    power = np.broadcast_to(np.diagonal(moments, axis1=1, axis2=2)[:, None, :], shaped.shape)
    book = kmeans.codebook(shaped[free], k, power[free]).astype(array.dtype)
    placed = np.stack([_compensated(w, c, book, h) for w, c, h in zip(shaped, moments, held, strict=True)])
    return from_rows(layer, placed.astype(array.dtype), array.shape)


def _compensated(rows: Array, moments: Array, book: Array, held: Array) -> Array:
    """Weights placed on a codebook feature by feature; those still to come make up for each error as well as they can.

    With ``H`` the inverse second moments of the features left, the error ``e`` of feature ``j`` is made up for by
    ``-e H[j, rest] / H[j, j]`` (Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ", ICLR 2023, arXiv:2210.17323, equation 2 and the
    Cholesky form of step 3), here with any values instead of an even grid. Features of the greatest power come first.

    Args:
        rows: ``float64[outputs, features]``.
        moments: ``float64[features, features]``.
        book: ascending values.
        held: elements that stay zero.
    """
    from dovetail.compress.kmeans import nearest

    order = np.argsort(-np.diagonal(moments), kind="stable")
    work, held = rows[:, order].copy(), held[:, order]
    damped = moments[np.ix_(order, order)] + np.eye(len(order)) * max(DAMPING * float(np.mean(np.diagonal(moments))), 1e-12)
    # the upper Cholesky factor of the inverse holds, row by row, what the elimination of one feature after another leaves
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    centers = book.astype(np.float64)
    for j in range(work.shape[1]):
        placed = np.where(held[:, j], 0.0, centers[nearest(work[:, j], centers)])
        error = (work[:, j] - placed) / upper[j, j]
        work[:, j] = placed
        work[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
    result = np.empty_like(work)
    result[:, order] = work
    return result


def _halve_rest(graph_model: ir.Model, shared: set[ir.Value]) -> None:
    """Rounds the other float constants to what half precision can hold, where it can hold them.

    The scales of a Resize stay: rounded, they can give another size.
    """
    from dovetail.compress.graph.edit import constant
    from dovetail.compress.graph.half import MAX_FLOAT16

    for graph in graph_model.graphs():
        for value in graph.initializers.values():
            array = constant(value)
            if value in shared or array is None or array.dtype != np.float32 or array.size < 2:
                continue
            if any(node.op_type == "Resize" for node, _ in value.uses()):
                continue
            if np.abs(array).max() <= MAX_FLOAT16:
                _store(value, array.astype(np.float16).astype(np.float32))
