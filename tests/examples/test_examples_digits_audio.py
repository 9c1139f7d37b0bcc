"""The example of spoken digits: its spectra, its parts, and a network that learns them."""

from pathlib import Path

import numpy as np
import pytest
from fitting import EXAMPLES, described, made, quality, script

from dovetail.search.space import spec

HERE = EXAMPLES / "digits_audio"


@pytest.fixture
def shared(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOVETAIL_SHARED", str(shared_data.parent))
    return shared_data


def test_a_tone_lies_in_its_band() -> None:
    data = script(HERE / "data.py")
    seconds = np.arange(data.RATE_HZ) / data.RATE_HZ
    low, high = (data.spectrum(np.sin(2 * np.pi * hz * seconds), data.mel_filters()) for hz in (300, 3000))
    assert low.shape == (data.BANDS, data.FRAMES) and low.dtype == np.float32
    assert low.mean(axis=1).argmax() < data.BANDS // 4 and high.mean(axis=1).argmax() > 3 * data.BANDS // 4


def test_what_is_short_is_followed_by_silence() -> None:
    data = script(HERE / "data.py")
    heard = data.spectrum(np.random.default_rng(0).normal(0, 0.1, 1000), data.mel_filters())
    assert np.isfinite(heard).all() and (heard[:, :5] > heard[:, 20:25]).all() and np.ptp(heard[:, 20:]) == 0


def test_the_parts_are_takes_of_their_own(shared: Path) -> None:
    data = script(HERE / "data.py")
    parts = {name: list(getattr(data, name)()) for name in ("train", "select", "certify")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 480, "select": 120, "certify": 300}
    assert all(set(label for _, label in part) == set(range(10)) for part in parts.values())
    seen = [x.tobytes() for part in parts.values() for x, _ in part]
    assert len(set(seen)) == 900
    with np.load(shared / "audio" / "fsdd_900.npz") as file:
        assert set(file["take"][file["is_test"]]) == set(data.CERTIFY)


@pytest.mark.slow
@pytest.mark.torch
def test_a_network_learns_the_digits_and_a_smaller_one_learns_from_it(dovetail, shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    how = ["--epochs", 15, "--batch", 16, "--learning-rate", 0.002, "--augment", "shifts"]
    files = ["--data", HERE / "data.py:train", "--out", tmp_path / "made" / "trained"]
    done = dovetail("train", HERE / "network.py:cnn", *files, *how)
    assert done.returncode == 0, done.stderr
    text = (HERE / "fit.yaml").read_text().replace("data.py:", f"{HERE / 'data.py'}:")
    (tmp_path / "fit.yaml").write_text(text)
    job = described(tmp_path / "fit.yaml", tmp_path)
    assert quality(job, job.original) > 0.3
    less = spec("prune_channels", ratio=0.25, scope="global", importance="l1", align=8)
    assert made(job, tmp_path, less, spec("distil", epochs=2)).size_bytes() < job.original.size_bytes()
