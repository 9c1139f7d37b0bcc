"""LSTM, GRU and RNN as unrolled steps.

LiteRT's own operators for sequences carry their state from call to call and are slower up to some hundred units. Every step has
a fully connected layer of the same weights; XNNPACK packs them once where its weight cache is on, and for each step where it is
off.
"""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.core.errors import ModelError
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.cells import CELLS, Cell, State, cut
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import operand
from dovetail.lowering.ops.views import bind, permuted, reshaped
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor, View

MAX_STEPS = 512
PACKED_BYTES = 16_000_000
"""Copies of recurrent weights beyond this are worth a note."""
_FUNCTIONS = {"Sigmoid": "LOGISTIC", "Tanh": "TANH", "Relu": "RELU"}
_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


def recurrent(em: Emitter, node: Node) -> None:
    """LSTM, GRU and RNN in any direction.

    Raises:
        ModelError: more than 512 steps, lengths or weights of run time, peepholes, clipping, or unusual activations.
    """
    functions = _require_covered(em, node)
    x = operand(em, node)
    x = permuted(x, (1, 0, 2)) if node.get("layout", 0) else x
    steps, batch, size = x.shape
    if steps > MAX_STEPS:
        raise ModelError(f"{node.op} {node.output!r} takes {steps} steps; up to {MAX_STEPS} are unrolled")
    flat = em.reshape(em.plain(x), (steps * batch, size))
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[node.get("direction", "forward")]
    found = []
    for number, backwards in enumerate(directions):
        mine = functions[number * len(_DEFAULTS[node.op]) :][: len(_DEFAULTS[node.op])]
        cell = CELLS[node.op](em, node, number, mine)
        cell.prepare(flat)
        order = range(steps)[::-1] if backwards else range(steps)
        found.append(_run(cell, order, batch, _initial(em, node, number, len(directions))))
        _note_copies(em, node, cell, steps)
    _bind(em, node, steps, batch, found)


def _run(cell: Cell, order: range, batch: int, state: State) -> tuple[list[Tensor], State]:
    """The hidden states in order of time, and the last state."""
    hidden: dict[int, Tensor] = {}
    for t in order:
        state = cell.step(Maths(cell.em, f"{cell.name}/{t}"), (t * batch, (t + 1) * batch), state)
        assert state[0] is not None
        hidden[t] = state[0]
    return [hidden[t] for t in sorted(hidden)], state


def _require_covered(em: Emitter, node: Node) -> list[str]:
    """Builtin operators of the activations."""
    where = f"{node.op} {node.output!r}"
    if node.get("clip") or node.get("input_forget", 0):
        raise ModelError(f"{where} clips its gates or couples them, which is not lowered")
    peepholes = em.source.constant(node, 7)
    if node.has(7) and (peepholes is None or peepholes.any()):
        raise ModelError(f"{where} has peepholes, which are not lowered")
    steps = em.source.shape(node.inputs[0])[1 if node.get("layout", 0) else 0]
    lengths = em.source.constant(node, 4)
    if node.has(4) and (lengths is None or (lengths != steps).any()):
        raise ModelError(f"{where} has sequences of other lengths than {steps}, which is not lowered")
    count = 2 if node.get("direction", "forward") == "bidirectional" else 1
    names = list(node.get("activations") or _DEFAULTS[node.op] * count)
    unknown = sorted(set(names) - _FUNCTIONS.keys())
    if unknown or len(names) != count * len(_DEFAULTS[node.op]):
        raise ModelError(f"{where} has the activations {', '.join(unknown or names)}; {', '.join(_FUNCTIONS)} are lowered")
    return [_FUNCTIONS[name] for name in names]


def _initial(em: Emitter, node: Node, direction: int, directions: int) -> State:
    """The state before the first step."""
    found: list[Tensor | None] = []
    for index in (5, 6) if node.op == "LSTM" else (5,):
        constant = em.source.constant(node, index)
        if not node.has(index) or (constant is not None and not constant.any()):
            found.append(None)
            continue
        view = operand(em, node, index)
        view = permuted(view, (1, 0, 2)) if node.get("layout", 0) else view
        _, batch, hidden = view.shape
        tensor = em.plain(view)
        if directions > 1:
            tensor = cut(Maths(em, f"{node.output}/initial"), tensor, (direction, 0, 0), (1, batch, hidden))
        found.append(em.reshape(tensor, (batch, hidden)))
    return tuple(found)


def _note_copies(em: Emitter, node: Node, cell: Cell, steps: int) -> None:
    packed = cell.r.nbytes * steps
    if packed > PACKED_BYTES:
        em.note(f"{node.output}: {steps} steps share weights; without XNNPACK's weight cache they take {packed / 1e6:.0f} MB")


def _bind(em: Emitter, node: Node, steps: int, batch: int, found: Sequence[tuple[list[Tensor], State]]) -> None:
    """The outputs: all hidden states, and the last states. Directions lie beside each other, as readers want them."""
    used = em.source.uses()
    m = Maths(em, node.output)
    outputs = dict(zip(("all", "h", "c"), node.outputs, strict=False))
    flip = bool(node.get("layout", 0))
    if used.get(outputs["all"]):
        whole = _beside(m, [_joined(m, hidden, 0) for hidden, _ in found])
        # Stored as [steps, batch, directions, hidden]; logically the directions come second, or batch first.
        view = View(em.reshape(whole, (steps, batch, len(found), whole.shape[1] // len(found))), (0, 1, 2, 3))
        em.bind(outputs["all"], permuted(view, (1, 0, 2, 3) if flip else (0, 2, 1, 3)))
    for number, what in enumerate(("h", "c")):
        if used.get(outputs.get(what, "")):
            last = [state[number] for _, state in found]
            whole = _beside(m, [tensor for tensor in last if tensor is not None])
            view = reshaped(em, View(whole, (0, 1)), (batch, len(found), whole.shape[1] // len(found)))
            bind(em, outputs[what], view if flip else permuted(view, (1, 0, 2)))


def _beside(m: Maths, tensors: Sequence[Tensor]) -> Tensor:
    return _joined(m, tensors, 1)


def _joined(m: Maths, tensors: Sequence[Tensor], axis: int) -> Tensor:
    if len(tensors) == 1:
        return tensors[0]
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    out = m.em.tensor(f"{m.name}/joined", shape, "float32")
    m.em.emit("CONCATENATION", tensors, [out], "ConcatenationOptions", axis=axis, fusedActivationFunction="NONE")
    return out


TABLE = {name: recurrent for name in CELLS}
