"""The cells of LSTM, GRU and RNN: one layer for the inputs of all steps, then a few small operators for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.weights import stored
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor

State = tuple[Tensor | None, ...]
"""Hidden and cell state ``[batch, hidden]``; ``None`` for zeros."""


class Cell(ABC):
    """One direction of a layer.

    Args:
        em: the graph.
        node: the operator.
        direction: 0, or 1 for the second of two.
        functions: builtin operators of its activations.
    """

    def __init__(self, em: Emitter, node: Node, direction: int, functions: Sequence[str]) -> None:
        self.em, self.name, self.functions = em, f"{node.output}/{direction}", functions
        self.hidden = em.array(node, 2, "recurrent weights").shape[-1]
        self.w = _constant(em, node, 1, direction)
        self.r = _constant(em, node, 2, direction)
        bias = _constant(em, node, 3, direction) if node.has(3) else np.zeros(2 * len(self.w), np.float32)
        self.w_bias, self.r_bias = np.split(bias, 2)
        self.node = node

    @abstractmethod
    def prepare(self, x: Tensor) -> None:
        """Computes what depends on the inputs ``[steps · batch, size]`` alone."""

    @abstractmethod
    def step(self, m: Maths, rows: tuple[int, int], state: State) -> State:
        """The state after one step, whose inputs are some rows."""

    def layer(self, x: Tensor, w: Tensor, bias: Tensor | None, name: str) -> Tensor:
        """A fully connected layer."""
        out = self.em.tensor(name, (x.shape[0], w.shape[0]), "float32")
        self.em.emit(
            "FULLY_CONNECTED", [x, w, bias], [out], "FullyConnectedOptions", keepNumDims=True, fusedActivationFunction="NONE"
        )
        return out

    def weights(self, value: Array, what: str) -> Tensor:
        """Weights of a layer."""
        return stored(self.em, np.ascontiguousarray(value), None, f"{self.name}/{what}")

    def row(self, value: Array, what: str) -> Tensor:
        """A bias."""
        return self.em.constant(value.astype(np.float32), f"{self.name}/{what}")


def _constant(em: Emitter, node: Node, index: int, direction: int) -> Array:
    view = em.real(em.view(node.inputs[index]))
    if view.tensor.data is None:
        raise ModelError(f"{node.op} {node.output!r} computes its weights at run time")
    return np.asarray(view.tensor.data[direction], np.float32)


def _added(m: Maths, a: Tensor, b: Tensor | None) -> Tensor:
    return a if b is None else m.add(a, b)


def _rows(m: Maths, x: Tensor, rows: tuple[int, int]) -> Tensor:
    """Some rows of a matrix."""
    start, stop = rows
    return x if stop - start == x.shape[0] else cut(m, x, (start, 0), (stop - start, x.shape[1]))


def cut(m: Maths, x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
    """A part of a tensor."""
    out = m.em.tensor(f"{m.name}/cut", size, x.dtype)
    parts = [m.em.integers(begin, f"{m.name}/begin"), m.em.integers(size, f"{m.name}/size")]
    m.em.emit("SLICE", [x, *parts], [out], "SliceOptions")
    return out


def _parts(m: Maths, x: Tensor, count: int) -> list[Tensor]:
    """Equal parts of a matrix side by side."""
    outs = [m.em.tensor(f"{m.name}/part", (x.shape[0], x.shape[1] // count), x.dtype) for _ in range(count)]
    m.em.emit("SPLIT", [m.em.constant(np.array(1, np.int32), f"{m.name}/axis"), x], outs, "SplitOptions", numSplits=count)
    return outs


class _Together(Cell):
    """All gates see the inputs and the state in the same way."""

    def prepare(self, x: Tensor) -> None:
        """One layer for all gates."""
        row = self.row(self.w_bias + self.r_bias, "bias")
        self.inputs = self.layer(x, self.weights(self.w, "weights"), row, f"{self.name}/inputs")
        self.recurrent = self.weights(self.r, "recurrent")

    def gates(self, m: Maths, rows: tuple[int, int], h: Tensor | None) -> Tensor:
        """``W x + R h + b``."""
        again = None if h is None else self.layer(h, self.recurrent, None, f"{m.name}/recurrent")
        return _added(m, _rows(m, self.inputs, rows), again)


class Lstm(_Together):
    """Gates in the order input, output, forget, cell."""

    def step(self, m: Maths, rows: tuple[int, int], state: State) -> State:
        """``c ← f · c + i · g``, ``h ← o · tanh(c)``."""
        h, c = state
        gates = _parts(m, self.gates(m, rows, h), 4)
        gate, cell, out = self.functions
        i, o, f = (m.apply(gate, part) for part in gates[:3])
        new = m.mul(i, m.apply(cell, gates[3]))
        c = new if c is None else m.add(m.mul(f, c), new)
        return m.mul(o, m.apply(out, c)), c


class Gru(Cell):
    """Gates in the order update, reset, hidden."""

    def prepare(self, x: Tensor) -> None:
        """One layer for the gates and one for the candidate, of the inputs and of the state alike."""
        n = 2 * self.hidden
        after = bool(self.node.get("linear_before_reset", 0))
        gates = self.row(self.w_bias[:n] + self.r_bias[:n], "bias")
        own = self.row(self.w_bias[n:] + (0 if after else self.r_bias[n:]), "candidate/bias")
        self.gates = self.layer(x, self.weights(self.w[:n], "weights"), gates, f"{self.name}/gates")
        self.candidates = self.layer(x, self.weights(self.w[n:], "candidate/weights"), own, f"{self.name}/candidates")
        self.r_gates = self.weights(self.r[:n], "recurrent")
        self.r_candidate = self.weights(self.r[n:], "candidate/recurrent")
        self.r_row = self.row(self.r_bias[n:], "candidate/shift") if after else None

    def step(self, m: Maths, rows: tuple[int, int], state: State) -> State:
        """``h ← n + z · (h − n)``, the candidate ``n`` seeing the state through the reset gate."""
        h = state[0]
        gate, candidate = self.functions
        again = None if h is None else self.layer(h, self.r_gates, None, f"{m.name}/recurrent")
        z, r = _parts(m, m.apply(gate, _added(m, _rows(m, self.gates, rows), again)), 2)
        n = m.apply(candidate, _added(m, _rows(m, self.candidates, rows), self._seen(m, h, r)))
        return (m.add(n, m.mul(z, m.sub(h, n))) if h is not None else m.sub(n, m.mul(z, n)),)

    def _seen(self, m: Maths, h: Tensor | None, r: Tensor) -> Tensor | None:
        """What the candidate sees of the state."""
        name = f"{m.name}/seen"
        if self.r_row is not None:
            return m.mul(r, self.r_row if h is None else self.layer(h, self.r_candidate, self.r_row, name))
        return None if h is None else self.layer(m.mul(r, h), self.r_candidate, None, name)


class Rnn(_Together):
    """A single gate."""

    def step(self, m: Maths, rows: tuple[int, int], state: State) -> State:
        """``h ← f(W x + R h)``."""
        return (m.apply(self.functions[0], self.gates(m, rows, state[0])),)


CELLS: dict[str, type[Cell]] = {"LSTM": Lstm, "GRU": Gru, "RNN": Rnn}
