"""Exports all-MiniLM-L6-v2 and writes its job: ``python examples/sentences/prepare.py``. Needs torch and safetensors.

The network is the one that the benchmarks use (``benchmarks/minilm.py``).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parents[1] / "benchmarks"


def job(out: Path, *, padded: bool = False) -> Path:
    """Writes ``fit.yaml``; the model lies beside it. With sentences as long as they are, or all filled up to 128 tokens."""
    end = "_padded" if padded else ""
    keys = {
        "model": "minilm.onnx",
        "data": {part: f"{HERE / 'sentences.py'}:{part}{end}" for part in ("calibrate", "select", "certify")},
        "train": f"{HERE / 'sentences.py'}:train",
        "metric": "spearman:cosine",
        "max_drop": "1%",
    }
    path = out / "fit.yaml"
    path.write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")
    return path


def export(out: Path) -> Path:
    """Writes ``minilm.onnx``, batch and sequence free, once it answers as torch does."""
    sys.path.append(str(BENCHMARKS))
    import minilm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        return minilm.export(out / "minilm.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "made", help="folder, 91 MB")
    parser.add_argument("--padded", action="store_true", help="measure and judge at 128 tokens")
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    export(out)
    written = job(out, padded=options.padded)
    print(f"dovetail optimize --job {written} --train-budget 30m --budget 10m --out {out / 'minilm.fit'}")


if __name__ == "__main__":
    main()
