"""Fits what layers read to what pruning leaves them, so that their outputs change as little as they can without training.

A layer that loses inputs computes ``W_k x_k`` where it computed ``W_k x_k + W_r x_r``. The change of ``W_k``, and of the bias,
that comes nearest to the lost ``W_r x_r`` on calibration samples is a least-squares problem (He, Zhang, Sun, "Channel pruning
for accelerating very deep neural networks", ICCV 2017). It is damped towards no change: few samples must not bend many weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dovetail.compress.calibration import sweep
from dovetail.compress.graph import edit
from dovetail.compress.moments import as_rows, from_rows, reads
from dovetail.compress.prune.coupling import Coupling
from dovetail.compress.prune.walk import Layer, constant_shape, is_constant
from dovetail.core.protocols import Array, Dataset

SAMPLES = 64
"""Calibration samples at most."""
ROWS = 24
"""Places per feature that a fit sees, where there are as many."""
MAX_FEATURES = 2400
"""Longest input that is fitted: 266 channels under a 3×3 kernel. A fit takes time with the cube of it."""
DAMPING = 0.003
"""Relative to the mean square of a feature, at :data:`ROWS` places per feature; more where there are fewer."""
PARTS = 20
"""Parts that layers are fitted in at most, but for memory; every part reads the samples anew. The more parts, the better: the
figures are in docs/decisions/2026-11-27-pruning.md."""
LAYER_NUMBERS, PART_NUMBERS = 1 << 26, 1 << 27
"""Numbers, of 4 bytes, kept of what one layer reads, and a part's layers together; a fit takes six times the first."""

Report = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A layer that loses inputs.

    Attributes:
        layer: the layer.
        shape: of its weights in the original.
        kept: which features of its input stay, ``bool[features]``.
        rows: weights in the original of the outputs that stay, ``float64[outputs, features]``.
    """

    layer: Layer
    shape: tuple[int, ...]
    kept: Array
    rows: Array

    @property
    def reads(self) -> str:
        """The tensor that it reads."""
        value = self.layer.node.inputs[0]
        assert value is not None
        return str(value.name)

    @property
    def places(self) -> int:
        """Places that a fit wants to see."""
        return min(ROWS * len(self.kept), LAYER_NUMBERS // len(self.kept))


class Reconstruction:
    """Remembers a graph before units go, and fits what is left of it once they have gone.

    Convolutions without groups and matrix products are fitted, where their weights have no other reader.

    Args:
        coupling: the graph, from which ``units`` were not yet removed.
        units: those that will go.
    """

    def __init__(self, coupling: Coupling, units: Collection[int]) -> None:
        self._model = coupling.model
        self._losses = [found for layer in coupling.layers if (found := _loss(coupling, layer, units)) is not None]
        self._original = ir.to_proto(ir.external_data.load_to_model(coupling.model)) if self._losses else None

    def fit(self, samples: Dataset, report: Report = lambda share, text: None) -> int:
        """Fits the layers that have lost inputs; returns how many.

        They go in execution order, some at a time: each reads what the pruned layers before it leave, and is fitted to what it
        computed in the original.

        Raises:
            DataError: there are no samples, or they do not fit the model.
            ModelError: the model cannot be run.
        """
        parts, fitted = list(_parts(self._losses)), 0
        at_once = sum(map(_numbers, self._losses)) <= PART_NUMBERS
        known = _read(self._original, self._losses, samples, whole=True) if at_once and self._losses else []
        for done, part in enumerate(parts):
            report(done / len(parts), "fitting what remains")
            left = _read(ir.to_proto(self._model), part, samples, whole=False)
            before = known[: len(part)] if at_once else _read(self._original, part, samples, whole=True)
            del known[: len(part)]
            fitted += sum(_refit(loss, *_same_places(b, a)) for loss, b, a in zip(part, before, left, strict=True))
        return fitted


def _numbers(loss: Loss) -> int:
    return loss.places * len(loss.kept)


def _parts(losses: Sequence[Loss]) -> Iterator[list[Loss]]:
    """A few layers at a time, so that errors of earlier ones are seen and what all read fits into memory."""
    most = -(-len(losses) // PARTS)
    part: list[Loss] = []
    for loss in losses:
        if part and (len(part) == most or sum(map(_numbers, (*part, loss))) > PART_NUMBERS):
            yield part
            part = []
        part.append(loss)
    if part:
        yield part


_Seen = list[tuple[int, Array]]
"""By sample: the places that there are, and what a layer reads at some of them, ``float32[places, features]``."""


def _read(proto: Any, losses: Sequence[Loss], samples: Dataset, *, whole: bool) -> list[_Seen]:
    """What layers read in a graph, the original (``whole``) or the pruned one."""
    count = min(SAMPLES, len(samples))
    seen: list[_Seen] = [[] for _ in losses]
    names = list(dict.fromkeys(loss.reads for loss in losses))
    for values in sweep(proto, names, samples, count):
        for rows, loss in zip(seen, losses, strict=True):
            shape = loss.shape if whole else constant_shape(loss.layer.weight)
            found = reads(loss.layer.node, np.asarray(values[loss.reads]), shape)[0]
            wanted = min(len(found), -(-loss.places // count))
            rows.append((len(found), found[np.linspace(0, len(found) - 1, wanted).astype(int)].astype(np.float32)))
    return seen


def _same_places(whole: _Seen, left: _Seen) -> tuple[Array, Array]:
    """What was read where both is finite; samples in which the graphs have different numbers of places do not count."""
    pairs = [(a, b) for (m, a), (n, b) in zip(whole, left, strict=True) if m == n > 0]
    if not pairs:
        return np.zeros((0, 0)), np.zeros((0, 0))
    before, after = (np.concatenate(rows) for rows in zip(*pairs, strict=True))
    finite = np.isfinite(before).all(axis=1) & np.isfinite(after).all(axis=1)
    return (before, after) if finite.all() else (before[finite], after[finite])


def _loss(coupling: Coupling, layer: Layer, units: Collection[int]) -> Loss | None:
    node = layer.node
    if layer.inputs is None or not layer.makes or len(list(layer.weight.uses())) != 1 or node.inputs[1] is not layer.weight:
        return None
    if node.op_type == "Conv" and node.attributes.get_int("group", 1) != 1:
        return None
    weight = _weight(layer)
    rows = as_rows(node, weight)
    if rows is None or rows.shape[2] > MAX_FEATURES:
        return None
    stay = coupling.kept(units)
    kept = np.repeat(stay(layer.inputs), rows.shape[2] // len(layer.inputs))
    if kept.all() or not kept.any():
        return None
    outputs = slice(None) if layer.outputs is None else stay(layer.outputs)
    return Loss(layer=layer, shape=weight.shape, kept=kept, rows=rows[0][outputs].astype(np.float64))


def _weight(layer: Layer) -> Array:
    assert layer.weight.const_value is not None
    array: Array = layer.weight.const_value.numpy()
    return array


def _refit(loss: Loss, whole: Array, left: Array) -> bool:
    """Changes a layer's weights, and its bias where it has one or can have one; says whether there was something to fit it to.

    Args:
        loss: the layer.
        whole: what it reads in the original at some places, ``[places, features]``.
        left: what it reads there once the layers before it are pruned and fitted, ``[places, features that stay]``.
    """
    if not len(left):
        return False
    node, weight = loss.layer.node, _weight(loss.layer)
    rows = loss.rows[:, loss.kept]
    bias, n_features = _bias(node, len(rows)), rows.shape[1]
    read = left.astype(np.float64)
    lost = whole @ loss.rows.T - read @ rows.T
    if bias is not None:
        read = np.concatenate([read, np.ones((len(read), 1))], axis=1)
    gram = read.T @ read
    size = np.trace(gram[:n_features, :n_features]) / n_features
    gram[np.arange(n_features), np.arange(n_features)] += DAMPING * max(1.0, ROWS * n_features / len(read)) * size
    change = _solved(gram, read.T @ lost).T
    _store(loss.layer.weight, from_rows(node, (rows + change[:, :n_features])[None], weight.shape), weight.dtype)
    if bias is not None:
        bias.add(change[:, n_features], weight.dtype)
    return True


def _solved(gram: Array, wanted: Array) -> Array:
    try:
        found: Array = np.linalg.solve(gram, wanted)
    except np.linalg.LinAlgError:  # features that are zero at all places
        found = np.linalg.lstsq(gram, wanted, rcond=None)[0]
    return found


def _store(value: ir.Value, array: Array, dtype: Any) -> None:
    value.const_value = ir.tensor(np.ascontiguousarray(array.astype(dtype)), name=value.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bias:
    """Where the bias of a layer is, or would be.

    Attributes:
        node: the operator that adds it: the layer itself, or an Add behind a matrix product.
        index: which input it is.
        value: the constant; ``None`` where there is none yet.
        factor: it counts so many times as much as what the weights give.
    """

    node: ir.Node
    index: int
    value: ir.Value | None
    factor: float = 1.0

    def add(self, change: Array, dtype: Any) -> None:
        """Moves the bias by ``change``, ``[outputs]``."""
        if self.value is not None:
            assert self.value.const_value is not None
            old = self.value.const_value.numpy()
            _store(self.value, old + (change / self.factor).reshape(old.shape), old.dtype)
            return
        value = edit.new_constant(self.node, (change / self.factor).astype(dtype), f"{self.node.name}_reconstructed_bias")
        if self.index >= len(self.node.inputs):
            self.node.resize_inputs(self.index + 1)
        self.node.replace_input_with(self.index, value)


def _bias(node: ir.Node, outputs: int) -> Bias | None:
    """The bias of a layer; ``None`` where it is computed, shared, or none can be put in."""
    if node.op_type in ("Conv", "Gemm"):
        value = node.inputs[2] if len(node.inputs) > 2 else None
        alpha, beta = (node.attributes.get_float(name, 1.0) if node.op_type == "Gemm" else 1.0 for name in ("alpha", "beta"))
        factor = beta / alpha if alpha else 0.0
        usable = value is None or _own_vector(value, outputs)
        return Bias(node=node, index=2, value=value, factor=factor) if usable and factor else None
    uses = list(node.outputs[0].uses())
    adder = uses[0].node if len(uses) == 1 and not node.outputs[0].is_graph_output() else None
    if adder is None or adder.op_type != "Add":
        return None
    index = 1 - uses[0].idx
    value = adder.inputs[index]
    return Bias(node=adder, index=index, value=value) if value is not None and _own_vector(value, outputs) else None


def _own_vector(value: ir.Value, outputs: int) -> bool:
    """A constant with one number per output along its last axis, which nothing else reads."""
    if not is_constant(value) or len(list(value.uses())) != 1:
        return False
    shape = constant_shape(value)
    return len(shape) > 0 and shape[-1] == math.prod(shape) == outputs
