"""Sizes that nobody gave, and models that take only some."""

import pytest

from dovetail.core.sizes import assumed_size, fixed_batch, only_shape


@pytest.mark.parametrize(
    ("name", "axis", "rank", "size"),
    [
        ("batch", 0, 2, 1),
        ("tokens", 0, 2, 1),
        ("batch_size", 1, 3, 1),
        ("N", 1, 3, 1),
        ("seq_len", 1, 2, 128),
        ("num_frames", 2, 4, 128),
        ("Height", 2, 4, 224),
        ("w", 3, 4, 224),
        ("x_dynamic_axes_1", 2, 4, 224),
        ("", 3, 4, 224),
        ("", 1, 3, 128),
    ],
)
def test_a_size_follows_the_name_then_the_rank(name, axis, rank, size):
    assert assumed_size(name, axis, rank) == size


def test_a_fixed_batch_is_several_where_a_sample_is_one():
    sample = {"x": (1, 4), "rate": ()}
    assert fixed_batch({"x": (8, 4), "rate": ()}, sample) == 8
    assert fixed_batch({"x": ("N", 4), "rate": ()}, sample) == 1
    assert fixed_batch({"x": (1, 4)}, sample) == 1
    assert fixed_batch({"x": (8, 4)}, {"x": (8, 4)}) == 1
    assert fixed_batch({"state": (8, 4)}, sample) == 1


def test_one_shape_is_said_in_one_phrase():
    assert only_shape({"ids": (1, 128), "mask": (1, 128)}) == "takes only shape ids [1, 128], mask [1, 128]"
