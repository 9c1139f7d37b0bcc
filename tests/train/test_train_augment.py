"""Augmentation: shapes, ranges, seeds, and what each change does."""

import numpy as np
import pytest
from train_samples import Arrays

from dovetail.core.errors import InputError

torch = pytest.importorskip("torch")

from dovetail.train.augment import (  # noqa: E402
    RECIPES,
    Augment,
    Ranges,
    Recipe,
    image_input,
    measure_ranges,
    mixed,
    moved,
    shifted,
)

pytestmark = pytest.mark.torch
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
LOW, HIGH = (0 - MEAN) / STD, (1 - MEAN) / STD


def pictures(count=16, size=12, raw=False):
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255
    if raw:
        return pixels
    return np.ascontiguousarray(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2), np.float32)


def augmenting(name, layout="NCHW", raw=False):
    images = pictures(raw=raw)
    ranges = measure_ranges(Arrays({"x": images}), np.arange(len(images)), "x", layout)
    return Augment(RECIPES[name], ranges, input="x", layout=layout, seed=0), torch.from_numpy(images)


def test_black_and_white_are_measured():
    ranges = measure_ranges(Arrays({"x": pictures()}), np.arange(16), "x", "NCHW")
    assert ranges.low == pytest.approx(LOW, abs=1e-5) and ranges.high == pytest.approx(HIGH, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "none"])
def test_shape_type_and_range_stay(name):
    augment, images = augmenting(name)
    low, high = torch.tensor(LOW).reshape(1, 3, 1, 1), torch.tensor(HIGH).reshape(1, 3, 1, 1)
    for number in range(8):
        changed, mix = augment(images, (0, number))
        assert changed.shape == images.shape and changed.dtype == images.dtype
        assert (changed >= low - 1e-4).all() and (changed <= high + 1e-4).all()
        assert not torch.equal(changed, images)
        if mix is not None:
            assert ((mix.share >= 0) & (mix.share <= 1)).all() and sorted(mix.partner.tolist()) == list(range(16))


@pytest.mark.parametrize("name", ["images", "strong_images"])
def test_bytes_in_nhwc_stay_bytes(name):
    augment, images = augmenting(name, "NHWC", raw=True)
    changed, _ = augment(images, (0, 0))
    assert changed.dtype == torch.uint8 and changed.shape == images.shape and not torch.equal(changed, images)


def test_the_same_seed_epoch_and_number_give_the_same_images():
    augment, images = augmenting("strong_images")
    again, _ = augmenting("strong_images")
    first, mix = augment(images, (1, 2))
    second, other = again(images, (1, 2))
    assert torch.equal(first, second) and (mix is None) == (other is None)
    assert not torch.equal(first, augment(images, (1, 3))[0])
    assert torch.equal(images, torch.from_numpy(pictures())), "the originals stay"


def test_shifts_move_whole_pixels_and_fill_with_black():
    x = torch.arange(1, 65, dtype=torch.float32).reshape(1, 1, 8, 8).repeat(200, 1, 1, 1)
    moved_x = shifted(x, torch.full((1, 1, 1, 1), -5.0), Recipe(flip=False, crop=0.25), np.random.default_rng(0))
    seen = set()
    for image in moved_x[:, 0]:
        inside = (image != -5).nonzero()
        top, left = inside.amin(dim=0).tolist()
        bottom, right = (inside.amax(dim=0) + 1).tolist()
        value = int(image[top, left]) - 1
        dy, dx = value // 8 - top, value % 8 - left
        seen.add((dy, dx))
        assert torch.equal(image[top:bottom, left:right], x[0, 0, top + dy : bottom + dy, left + dx : right + dx])
        assert (bottom - top, right - left) == (8 - abs(dy), 8 - abs(dx))
    assert {dy for dy, _ in seen} == set(range(-2, 3)) == {dx for _, dx in seen}


def test_half_of_the_images_are_mirrored():
    x = torch.arange(8, dtype=torch.float32).repeat(400, 1, 8, 1)
    picked = shifted(x, torch.zeros(1, 1, 1, 1), Recipe(crop=0.0), np.random.default_rng(0))
    mirrored = (picked[:, 0, 0, 0] == 7).float().mean()
    assert 0.4 < mirrored < 0.6
    also = moved(x, Recipe(crop=0.0), np.random.default_rng(0))
    assert 0.4 < (also[:, 0, 0, 0] > 6.9).float().mean() < 0.6


def test_a_quarter_turn_of_a_wide_image_turns_it():
    x = torch.zeros(1, 1, 8, 16)
    x[:, :, 3:5, 4:12] = 1.0  # a bar along the width
    turned = moved(x, Recipe(crop=0, flip=False, turn=90.0, turned=1.0), _Fixed())
    assert turned[0, 0, :, 7:9].sum() == pytest.approx(16, abs=0.1) and turned.sum() == pytest.approx(16, abs=0.1)


class _Fixed:
    """Draws the largest angle and no change of scale."""

    def random(self, n):
        return np.zeros(n)

    def uniform(self, low, high, n):
        return np.full(n, high)

    def integers(self, low, high, n):
        return np.zeros(n, np.int64)


def test_mixup_blends_by_its_share():
    u = torch.rand(32, 3, 4, 4)
    blend, mix = mixed(u, Recipe(mixup=1.0), np.random.default_rng(0))
    share = mix.share.reshape(-1, 1, 1, 1)
    assert torch.allclose(blend, u * share + u[mix.partner] * (1 - share), atol=1e-6)


def test_cutmix_takes_a_box_by_its_share():
    own, other = torch.zeros(64, 1, 10, 10), torch.ones(64, 1, 10, 10)
    u = torch.where(torch.arange(64).reshape(-1, 1, 1, 1) % 2 == 0, own, other)
    cut, mix = mixed(u, Recipe(cutmix=1.0), np.random.default_rng(0))
    foreign = (cut != u).float().mean(dim=(1, 2, 3))
    different = (u[mix.partner] != u)[:, 0, 0, 0]
    assert torch.allclose(foreign[different], 1 - mix.share[different], atol=1e-6)
    assert 0.3 < mix.share.mean() < 0.8


def test_erasing_and_jitter_leave_most_of_an_image():
    augment = Augment(Recipe(crop=0, flip=False, erased=1.0), Ranges(low=LOW, high=HIGH), input="x", seed=0)
    images = torch.from_numpy(pictures(32, 20))
    changed, _ = augment(images, (0, 0))
    share = ((changed - images).abs().amax(dim=1) > 1e-3).float().mean(dim=(1, 2))
    assert (share > 0.005).all() and (share < 0.3).all()


def test_images_are_found_or_asked_for():
    assert image_input(Arrays({"x": pictures()}), wanted="images") == ("x", "NCHW")
    assert image_input(Arrays({"x": pictures(raw=True)}), wanted="images") == ("x", "NHWC")
    with pytest.raises(InputError, match="needs images"):
        image_input(Arrays({"x": np.zeros((3, 7), np.float32)}), wanted="images")
