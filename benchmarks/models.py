"""The reference models as jobs: ``python benchmarks/models.py write OUTDIR`` writes one ``fit.yaml`` a model.

    dovetail optimize --job OUTDIR/resnet20/fit.yaml --out OUTDIR/resnet20/fit

Model and data files stay where they are; the jobs name them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from samples import data_folder

from dovetail.api import make_request
from dovetail.export.artifact import read_manifest, variant_model
from dovetail.measure.arena import Conditions, Contestant
from dovetail.pipeline.describe import MEMORY_SHARE, Request, cache_folder
from dovetail.pipeline.job import Job

HERE = Path(__file__).resolve().parent
WORK = cache_folder() / "benchmarks"
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CIFAR10 = "cifar10/cifar10_test.npz"
PATIENCE_S = 3600.0
"""Longest time for one command of a measured process: torch compiles for minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A model with the data and the limit it is judged by.

    Attributes:
        kind: ``convolutional``, ``transformer``, ``dense`` or ``recurrent``; peers' documentation advises by it.
        model: gives the model file.
        data: a file of the data folder, or a function of ``module``.
        max_drop: limit; ``100pp`` where only speed is asked for.
        job: further keys of ``fit.yaml``.
    """

    kind: str
    model: Callable[[], Path]
    data: str
    metric: str
    max_drop: str
    module: str = "samples.py"
    job: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The job file's content."""
        data = str(data_folder() / self.data) if "/" in self.data else f"{HERE / self.module}:{self.data}"
        keys = {"model": str(self.model()), "data": data, "metric": self.metric, "max_drop": self.max_drop, **self.job}
        return yaml.safe_dump(keys, sort_keys=False)


def _given(name: str) -> Callable[[], Path]:
    return lambda: data_folder() / name


def _minilm() -> Path:
    path = WORK / "minilm.onnx"
    if not path.exists():
        import minilm

        minilm.export(path)
    return path


def _mobilenet() -> Path:
    path = WORK / "mobilenetv2.onnx"
    if not path.exists():
        import mobilenet

        mobilenet.export(path)
    return path


def _resnet(depth: int) -> Reference:
    """Trained on CIFAR-10's training images; the test images are new to it."""
    scaled = {"layout": "NHWC->NCHW", "scale": 1 / 255, **IMAGENET}
    return Reference(
        kind="convolutional",
        model=_given(f"cifar10_resnets/resnet{depth}_cifar10.onnx"),
        data=CIFAR10,
        metric="accuracy",
        max_drop="1pp",
        job={"inputs": {"input": {"from": "x", **scaled}}},
    )


REFERENCES = {
    "resnet8": Reference(
        kind="convolutional",
        model=_given("mlperf_tiny/resnet8_cifar10.onnx"),
        data=CIFAR10,
        metric="accuracy",
        max_drop="1pp",
        job={"inputs": {"input": {"from": "x", "layout": "NHWC->NCHW", "dtype": "float32"}}},
    ),
    "resnet20": _resnet(20),
    "resnet56": _resnet(56),
    "minilm": Reference(kind="transformer", model=_minilm, data="sts_pairs", metric="spearman:cosine", max_drop="1%"),
    "minilm128": Reference(
        kind="transformer", model=_minilm, data="sts_pairs_padded", metric="spearman:cosine", max_drop="1%"
    ),
    "autoencoder": Reference(
        kind="dense",
        model=_given("mlperf_tiny/ad_toycar_autoencoder.onnx"),
        data="mel_frames",
        metric="agreement",
        max_drop="1pp",
    ),
    "superresolution": Reference(
        kind="convolutional",
        model=_given("onnx_models/super_resolution_x3_espcn.onnx"),
        data="photos",
        metric="psnr",
        max_drop="1%",
    ),
    "voiceactivity": Reference(
        kind="recurrent",
        model=_given("onnx_models/silero_vad_16k_op15.onnx"),
        data="speech_windows",
        metric="agreement",
        max_drop="1pp",
        job={"inputs": {"sr": {"value": 16000}}},
    ),
    "mobilenetv2": Reference(
        kind="convolutional",
        model=_mobilenet,
        data="noise",
        metric="agreement",
        max_drop="100pp",
        module="mobilenet.py",
    ),
}


def write(name: str, folder: Path) -> Path:
    """Writes ``fit.yaml`` of one model and returns its path."""
    path = folder / name / "fit.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(REFERENCES[name].text())
    return path


def request(
    name: str, folder: Path, *, out: str = "fit", cache: Path | None = None, command: str = "", **given: Any
) -> Request:
    """One fit of a model.

    Args:
        name: of the model.
        folder: where its folder lies.
        out: name of the artifact's folder in it.
        cache: instead of the user's own.
        command: for the report.
        given: keys of the job file to set.
    """
    job = write(name, folder)
    made = make_request(job, given, out=job.parent / out, command=command or f"dovetail optimize --job {job}")
    return made if cache is None else replace(made, cache=cache)


def conditions(job: Job, logs: Path) -> Conditions:
    """What is the same for all sides of a measurement: the samples that the fit itself is timed on, one a call."""
    return Conditions(
        split=job.splits["timing"].folder,
        indices=job.timing_indices,
        batch=1,
        logs=logs,
        memory_limit_bytes=MEMORY_SHARE * job.environment.memory_bytes,
        start_limit_s=PATIENCE_S,
        call_limit_s=PATIENCE_S,
    )


def answer(artifact: Path, name: str) -> Contestant:
    """An artifact's first variant as a side of a measurement."""
    variant = read_manifest(artifact).variants[0]
    return Contestant(recipe=variant.recipe, model=variant_model(artifact, variant), name=name)


def add_models_option(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """``--models a,b``, by default ``default``."""
    parser.add_argument(
        "--models", type=_names, default=list(default), help=f"of {','.join(REFERENCES)} (default: {','.join(default)})"
    )
    parser.add_argument("--work", type=Path, default=WORK, help=f"folder for everything that is made (default: {WORK})")


def _names(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in REFERENCES]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no model {unknown[0]!r}")
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    writing = parser.add_subparsers(dest="part", required=True).add_parser("write", help="write the job files")
    writing.add_argument("out", type=Path)
    for name in REFERENCES:
        print(write(name, parser.parse_args().out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
