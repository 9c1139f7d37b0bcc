"""Views of a value under another shape or with its axes in another order; data move only where they must."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.lowering import layout
from dovetail.lowering.emitter import Emitter, transposed
from dovetail.lowering.tensors import Order, View, identity


def permuted(view: View, permutation: Sequence[int]) -> View:
    """The value with its logical axes in another order."""
    return View(view.tensor, transposed(view.order, permutation))


def swapped(view: View) -> View:
    """The value with its last two logical axes exchanged."""
    n = view.rank
    return permuted(view, (*range(n - 2), n - 1, n - 2))


def reshaped(em: Emitter, view: View, shape: Sequence[int]) -> View:
    """The same elements under another logical shape."""
    shape = tuple(shape)
    if view.shape == shape:
        return view
    order = layout.reshaped(view.shape, shape, view.order)
    if order is None:
        return View(em.reshape(em.plain(view), shape), identity(len(shape)))
    return View(em.reshape(view.tensor, [shape[axis] for axis in order]), order)


def with_last(order: Order, axis: int) -> Order:
    """A storage order with one axis moved to its end."""
    return (*(a for a in order if a != axis), axis)


def bind(em: Emitter, name: str, view: View) -> None:
    """Says that a view holds an ONNX value, which may have another shape of as many elements."""
    em.bind(name, reshaped(em, view, em.source.shape(name)))
