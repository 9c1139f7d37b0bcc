from __future__ import annotations

import numpy as np
import pytest

from dovetail.core.errors import DataError, InputError
from dovetail.data.preprocess import Preprocess, resize_bilinear

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_the_order_is_layout_scale_mean_std() -> None:
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    done = Preprocess(layout="NHWC->NCHW", scale=1 / 255, mean=MEAN, std=STD).apply(x)
    expected = ((x / 255 - MEAN) / STD).transpose(2, 0, 1)
    assert done.dtype == np.float32 and np.allclose(done, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 20), (64, 48), (7, 33)])
def test_resize_equals_pillows_bilinear(size: tuple[int, int]) -> None:
    image = pytest.importorskip("PIL.Image")
    x = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    theirs = np.asarray(image.fromarray(x).resize(size[::-1], image.Resampling.BILINEAR))
    ours = resize_bilinear(x, size, "HWC")
    assert ours.dtype == np.uint8 and np.abs(ours.astype(int) - theirs).max() <= 1


def test_new_axes_channels_and_types() -> None:
    assert Preprocess(layout="HW->CHW").apply(np.zeros((28, 28))).shape == (1, 28, 28)
    assert Preprocess(layout="CHW->HWC", mean=(1, 2, 3)).apply(np.zeros((3, 2, 2)))[0, 0].tolist() == [-1, -2, -3]
    assert Preprocess(mean=(128,), dtype="int8").apply(np.full((2,), 130, np.uint8)).tolist() == [2, 2]
    assert Preprocess(mean=(1, 2)).apply(np.zeros((4, 2)))[0].tolist() == [-1, -2]


@pytest.mark.parametrize("layout", ["NHWC", "HWC->HW", "HH->HW", "->", "12->21"])
def test_layouts_that_are_none(layout: str) -> None:
    with pytest.raises(InputError, match="is not a layout"):
        Preprocess(layout=layout)


def test_values_that_cannot_be() -> None:
    with pytest.raises(InputError, match="not zero"):
        Preprocess(std=(0.1, 0.0))
    with pytest.raises(InputError, match="finite"):
        Preprocess(scale=float("nan"))
    with pytest.raises(DataError, match="mean has 3 values"):
        Preprocess(mean=MEAN).apply(np.zeros((4, 5)))
    with pytest.raises(DataError, match="layout NHWC->NCHW takes 3 axes"):
        Preprocess(layout="NHWC->NCHW").apply(np.zeros((4, 5)))
    with pytest.raises(DataError, match=r"resize takes an image"):
        Preprocess(resize=(4, 4)).apply(np.zeros((2, 4, 5, 3)))
