"""What lowering to LiteRT keeps: ``python benchmarks/lowering.py [--parts equality,resnet8,cost,roundtrip]``.

Promised, of the networks without control flow:

equality
    Each lowers in float and in int8. Against ONNX Runtime without graph optimisations, on real samples, float outputs differ by
    at most 1e-4 of the greatest, and 99.9 % of int8's output values by at most one quantisation step. Where the output is not
    quantised itself, a step is 1/255 of its range over all samples. Where int8 misses, ONNX Runtime's fused kernels are shown.
resnet8
    ResNet-8 becomes nine convolutions, three additions and the head (float, and the published QDQ file); what stands at the
    border keeps the user's layout. In one isolated run it is at most 3 % slower than the published int8 file, both with int8
    input, and its accuracy on the test images is within 0.2 pp of that file's; our own int8 may be better than that.
cost
    ``dovetail export``, the whole command, takes at most 2 s for ResNet-56 and 10 s for MiniLM, and its largest process at most
    four times the model's size and 300 MB. Reported beside it: all its processes together, with shared pages counted in each.
roundtrip
    A published float file keeps its accuracy to the digit when it becomes ONNX and then LiteRT again; int8 is reported.

Appends a row a network and part to ``benchmarks/results/lowering.jsonl``; exit code 1 when a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import rows
import samples
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

from dovetail import plugins
from dovetail.certify import ratio_interval
from dovetail.core import units
from dovetail.core.errors import DovetailError
from dovetail.core.protocols import Array, Feeds, Model, PassContext, TensorSpec
from dovetail.core.recipe import PassSpec, Recipe
from dovetail.core.serial import encode
from dovetail.data.dataset import open_split, write_split
from dovetail.devices.probe import environment
from dovetail.lowering.lower import Report, lower
from dovetail.lowering.raising import raise_to_onnx
from dovetail.measure.arena import Conditions, Contestant, Duel, duel
from dovetail.measure.child import resident_bytes
from dovetail.measure.lock import measuring
from dovetail.pipeline.describe import describe
from dovetail.pipeline.job import Job
from dovetail.search.space import Traits, chains
from dovetail.workloads.normalize import normalize

RELATIVE, SHARE, STEPS = 1e-4, 0.999, (1, 2, 3)
SPEED, ACCURACY_DROP = 0.97, 0.002
MODEL_SIZES, FIXED_BYTES = 4, 300e6
TOKENS, SIDE, WINDOWS = 128, 224, 3
"""MiniLM's sequence, padded; side of the super-resolution network's input; windows along each side of a photograph."""
PUBLISHED = "pretrainedResnet_quant.tflite"
FLOAT_FILE = "pretrainedResnet.tflite"
QDQ = "resnet8_cifar10_int8_qdq.onnx"
POLL_S = 0.01
HEAD = {"CONV_2D": 9, "ADD": 3, "RESHAPE": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}
MEANS = ("MEAN", "AVERAGE_POOL_2D")
QUICK = {"samples": 4, "images": 500, "rounds": 2, "blocks": 2, "seconds": 0.03, "repeats": 1}

Found = tuple[Mapping[str, Any], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure; ``kept`` is ``None`` where nothing is promised."""

    what: str
    found: str
    promised: str = ""
    kept: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What is lowered.

    Attributes:
        reference: key of ``models.REFERENCES``, whose job gives samples.
        chain: of the search space, up to the lowering: ``clean``, ``int8``, ``dynamic int8``.
        published: a QDQ file of ``mlperf_tiny`` that stands in for the reference's model.
        dims: sizes of symbolic dimensions.
    """

    reference: str
    chain: str
    published: str = ""
    dims: Mapping[str, int] | None = None

    @property
    def integer(self) -> bool:
        """Whether it is quantised."""
        return bool(self.published) or self.chain != "clean"

    @property
    def kind(self) -> str:
        """For the table."""
        return "published QDQ" if self.published else {"clean": "float"}.get(self.chain, self.chain)


NETWORKS = (
    *(
        Network(reference=name, chain=chain)
        for name in ("resnet8", "resnet20", "resnet56", "autoencoder", "superresolution")
        for chain in ("clean", "int8")
    ),
    *(Network(reference="minilm", chain=chain, dims={"sequence": TOKENS}) for chain in ("clean", "int8", "dynamic int8")),
    Network(reference="resnet8", chain="clean", published=QDQ),
    Network(reference="autoencoder", chain="clean", published="ad_toycar_autoencoder_int8_qdq.onnx"),
)


# -- models and samples --------------------------------------------------------------------------------------------------


def tiny(name: str) -> Path:
    """A file of MLPerf Tiny."""
    return samples.data_folder() / "mlperf_tiny" / name


@cache
def described(name: str, work: Path) -> Job:
    return describe(models.request(name, work), lambda text: None)


def prepared(network: Network, work: Path, folder: Path) -> Model:
    """The model just before it is lowered, as the search makes it."""
    job = described(network.reference, work)
    if not network.published:
        return built(job.source, passes(job, network.chain), job, folder)
    normalize(tiny(network.published), folder / "normal.onnx")
    return built(Model(path=folder / "normal.onnx"), (PassSpec(name="clean"),), job, folder)


def passes(job: Job, label: str) -> tuple[PassSpec, ...]:
    """Those of a chain of the search space on this machine."""
    kinds = frozenset(node.op_type for node in onnx.load(str(job.source.path)).graph.node)
    traits = Traits(kinds=kinds, quantised=False, free_dims={}, has_calibration=True, lossless_only=False)
    return next(chain.passes for chain in chains(traits, job.environment) if chain.label == label)


def built(model: Model, steps: Sequence[PassSpec], job: Job, folder: Path) -> Model:
    calibration = open_split(job.splits["calibration"].folder)
    for number, step in enumerate(steps):
        made = folder / f"{number}-{step.name}"
        made.mkdir()
        context = PassContext(
            workdir=made, environment=job.environment, calibration=calibration, config=dict(step.params), seed=job.wish.seed
        )
        model = plugins.compression_pass(step.name).apply(model, context)
    return model


def real_feeds(network: Network, work: Path, count: int) -> list[Feeds]:
    """Real samples, spread evenly over the selection split; of the photographs, windows of all six."""
    if network.reference == "superresolution":
        return windows()[:count]
    data = open_split(described(network.reference, work).splits["selection"].folder)
    found = [data.sample(i * len(data) // count).feeds for i in range(count)]
    if network.reference == "minilm":
        return [{name: np.pad(x, ((0, 0), (0, TOKENS - x.shape[1]))) for name, x in feeds.items()} for feeds in found]
    return [as_published(tiny(network.published), feeds) for feeds in found] if network.published else found


def windows() -> list[Feeds]:
    """Luminance of the photographs at their own size, 0 to 1: nine overlapping windows of each."""
    from PIL import Image

    found: list[Feeds] = []
    for path in sorted((samples.data_folder() / "photos").iterdir()):
        with Image.open(path) as image:
            y = np.asarray(image.convert("YCbCr").getchannel(0), np.float32) / 255
        tops, lefts = (np.linspace(0, size - SIDE, WINDOWS).astype(int) for size in y.shape)
        found += [{"input": y[None, None, top : top + SIDE, left : left + SIDE]} for top in tops for left in lefts]
    return found


def as_published(path: Path, feeds: Feeds) -> Feeds:
    """The one float input as a published QDQ file takes it: channels last, and integers by the scale that it reads them by."""
    graph = onnx.load(str(path)).graph
    (port,) = (value.name for value in graph.input)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    raw = {port, *(n.output[0] for n in graph.node if n.op_type == "Transpose" and n.input[0] == port)}
    reader = next(n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in raw)
    scale, zero = (constants[name] for name in reader.input[1:3])
    (x,) = feeds.values()
    x = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    limits = np.iinfo(zero.dtype)
    q = np.clip(np.rint(x / scale) + zero.astype(np.float64), limits.min, limits.max)
    return {port: q.astype(zero.dtype)}


# -- running -------------------------------------------------------------------------------------------------------------


def onnxruntime_answers(path: Path, feeds: Sequence[Feeds], fused: bool = False) -> Array:
    """First output on each sample."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, dict(f))[0] for f in feeds])


def litert_answers(path: Path, feeds: Sequence[Feeds]) -> Array:
    """The same by LiteRT, through the product's runtime."""
    session = plugins.runtime("litert").build(Model(path=path, format="litert"), {})
    try:
        return np.concatenate([session.run(f)[0] for f in feeds])
    finally:
        session.close()


# -- equality ------------------------------------------------------------------------------------------------------------


def equality(options: argparse.Namespace) -> Iterator[Found]:
    """A row a network and form."""
    for network in NETWORKS:
        if network.reference in options.models:
            config = {"model": f"{network.reference}, {network.kind}", "samples": options.samples}
            try:
                yield config, compared(network, options)
            except DovetailError as exc:
                yield config, {"lines": [Line(what="lowers", found=str(exc), promised="yes", kept=False)]}


def compared(network: Network, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = prepared(network, options.work / "lowering", folder).path
        feeds = real_feeds(network, options.work / "lowering", options.samples)
        report = lower(model, folder / "model.tflite", network.dims)
        want, got = onnxruntime_answers(model, feeds), litert_answers(folder / "model.tflite", feeds)
        operators = shown_operators(report)
        lines = [Line(what="operators", found=operators), *(Line(what="adjusted", found=note) for note in report.notes)]
        figures = {"samples": len(feeds), "operators": Counter(report.operators), "notes": report.notes}
        if not network.integer:
            return figures | {"lines": [*lines, float_line(want, got)], "relative": relative(want, got)}
        step, grid = step_of(model, want)
        fused = onnxruntime_answers(model, feeds, fused=True)
        pairs = {"within": (want, got), "fused_within": (want, fused), "within_fused": (fused, got)}
        found = {key: shares(*pair, step) for key, pair in pairs.items()}
    figures |= {"step": step, "grid": grid, "relative": relative(want, got), **found}
    return figures | {"lines": [*lines, *integer_lines(found, grid)]}


def shown_operators(report: Report) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(report.operators).items())


def relative(want: Array, got: Array) -> float:
    """Greatest difference of a sample relative to its greatest value, the worst sample's."""
    a, b = (x.astype(np.float64).reshape(len(x), -1) for x in (want, got))
    return float((np.abs(a - b).max(axis=1) / np.maximum(np.abs(a).max(axis=1), np.finfo(np.float32).tiny)).max())


def step_of(model: Path, values: Array) -> tuple[float, str]:
    """Quantisation step of the first output in its own unit, and where it comes from."""
    if values.dtype.kind in "iu":
        return 1.0, "its own"
    graph = onnx.load(str(model)).graph
    producer = next(node for node in graph.node if graph.output[0].name in node.output)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    if producer.op_type == "DequantizeLinear" and producer.input[1] in constants:
        return float(numpy_helper.to_array(constants[producer.input[1]])), "its own"
    return float(values.max() - values.min()) / 255, "1/255 of the output's range"


def shares(want: Array, got: Array, step: float) -> list[float]:
    """Shares of output values within each number of :data:`STEPS`; the slack is float32's rounding of a whole step."""
    distance = np.abs(want.astype(np.float64) - got.astype(np.float64)) / step
    return [float((distance <= count + 1e-3).mean()) for count in STEPS]


def float_line(want: Array, got: Array) -> Line:
    worst = relative(want, got)
    return Line(what="greatest relative difference", found=f"{worst:.2g}", promised=f"≤ {RELATIVE:g}", kept=worst <= RELATIVE)


def integer_lines(found: Mapping[str, Sequence[float]], grid: str) -> list[Line]:
    ours = found["within"]
    kept = ours[0] >= SHARE
    lines = [Line(what=f"within a step ({grid})", found=f"{ours[0]:.3%}", promised=f"≥ {SHARE:.1%}", kept=kept)]
    if not kept:
        lines.append(Line(what="within 2 and 3 steps", found=f"{ours[1]:.3%} and {ours[2]:.3%}"))
        others = {"fused_within": "ONNX Runtime fused against unfused", "within_fused": "against ONNX Runtime fused"}
        for key, what in others.items():
            lines.append(Line(what=f"{what}, 1, 2, 3 steps", found=", ".join(f"{share:.3%}" for share in found[key])))
    return lines


# -- resnet8 -------------------------------------------------------------------------------------------------------------


def resnet8(options: argparse.Namespace) -> Iterator[Found]:
    """One row: what it becomes, how fast it is, and how good."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files: dict[str, Path] = {"published": tiny(PUBLISHED)}
        lines, operators = [], {}
        for network in (n for n in NETWORKS if n.reference == "resnet8"):
            (folder / network.kind).mkdir()
            files[network.kind] = folder / f"{network.kind}.tflite"
            model = prepared(network, options.work / "lowering", folder / network.kind)
            operators[network.kind] = lower(model.path, files[network.kind]).operators
            lines.append(structure_line(network.kind, operators[network.kind]))
        speed_lines, speed = raced(files, options, folder)
        accuracy_lines, accuracy = judged(files, options.images)
    figures = {"operators": operators, "speed": speed, "accuracy": accuracy}
    config = {"model": "resnet8", **{key: getattr(options, key) for key in ("rounds", "blocks", "seconds", "images")}}
    yield config, figures | {"lines": [*lines, *speed_lines, *accuracy_lines]}


def structure_line(kind: str, operators: Sequence[str]) -> Line:
    """Whether nothing but the network is left between the border's transposes; our int8 keeps a part of the head in float."""
    start, end = operators[0] == "TRANSPOSE", len(operators) - (operators[-1] == "TRANSPOSE")
    inner = Counter(operators[start:end])
    shown = ", ".join(f"{count} {name}" for name, count in inner.items())
    border = ", ".join((*operators[:start], *operators[end:])) or "nothing"
    kept = sum(inner.pop(name, 0) for name in MEANS) == 1 and dict(inner) == HEAD
    promised = "" if kind == "int8" else "9, 3 and the head"
    return Line(what=f"{kind} becomes", found=f"{shown}; border: {border}", promised=promised, kept=kept if promised else None)


def raced(files: Mapping[str, Path], options: argparse.Namespace, folder: Path) -> tuple[list[Line], dict[str, Any]]:
    """Integer input against the published file; float input by itself, because sides of one run take the same samples."""
    job = described("resnet8", options.work / "lowering")
    data = open_split(job.splits["timing"].folder)
    raw = [data.sample(i).feeds for i in job.timing_indices]
    ours = replace(models.conditions(job, folder / "logs"), split=stored(raw, folder / "float"), indices=tuple(range(len(raw))))
    theirs = replace(ours, split=stored([as_published(tiny(QDQ), feeds) for feeds in raw], folder / "int8"))
    with measuring(lambda text: print(text, file=sys.stderr)):
        equal = run_duel(files, ("published QDQ", "published"), theirs, options)
        other = run_duel(files, ("int8", "float"), ours, options)
    latency = {k: m.latency_s for found in (equal, other) for k, m in found.measurements.items()}
    ratio = ratio_interval(equal.log_ratios("published QDQ", "published"))
    shown = f"{ratio.point:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
    what = "speed of published QDQ, lowered, over the published file's"
    lines = [Line(what=what, found=shown, promised=f"≥ {SPEED:g}", kept=ratio.point >= SPEED)]
    lines += [Line(what=f"time of a call, {kind}", found=units.time(latency[kind])) for kind in latency]
    for kind in ("int8", "float"):
        apart = f"{latency['published'] / latency[kind]:.3f}, not in the same run"
        lines.append(Line(what=f"speed of {kind}, float input, over the published file's", found=apart))
    return lines, {"latency_s": latency, "ratio": encode(ratio), "log_ratios": equal.log_ratios("published QDQ", "published")}


def stored(feeds: Sequence[Feeds], folder: Path) -> Path:
    """The samples as a split."""
    specs = [TensorSpec(name=name, dtype=x.dtype.name, shape=x.shape) for name, x in feeds[0].items()]
    return write_split(folder, [(f, number, None) for number, f in enumerate(feeds)], specs, name="timing").folder


def run_duel(files: Mapping[str, Path], kinds: Sequence[str], conditions: Conditions, options: argparse.Namespace) -> Duel:
    sides = [
        Contestant(recipe=Recipe(runtime="litert"), model=Model(path=files[kind], format="litert"), name=kind) for kind in kinds
    ]
    found = duel(sides, conditions, rounds=options.rounds, blocks=options.blocks, seconds=options.seconds)
    for kind, outcome in found.failures.items():
        raise RuntimeError(f"{kind} fails: {outcome.reason}")
    return found


def judged(files: Mapping[str, Path], count: int) -> tuple[list[Line], dict[str, float]]:
    pixels, labels = images(count)
    takes = {"int8": channels_first, "float": channels_first}
    accuracy = {kind: accuracy_of(path, takes.get(kind, signed), pixels, labels) for kind, path in files.items()}
    lines = [Line(what=f"accuracy of the published file, {count:,} images", found=f"{accuracy['published']:.2%}")]
    gain = {kind: accuracy[kind] - accuracy["published"] for kind in ("published QDQ", "int8", "float")}
    promises = {
        "published QDQ": ("within 0.2 pp", abs(gain["published QDQ"]) <= ACCURACY_DROP + 1e-9),
        "int8": ("at most 0.2 pp below", gain["int8"] >= -ACCURACY_DROP - 1e-9),
    }
    for kind in gain:
        promised, kept = promises.get(kind, ("", None))
        shown = f"{accuracy[kind]:.2%} ({100 * gain[kind]:+.2f} pp)"
        lines.append(Line(what=f"accuracy of {kind}, lowered", found=shown, promised=promised, kept=kept))
    return lines, accuracy


def images(count: int) -> tuple[Array, Array]:
    """Test images ``[N, 32, 32, 3]`` uint8, and labels."""
    with np.load(samples.data_folder() / models.CIFAR10, allow_pickle=False) as file:
        return file["x"][:count], file["y"][:count].reshape(-1)


def channels_first(pixels: Array) -> Array:
    return pixels.transpose(0, 3, 1, 2).astype(np.float32)


def channels_last(pixels: Array) -> Array:
    return pixels.astype(np.float32)


def signed(pixels: Array) -> Array:
    return (pixels.astype(np.int16) - 128).astype(np.int8)


def accuracy_of(path: Path, take: Callable[[Array], Array], pixels: Array, labels: Array) -> float:
    """Top-1 share of a LiteRT or an ONNX file, image by image."""
    if path.suffix == ".tflite":
        session = plugins.runtime("litert").build(Model(path=path, format="litert"), {})
        (port,) = session.inputs
        session.close()
        answers = litert_answers(path, [{port.name: take(x[None])} for x in pixels])
    else:
        name = onnx.load(str(path)).graph.input[0].name
        answers = onnxruntime_answers(path, [{name: take(x[None])} for x in pixels], fused=True)
    return float((answers.argmax(axis=1) == labels).mean())


# -- cost ----------------------------------------------------------------------------------------------------------------

LIMITS_S = {"resnet56": 2.0, "minilm": 10.0}
SIZES = {"minilm": ("--size", f"sequence={TOKENS}")}
_LAUNCH = """
import json, os, sys, time
start = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - start
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss * 1024]))
"""
"""Starts a command from a small process: Linux counts what the starting process holds towards the peak of the new one."""


def cost(options: argparse.Namespace) -> Iterator[Found]:
    """A row a model."""
    for name in (key for key in LIMITS_S if key in options.models):
        model = models.REFERENCES[name].model()
        with measuring(lambda text: print(text, file=sys.stderr)), tempfile.TemporaryDirectory() as folder:
            command = [str(Path(sys.executable).with_name("dovetail")), "export", str(model), "--to", "litert", "--force"]
            command += ["--out", f"{folder}/model.tflite", *SIZES.get(name, ())]
            runs = [launched(command) for _ in range(options.repeats)]
            together = peak_together(command)
        yield {"model": name, "repeats": options.repeats}, cost_figures(name, model.stat().st_size, runs, together)


def launched(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of a command, and the peak resident set of its largest process."""
    answer = subprocess.run([sys.executable, "-c", _LAUNCH, *command], capture_output=True, text=True, check=True)
    code, seconds, peak = json.loads(answer.stdout)
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code}: {answer.stderr.strip()}")
    return seconds, peak


def peak_together(command: Sequence[str]) -> float:
    """Peak of all processes of a command together; shared pages count in every process."""
    running, peak = subprocess.Popen(command, stdout=subprocess.DEVNULL), 0.0
    while running.poll() is None:
        peak = max(peak, resident_bytes(running.pid))
        time.sleep(POLL_S)
    return peak


def cost_figures(name: str, model_bytes: int, runs: Sequence[tuple[float, float]], together: float) -> dict[str, Any]:
    seconds, peak = statistics.median(s for s, _ in runs), max(p for _, p in runs)
    allowed = MODEL_SIZES * model_bytes + FIXED_BYTES
    lines = [
        Line(what="time", found=units.time(seconds), promised=f"≤ {LIMITS_S[name]:g} s", kept=seconds <= LIMITS_S[name]),
        Line(what="largest process", found=units.size(peak), promised=f"≤ {units.size(allowed)}", kept=peak <= allowed),
        Line(what="all processes together", found=units.size(together)),
    ]
    memory = {"peak_bytes": peak, "together_bytes": together, "allowed_bytes": allowed, "model_bytes": model_bytes}
    return {"lines": lines, "seconds": [s for s, _ in runs], **memory}


# -- round trip ----------------------------------------------------------------------------------------------------------


def roundtrip(options: argparse.Namespace) -> Iterator[Found]:
    """A row a published file."""
    pixels, labels = images(options.images)
    for name, take in ((FLOAT_FILE, channels_last), (PUBLISHED, signed)):
        with tempfile.TemporaryDirectory() as folder:
            accuracy = {
                form: accuracy_of(path, take, pixels, labels) for form, path in there_and_back(tiny(name), Path(folder)).items()
            }
        promised = take is channels_last
        lines = [Line(what=f"accuracy as published, {len(labels):,} images", found=f"{accuracy['published']:.2%}")]
        for form in ("raised", "lowered"):
            same = accuracy[form] == accuracy["published"]
            lines.append(
                Line(
                    what=f"accuracy {form}",
                    found=f"{accuracy[form]:.2%}",
                    promised="the same" if promised else "",
                    kept=same if promised else None,
                )
            )
        yield {"model": name, "images": len(labels)}, {"lines": lines, "accuracy": accuracy}


def there_and_back(source: Path, folder: Path) -> dict[str, Path]:
    """The file, the ONNX model that it becomes, and the file that this one becomes."""
    raised, back = folder / "raised.onnx", folder / "back.tflite"
    raise_to_onnx(source, raised)
    normalize(raised, folder / "normal.onnx")
    (folder / "clean").mkdir()
    context = PassContext(workdir=folder / "clean", environment=environment())
    lower(plugins.compression_pass("clean").apply(Model(path=folder / "normal.onnx"), context).path, back)
    return {"published": source, "raised": raised, "lowered": back}


# -- all -----------------------------------------------------------------------------------------------------------------

PARTS: Mapping[str, Callable[[argparse.Namespace], Iterator[Found]]] = {
    "equality": equality,
    "resnet8": resnet8,
    "cost": cost,
    "roundtrip": roundtrip,
}


def measured(options: argparse.Namespace) -> Iterator[rows.Row]:
    """Runs the chosen parts; files each row as soon as it is there, unless the run is a quick one."""
    for part in options.parts:
        for config, figures in PARTS[part](options):
            config, figures = {"part": part, **config}, {**figures, "lines": [asdict(line) for line in figures["lines"]]}
            for line in figures["lines"]:
                print(f"{part}, {config['model']}: {line['what']}: {line['found']}", file=sys.stderr, flush=True)
            yield {"config": config, "figures": figures} if options.quick else rows.append("lowering", config, figures)


def latest() -> list[rows.Row]:
    """The last row of every part and network."""
    found = rows.read(rows.FOLDER / "lowering.jsonl")
    return list({(row["config"]["part"], row["config"]["model"]): row for row in found}.values())


def show(found: Sequence[rows.Row]) -> bool:
    """Prints the table; true when every promise is kept."""
    table = Table(title="Lowering to LiteRT", title_justify="left")
    for column in ("part", "network", "figure", "found", "promised", "kept"):
        table.add_column(column)
    for row in found:
        first = (row["config"]["part"], row["config"]["model"])
        for line in row["figures"]["lines"]:
            kept = {None: "", True: "yes", False: "no"}[line["kept"]]
            table.add_row(*first, line["what"], line["found"], line["promised"], kept)
            first = ("", "")
        table.add_section()
    Console(width=180).print(table)
    return all(line["kept"] is not False for row in found for line in row["figures"]["lines"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models.add_models_option(parser, tuple(dict.fromkeys(network.reference for network in NETWORKS)))
    parser.add_argument("--parts", type=_parts, default=list(PARTS), help=f"of {','.join(PARTS)} (default: all)")
    parser.add_argument("--samples", type=int, default=54, help="samples per network for equality (default: 54)")
    parser.add_argument("--images", type=int, default=10_000, help="test images for accuracy (default: 10000)")
    parser.add_argument("--rounds", type=int, default=8, help="fresh processes a side (default: 8)")
    parser.add_argument("--blocks", type=int, default=5, help="blocks per process (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.15, help="per block (default: 0.15)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each export (default: 5)")
    parser.add_argument("--quick", action="store_true", help="see that every part works: few samples, and no row is filed")
    parser.add_argument("--show", action="store_true", help="print the table of the latest rows and measure nothing")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    return 0 if show(latest() if options.show else list(measured(options))) else 1


def _parts(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]!r}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
