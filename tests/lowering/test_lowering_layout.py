"""Reshapes of stored values: what the storage order becomes, against numpy."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.lowering.layout import groups, movable, reshaped
from dovetail.lowering.tensors import NHWC, inverse


def stored(value: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """The bytes of a logical value in a storage order."""
    return np.ascontiguousarray(value.transpose(order))


def test_groups_are_the_shortest_runs_of_equal_products() -> None:
    assert groups((1, 6, 4), (2, 3, 4)) == [([1], [0, 1]), ([2], [2])]
    assert groups((2, 3, 4), (6, 4)) == [([0, 1], [0]), ([2], [1])]
    assert groups((0, 3), (3, 0)) is None


def test_patches_of_an_image_become_tokens_without_a_move() -> None:
    """``[N, C, H, W] → [N, C, H·W]`` of an image stored channels last."""
    assert reshaped((1, 8, 4, 4), (1, 8, 16), NHWC) == (0, 2, 1)


def test_a_flatten_of_an_image_stored_channels_last_has_to_move() -> None:
    assert reshaped((1, 8, 4, 4), (1, 128), NHWC) is None


def test_a_flatten_of_one_pixel_stays() -> None:
    assert reshaped((1, 8, 1, 1), (1, 8), NHWC) == (0, 1)


def test_axes_of_size_one_may_lie_anywhere() -> None:
    assert movable((1, 1, 5, 5), NHWC, (0, 1, 2, 3))
    assert not movable((1, 2, 5, 5), NHWC, (0, 1, 2, 3))


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """A shape, another of the same size, and a storage order of the first."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=6))

    def grouped() -> tuple[int, ...]:
        cuts = draw(st.lists(st.booleans(), min_size=len(factors) - 1, max_size=len(factors) - 1))
        shape = [factors[0]]
        for factor, cut in zip(factors[1:], cuts, strict=True):
            if cut:
                shape.append(factor)
            else:
                shape[-1] *= factor
        return tuple(shape)

    old, new = grouped(), grouped()
    return old, new, tuple(draw(st.permutations(range(len(old)))))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(reshapes())
def test_a_reshape_that_stays_reads_the_same_bytes(case: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]) -> None:
    old, new, order = case
    value = np.arange(np.prod(old)).reshape(old)
    found = reshaped(old, new, order)
    if found is None:
        return
    there = stored(value, order).reshape([new[axis] for axis in found])
    np.testing.assert_array_equal(there.transpose(inverse(found)), value.reshape(new))
