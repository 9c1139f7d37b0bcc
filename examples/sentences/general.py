"""How general an encoder still is: does it find alike what the original finds alike, in text that it was not trained on?

    python examples/sentences/general.py made/minilm.onnx made/minilm.fit

Both encode sentences of Shakespeare (``data/tinyshakespeare``, public domain). Over random pairs of them, Spearman's
correlation of the two networks' cosines is 1 where every pair keeps its rank.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentences
from numpy.typing import NDArray

Array = NDArray[Any]
Encoder = Callable[[sentences.Feeds], Array]
SENTENCES, PAIRS, SHORTEST, LONGEST = 1000, 10_000, 5, 40
"""Sentences that are drawn, random pairs of them; the words that one has."""


def shakespeare(count: int, seed: int = 0) -> list[str]:
    """Different sentences, drawn at random from all that are neither very short nor very long."""
    text = (sentences.data_folder() / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    speeches = (speech.partition(":\n")[2] for speech in text.split("\n\n"))
    found = (part for speech in speeches for part in re.split(r"(?<=[.!?])\s+", " ".join(speech.split())))
    usable = sorted({part for part in found if SHORTEST <= len(part.split()) <= LONGEST})
    rows = np.random.default_rng(seed).choice(len(usable), count, replace=False)
    return [usable[row] for row in rows]


def embeddings(encoder: Encoder, texts: Sequence[str]) -> Array:
    """Vectors of length 1, ``[N, D]``."""
    y_ND = np.stack([encoder(sentences.tokens(text)).ravel() for text in texts]).astype(np.float64)
    return y_ND / np.linalg.norm(y_ND, axis=1, keepdims=True)


def agreement(a_ND: Array, b_ND: Array, pairs: int, seed: int = 0) -> float:
    """Spearman's correlation of the cosines of random pairs in two embeddings of the same sentences."""
    from scipy.stats import spearmanr

    rng = np.random.default_rng(seed)
    first = rng.integers(len(a_ND), size=pairs)
    second = (first + rng.integers(1, len(a_ND), size=pairs)) % len(a_ND)  # never the same sentence
    ours, theirs = ((y_ND[first] * y_ND[second]).sum(axis=1) for y_ND in (a_ND, b_ND))
    return float(spearmanr(ours, theirs).statistic)


def opened(path: Path, *, padded: bool = False) -> Encoder:
    """An ONNX file on ONNX Runtime, or the answer of an artifact on its own runtime."""
    encoder = _opened(path)
    return (lambda feeds: encoder(sentences.padded(feeds))) if padded else encoder


def _opened(path: Path) -> Encoder:
    if path.is_dir():
        import dovetail

        answer = dovetail.load(path)
        return lambda feeds: np.asarray(answer.run(feeds)[0])
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda feeds: np.asarray(session.run(None, feeds)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("original", type=Path, help="an .onnx file")
    parser.add_argument("other", type=Path, help="an .onnx file, or an artifact's folder")
    parser.add_argument("--sentences", type=int, default=SENTENCES)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--padded", action="store_true", help="at 128 tokens, for a network of a fixed length")
    options = parser.parse_args()
    texts = shakespeare(options.sentences)
    a_ND, b_ND = (embeddings(opened(path, padded=options.padded), texts) for path in (options.original, options.other))
    print(f"{agreement(a_ND, b_ND, options.pairs):.3f} Spearman between the cosines of {options.pairs:,} pairs")


if __name__ == "__main__":
    main()
