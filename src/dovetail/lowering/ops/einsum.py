"""Einsum of one or two operands: what is summed over both becomes a product of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dovetail.core.errors import ModelError
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.elementwise import aligned
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.matmul import factor
from dovetail.lowering.ops.products import Layer, product
from dovetail.lowering.ops.views import bind, permuted, reshaped
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import View

ELLIPSIS = "..."
SPARE = "αβγδεζηθ"
"""Letters for the axes of an ellipsis, which count from the end."""


@dataclass(frozen=True, slots=True)
class Term:
    """An operand and the letters of its axes."""

    view: View
    letters: str


def einsum(em: Emitter, node: Node) -> None:
    """Einsum.

    Raises:
        ModelError: more than two operands, or a letter twice in one of them.
    """
    terms, result = _terms(em, node)
    m = Maths(em, node.output)
    kept = set(result)
    for number, term in enumerate(terms):
        others = {letter for i, other in enumerate(terms) if i != number for letter in other.letters}
        terms[number] = _summed(em, m, term, kept | others)
    if len(terms) == 1:
        (term,) = terms
    else:
        term = _product(em, node, terms[0], terms[1], result)
    bind(em, node.output, permuted(term.view, [term.letters.index(letter) for letter in result]))


def _terms(em: Emitter, node: Node) -> tuple[list[Term], str]:
    """Operands with letters for each axis, an ellipsis being some as well, and the letters of the result."""
    left, arrow, right = node.get("equation").replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) > 2:
        raise ModelError(f"Einsum {node.output!r} has {len(parts)} operands; 2 are lowered")
    views = [_operand(em, node, index) for index in range(len(parts))]
    hidden = [view.rank - len(part) + len(ELLIPSIS) if ELLIPSIS in part else 0 for part, view in zip(parts, views, strict=True)]
    parts = [part.replace(ELLIPSIS, SPARE[len(SPARE) - count :]) for part, count in zip(parts, hidden, strict=True)]
    result = right.replace(ELLIPSIS, SPARE[len(SPARE) - max(hidden) :])
    if not arrow:
        letters = "".join(parts)
        once = sorted(letter for letter in set(letters) - set(SPARE) if letters.count(letter) == 1)
        result = SPARE[len(SPARE) - max(hidden) :] + "".join(once)
    if any(len(set(part)) != len(part) for part in parts):
        raise ModelError(f"Einsum {node.output!r} takes a diagonal, which is not lowered")
    return [Term(view, part) for view, part in zip(views, parts, strict=True)], result


def _operand(em: Emitter, node: Node, index: int) -> View:
    view = factor(em, node, index)
    return view if view.quant is None or view.quant.per_tensor else em.real(view)


def _summed(em: Emitter, m: Maths, term: Term, kept: set[str]) -> Term:
    """The sum over letters that nobody else has."""
    gone = [axis for axis, letter in enumerate(term.letters) if letter not in kept]
    if not gone:
        return term
    view = em.real(term.view)
    tensor = m.reduce("SUM", view.tensor, [view.place(axis) for axis in gone], keep=False)
    left = [axis for axis in range(view.rank) if axis not in gone]
    order = tuple(left.index(axis) for axis in view.order if axis in left)
    return Term(View(tensor, order), "".join(term.letters[axis] for axis in left))


def _product(em: Emitter, node: Node, a: Term, b: Term, result: str) -> Term:
    """The product of matrices whose rows, columns and inner axes are groups of letters."""
    shared = [letter for letter in a.letters if letter in b.letters]
    batch = [letter for letter in shared if letter in result]
    inner = [letter for letter in shared if letter not in result]
    rows = [letter for letter in a.letters if letter not in shared]
    columns = [letter for letter in b.letters if letter not in shared]
    if not inner:
        return _elementwise(em, node, a, b)
    layer = Layer(name=node.output, weights=node.inputs[1], target=em.targets.get(node.output))
    if not batch and b.view.tensor.data is not None:
        found = product(em, _matrix(em, a, (), rows, inner, spread=True), _matrix(em, b, (), inner, columns), layer)
        head = rows
    else:
        found = product(em, _matrix(em, a, batch, rows, inner), _matrix(em, b, batch, inner, columns), layer)
        head = batch + rows
    sizes = [_size(letter, a, b) for letter in head + columns]
    return Term(reshaped(em, found, sizes), "".join(head + columns))


def _elementwise(em: Emitter, node: Node, a: Term, b: Term) -> Term:
    """The product without a sum: letters that one operand lacks broadcast."""
    letters = a.letters + "".join(letter for letter in b.letters if letter not in a.letters)
    views = []
    for term in (a, b):
        own = [letter for letter in letters if letter in term.letters]
        view = permuted(em.real(term.view), [term.letters.index(letter) for letter in own])
        views.append(reshaped(em, view, [_size(letter, term) for letter in letters]))
    tensors, order = aligned(em, views)
    return Term(View(Maths(em, node.output).mul(*tensors), order), letters)


def _matrix(
    em: Emitter, term: Term, batch: Sequence[str], rows: Sequence[str], columns: Sequence[str], spread: bool = False
) -> View:
    """``[batch…, rows, columns]``; ``spread`` keeps each letter of the rows an axis of its own."""
    view = permuted(term.view, [term.letters.index(letter) for letter in (*batch, *rows, *columns)])
    sizes = dict(zip(term.letters, term.view.shape, strict=True))

    def together(letters: Sequence[str]) -> int:
        return math.prod(sizes[letter] for letter in letters)

    head = [sizes[letter] for letter in batch]
    middle = [sizes[letter] for letter in rows] if spread and rows else [together(rows)]
    return reshaped(em, view, (*head, *middle, together(columns)))


def _size(letter: str, *terms: Term) -> int:
    """The size of a letter's axis; one of 1 broadcasts."""
    return max((term.view.shape[term.letters.index(letter)] for term in terms if letter in term.letters), default=1)


TABLE = {"Einsum": einsum}
