"""LSTM, GRU and RNN. Sequences are ``[T, B, I]``, weights ``[directions, gates * H, I or H]`` with ONNX's order of gates.

The common forms run in torch's own kernels, the rest step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import _VF, Tensor

from dovetail.train.ops.indexing import reversed_in_time
from dovetail.train.ops.node import Kernel, Maker, NodeView

State = tuple[Tensor, ...]
Cell = Callable[[Tensor, State, Tensor, Tensor, Any], State]
"""(input's share of the gates ``[B, G*H]``, state, recurrent weights, their bias, peepholes) → next state, h first."""

_LSTM_ORDER = (0, 2, 3, 1)
"""torch's gates (input, forget, cell, output) in ONNX's order (input, output, forget, cell)."""
_GRU_ORDER = (1, 0, 2)
"""torch's gates (reset, update, new) in ONNX's order (update, reset, hidden)."""
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}


def _recurrent(gates: int, states: int, defaults: tuple[str, ...], fast: Any, cell: Any) -> Maker:
    def make(node: NodeView) -> Kernel:
        directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[node.get("direction", "forward")]
        names = [name.lower() for name in node.get("activations", ())] or list(defaults) * len(directions)
        unknown = sorted(set(names) - _ACTIVATIONS.keys())
        if unknown or node.get("activation_alpha") or node.get("clip"):
            raise node.refuse(f"with activation {unknown[0]}" if unknown else "with clipping or parameters of activations")
        batch_first = bool(node.get("layout", 0))
        per = len(defaults)
        quick = fast(node, tuple(names)) if not node.has(4) and not node.has(7) else None
        cells = [cell(node, [_ACTIVATIONS[n] for n in names[i * per : (i + 1) * per]]) for i in range(len(directions))]

        def run(*inputs: Any) -> tuple[Tensor, ...]:
            given = [*inputs, *[None] * (8 - len(inputs))]
            (x, w, r, b, lengths), rest = given[:5], given[5:]
            x = x.to(w.dtype)
            x = x.transpose(0, 1) if batch_first else x
            hidden = r.shape[2]
            zeros = x.new_zeros((len(directions), x.shape[1], hidden))
            start = [zeros if s is None else (s.transpose(0, 1) if batch_first else s).to(w.dtype) for s in rest[:states]]
            b = x.new_zeros((len(directions), 2 * gates * hidden)) if b is None else b
            if quick is not None:
                y, *last = _with_torch(quick, x, w, r, b, start, directions)
            else:
                y, *last = _by_steps(cells, x, w, r, b, lengths, start, rest[2], directions)
            if batch_first:
                return (y.permute(2, 0, 1, 3), *(s.transpose(0, 1) for s in last))
            return (y, *last)

        return _outputs(node, run)

    return make


def _outputs(node: NodeView, run: Callable[..., tuple[Tensor, ...]]) -> Kernel:
    count = len(node.outputs)
    return (lambda *inputs: run(*inputs)[0]) if count == 1 else (lambda *inputs: run(*inputs)[:count])


def _with_torch(
    quick: tuple[Any, tuple[int, ...]], x: Tensor, w: Tensor, r: Tensor, b: Tensor, start: list[Tensor],
    directions: Sequence[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    function, order = quick
    only_back = list(directions) == [True]
    flat: list[Tensor] = []
    for i in range(len(directions)):
        half = b.shape[1] // 2
        flat += [_ordered(t, order) for t in (w[i], r[i], b[i, :half], b[i, half:])]
    state = tuple(s.contiguous() for s in start)
    y, *last = function(
        x.flip(0) if only_back else x, state if len(state) > 1 else state[0], flat, True, 1, 0.0, torch.is_grad_enabled(),
        len(directions) == 2, False,
    )  # fmt: skip
    y = y.flip(0) if only_back else y
    return (y.reshape(*y.shape[:2], len(directions), -1).transpose(1, 2), *last)


def _ordered(weight: Tensor, order: Sequence[int]) -> Tensor:
    if list(order) == sorted(order):
        return weight.contiguous()
    parts = weight.chunk(len(order))
    return torch.cat([parts[i] for i in order])


def _by_steps(
    cells: Sequence[Cell], x: Tensor, w: Tensor, r: Tensor, b: Tensor, lengths: Tensor | None, start: list[Tensor],
    peepholes: Tensor | None, directions: Sequence[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    runs, ends = [], []
    for i, backward in enumerate(directions):
        half = b.shape[1] // 2
        gates = torch.matmul(reversed_in_time(x, lengths) if backward else x, w[i].t()) + b[i, :half]
        state: State = tuple(s[i] for s in start)
        steps = []
        for t in range(x.shape[0]):
            new = cells[i](gates[t], state, r[i], b[i, half:], None if peepholes is None else peepholes[i])
            out = new[0]
            if lengths is not None:
                alive = (t < lengths).unsqueeze(1)
                state = tuple(torch.where(alive, now, before) for now, before in zip(new, state, strict=True))
                out = torch.where(alive, out, torch.zeros_like(out))
            else:
                state = new
            steps.append(out)
        y = torch.stack(steps)
        runs.append(reversed_in_time(y, lengths) if backward else y)
        ends.append(state)
    return (torch.stack(runs, 1), *(torch.stack([state[k] for state in ends]) for k in range(len(start))))


def _lstm_cell(node: NodeView, activations: Sequence[Callable[[Tensor], Tensor]]) -> Cell:
    f, g, h = activations
    coupled = bool(node.get("input_forget", 0))

    def step(gates: Tensor, state: State, r: Tensor, bias: Tensor, peepholes: Any) -> State:
        i, o, forget, c = (gates + torch.matmul(state[0], r.t()) + bias).chunk(4, -1)
        pi, po, pf = peepholes.chunk(3) if peepholes is not None else (0.0, 0.0, 0.0)
        enter = f(i + pi * state[1])
        keep = 1 - enter if coupled else f(forget + pf * state[1])
        cell = keep * state[1] + enter * g(c)
        return f(o + po * cell) * h(cell), cell

    return step


def _gru_cell(node: NodeView, activations: Sequence[Callable[[Tensor], Tensor]]) -> Cell:
    f, g = activations
    after = bool(node.get("linear_before_reset", 0))

    def step(gates: Tensor, state: State, r: Tensor, bias: Tensor, peepholes: Any) -> State:
        h = state[0]
        (rz, rr, rh), (bz, br, bh), (z, reset, new) = r.chunk(3), bias.chunk(3), gates.chunk(3, -1)
        z, reset = f(z + h @ rz.t() + bz), f(reset + h @ rr.t() + br)
        inner = reset * (h @ rh.t() + bh) if after else (reset * h) @ rh.t() + bh
        return ((1 - z) * g(new + inner) + z * h,)

    return step


def _rnn_cell(node: NodeView, activations: Sequence[Callable[[Tensor], Tensor]]) -> Cell:
    (f,) = activations

    def step(gates: Tensor, state: State, r: Tensor, bias: Tensor, peepholes: Any) -> State:
        return (f(gates + torch.matmul(state[0], r.t()) + bias),)

    return step


def _fast_lstm(node: NodeView, names: tuple[str, ...]) -> Any:
    plain = set(names[0::3]) == {"sigmoid"} and set(names[1::3]) | set(names[2::3]) == {"tanh"}
    return (_VF.lstm, _LSTM_ORDER) if plain and not node.get("input_forget", 0) else None


def _fast_gru(node: NodeView, names: tuple[str, ...]) -> Any:
    plain = set(names[0::2]) == {"sigmoid"} and set(names[1::2]) == {"tanh"}
    return (_VF.gru, _GRU_ORDER) if plain and node.get("linear_before_reset", 0) else None


def _fast_rnn(node: NodeView, names: tuple[str, ...]) -> Any:
    kinds = set(names)
    return (_VF.rnn_tanh if kinds == {"tanh"} else _VF.rnn_relu, (0,)) if kinds in ({"tanh"}, {"relu"}) else None


TABLE: dict[str, Maker] = {
    "LSTM": _recurrent(4, 2, ("sigmoid", "tanh", "tanh"), _fast_lstm, _lstm_cell),
    "GRU": _recurrent(3, 1, ("sigmoid", "tanh"), _fast_gru, _gru_cell),
    "RNN": _recurrent(1, 1, ("tanh",), _fast_rnn, _rnn_cell),
}
