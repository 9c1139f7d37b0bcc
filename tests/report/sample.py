"""A fit of ResNet-20 (CIFAR-10) as it plausibly comes out, and its awkward relatives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.explanation import Cause, Explanation, GroupTime
from dovetail.core.measurement import Environment, Interval, Measurement
from dovetail.core.outcome import (
    CandidateRecord,
    Fate,
    FitResult,
    FitStatus,
    Infeasible,
    LayerWidth,
    LedgerRow,
    MadeStep,
    Quality,
)
from dovetail.core.profile import KernelTime, Profile
from dovetail.core.recipe import PassSpec, Recipe, freeze
from dovetail.core.workload import Op, Workload

ENVIRONMENT = Environment(
    fingerprint="9f3c1a7be2d04c55",
    cpu="Intel(R) Xeon(R) Processor @ 2.70GHz",
    cores=2,
    isa=("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"),
    memory_bytes=16.4e9,
    os="Linux 6.1 x86_64, Debian 12",
    python="3.11.7",
    versions={"dovetail": "0.1.0", "onnxruntime": "1.31.0", "openvino": "2026.4.0", "nncf": "3.4.0", "numpy": "2.4.1"},
)

_BASELINE_S = 251e-6
_FIRST_UNIT = (0.9173, 8000)


def conv(name: str, source: str, out_channels: int, in_channels: int, side: int, kernel: int = 3) -> tuple[Op, Op]:
    """A convolution with its ReLU at batch 1."""
    weights = out_channels * in_channels * kernel * kernel
    act = out_channels * side * side
    made = Op(
        name=f"/{name}/Conv",
        kind="Conv",
        flop=2.0 * weights * side * side,
        weight_bytes=4.0 * weights,
        input_bytes=4.0 * in_channels * side * side,
        output_bytes=4.0 * act,
        params=weights,
        dtype="float32",
        inputs=(source, f"{name}.weight"),
        outputs=(f"{name}.out",),
        output_shapes=((1, out_channels, side, side),),
    )
    relu = Op(
        name=f"/{name}/Relu",
        kind="Relu",
        flop=float(act),
        weight_bytes=0.0,
        input_bytes=4.0 * act,
        output_bytes=4.0 * act,
        params=0,
        dtype="float32",
        inputs=(f"{name}.out",),
        outputs=(f"{name}.relu",),
        output_shapes=((1, out_channels, side, side),),
    )
    return made, relu


def layers() -> Iterator[tuple[str, tuple[Op, Op]]]:
    """The nineteen convolutions of ResNet-20."""
    yield "conv1", conv("conv1", "input", 16, 3, 32)
    source, width = "conv1.relu", 16
    for stage, (channels, side) in enumerate(((16, 32), (32, 16), (64, 8)), start=1):
        for block in range(3):
            for half in (1, 2):
                name = f"layer{stage}.{block}.conv{half}"
                yield name, conv(name, source, channels, width, side)
                source, width = f"{name}.relu", channels


def workload() -> Workload:
    gemm = Op(
        name="/linear/Gemm",
        kind="Gemm",
        flop=1280.0,
        weight_bytes=2600.0,
        input_bytes=256.0,
        output_bytes=40.0,
        params=650,
        dtype="float32",
        inputs=("layer3.2.conv2.relu", "linear.weight"),
        outputs=("logits",),
        output_shapes=((1, 10),),
    )
    ops = tuple(op for _, pair in layers() for op in pair)
    return Workload(
        model_hash="b1946ac92492d234",
        input_shapes={"input": (1, 3, 32, 32)},
        assumed_dims={"batch": 1},
        ops=(*ops, gemm),
        peak_activation_bytes=131072.0,
        uncounted={"Pad": "no arithmetic rule"},
    )


def profile(call_s: float, quantised: bool, rng: np.random.Generator) -> Profile:
    kind = "QLinearConv" if quantised else "FusedConv"
    flops = np.array([pair[0].flop or 0.0 for _, pair in layers()])
    times = flops / flops.sum() * call_s * 0.82 * rng.uniform(0.8, 1.25, len(flops))
    kernels = [
        KernelTime(
            name=f"fused {name}",
            kind=kind,
            time_s=float(t),
            dtype="int8" if quantised else "float32",
            sources=(pair[0].name, pair[1].name),
        )
        for (name, pair), t in zip(layers(), times, strict=True)
    ]
    kernels.append(KernelTime(name="/linear/Gemm", kind="Gemm", time_s=1.4e-6))
    if quantised:
        kernels.insert(0, KernelTime(name="input_QuantizeLinear", kind="QuantizeLinear", time_s=2.9e-6))
    return Profile(runtime="onnxruntime", call_s=call_s, kernels=tuple(kernels), threads=2)


def measurement(latency_s: float, rng: np.random.Generator, processes: int = 6, blocks: int = 8) -> Measurement:
    shifts = rng.normal(1.0, 0.006, (processes, 1))
    medians = latency_s * shifts * rng.normal(1.0, 0.009, (processes, blocks))
    return Measurement(
        block_medians_s=tuple(tuple(float(v) for v in row) for row in medians),
        calls=processes * blocks * 700,
        quantiles_s={"0.5": latency_s, "0.95": latency_s * 1.06, "0.99": latency_s * 1.21},
        peak_memory_bytes=61.4e6,
        load_s=0.21,
    )


def quality(drop: float, n: int = 8000, split: str = "certification") -> Quality:
    half = 1.65 * math.sqrt(0.02 / n)
    reference = _FIRST_UNIT[0]
    return Quality(
        split=split,
        n=n,
        value=reference - drop,
        reference=reference,
        drop=Interval(point=drop, low=drop - half, high=drop + half, confidence=0.9),
    )


def recipe(runtime: str, *passes: PassSpec, **options: object) -> Recipe:
    return Recipe(passes=passes, runtime=runtime, options=freeze(options))


INT8 = PassSpec(name="quantize_static", params=freeze({"per_channel": True, "calibration": "percentile", "symmetric": False}))
DEFAULT = recipe("onnxruntime")
BEST_BASELINE = recipe("onnxruntime", threads=2, spinning=True)
WINNER = recipe("onnxruntime", PassSpec(name="fold_batch_norm"), INT8, threads=2, io_binding=True)
AUTOENCODER_LIKE = recipe("openvino", INT8, precision="i8", threads=1)


def certificates() -> tuple[Certificate, ...]:
    return (
        Certificate(
            claim="Accuracy drops by at most 1 pp against the original: 0.11 pp measured, at most 0.32 pp.",
            kind="quality",
            verdict=Verdict.CERTIFIED,
            method="score interval of a paired difference (Tango 1998)",
            n=8000,
            alpha=0.025,
            interval=Interval(point=0.0011, low=-0.001, high=0.0032),
            baseline_value=0.9173,
            value=0.9162,
            looks=2,
            data_hashes={"certification": "4c1f09d2aa31e7b8", "selection": "77aa03b1c09d2ef1"},
        ),
        Certificate(
            claim="1.77 times as fast as the best baseline: 142 µs against 251 µs per call.",
            kind="speed",
            verdict=Verdict.CERTIFIED,
            method="t interval of the log ratio over process pairs",
            n=6,
            alpha=0.025,
            interval=Interval(point=1.77, low=1.74, high=1.80),
            baseline_value=251e-6,
            value=142e-6,
            environment="9f3c1a7be2d04c55",
        ),
        Certificate(
            claim="p99 latency is at most 5 ms.",
            kind="latency_s",
            verdict=Verdict.CANNOT_CERTIFY,
            method="order statistic",
            n=320,
            alpha=0.05,
            reason="cannot certify: n = 320, needs about 368 calls",
        ),
    )


def explanation() -> Explanation:
    return Explanation(
        summary="1.92 times as slow as the best baseline: 210 µs per call go to conversions around int8 convolutions.",
        causes=(
            Cause(
                name="unfused_quantize",
                cost_s=142e-6,
                text="38 quantise and dequantise nodes stayed outside the convolutions.",
                operators=tuple(f"/layer1.{i}/QuantizeLinear" for i in range(9)),
            ),
            Cause(name="reorder", cost_s=68e-6, text="12 layout conversions between blocked and plain formats."),
            Cause(name="convolution", cost_s=-41e-6, text="The convolutions themselves are faster in int8."),
        ),
        groups=(
            GroupTime(group="convolution", baseline_s=214e-6, candidate_s=173e-6),
            GroupTime(group="quantise and dequantise", baseline_s=None, candidate_s=142e-6),
            GroupTime(group="reorder", baseline_s=9e-6, candidate_s=77e-6),
        ),
    )


def baselines(rng: np.random.Generator) -> list[CandidateRecord]:
    size = 1.09e6
    rows = [
        (DEFAULT, 264e-6, "original, ONNX Runtime defaults", None, 0.951),
        (BEST_BASELINE, _BASELINE_S, "original, ONNX Runtime, 2 threads", profile(_BASELINE_S, False, rng), 1.0),
        (recipe("openvino", precision="f32"), 263e-6, "original, OpenVINO f32", None, 0.954),
        (recipe("torch", mode="eager"), 1.9e-3, "original, torch eager", None, 0.132),
    ]
    return [
        CandidateRecord(
            recipe=r,
            fate=Fate.BASELINE,
            reason="the original always runs",
            is_baseline=True,
            label=label,
            size_bytes=size,
            measurement=measurement(t, rng),
            profile=p,
            speedup=Interval(point=s, low=s * 0.99, high=s * 1.01),
        )
        for r, t, label, p, s in rows
    ]


def winner(rng: np.random.Generator) -> CandidateRecord:
    return CandidateRecord(
        recipe=WINNER,
        fate=Fate.WINNER,
        reason="fastest with the drop certified",
        label="int8 static, per channel, ONNX Runtime, 2 threads",
        size_bytes=0.31e6,
        build_s=3.4,
        screening=measurement(145e-6, rng, 1),
        measurement=measurement(142e-6, rng),
        speedup=Interval(point=1.77, low=1.74, high=1.80),
        quality=quality(0.0011),
        profile=profile(142e-6, True, rng),
        certificates=certificates(),
    )


def challengers(rng: np.random.Generator, n: int) -> list[CandidateRecord]:
    fates = (Fate.FINALIST, Fate.RUNNER_UP, Fate.QUALITY, Fate.TOO_SLOW, Fate.PREDICTED_OUT, Fate.INFEASIBLE, Fate.OUT_OF_TIME)
    share = (0.06, 0.24, 0.15, 0.25, 0.15, 0.1, 0.05)
    made = []
    for i in range(n):
        fate = fates[int(rng.choice(len(fates), p=share))]
        made.append(challenger(i, fate, rng))
    return made


_REASONS = {
    Fate.FINALIST: "certified, but the winner is faster",
    Fate.RUNNER_UP: "not distinguishable from the winner after 12 blocks",
    Fate.QUALITY: "drop 2.4 pp on the selection split, permitted 1 pp",
    Fate.TOO_SLOW: "slower than the best by 1.08 at least",
    Fate.PREDICTED_OUT: "predicted 410 µs, best so far 151 µs",
    Fate.INFEASIBLE: "the runtime refused the model",
    Fate.OUT_OF_TIME: "the budget ended before it was measured",
}


def challenger(i: int, fate: Fate, rng: np.random.Generator) -> CandidateRecord:
    runtime = ("onnxruntime", "openvino")[i % 2]
    made = recipe(runtime, INT8, threads=1 + i % 2, islands=i, precision=("int8", "bf16", "mixed")[i % 3])
    label = f"int8 with {i} float islands, {'OpenVINO' if i % 2 else 'ONNX Runtime'}, {1 + i % 2} threads"
    record = CandidateRecord(recipe=made, fate=fate, reason=_REASONS[fate], label=label, size_bytes=0.31e6 + 0.02e6 * (i % 30))
    if fate is Fate.INFEASIBLE:
        failure = Infeasible(
            stage="build",
            reason="NOT_IMPLEMENTED: ConvInteger(10) for 4-bit weights",
            detail="Traceback …\nRuntimeError: no kernel\n" * 4,
            reproduce="python -m dovetail.worker job.json",
        )
        return replace(record, infeasible=failure, reason=failure.reason, size_bytes=None)
    if fate in (Fate.PREDICTED_OUT, Fate.OUT_OF_TIME):
        return record
    low, high = {Fate.TOO_SLOW: (280e-6, 620e-6), Fate.QUALITY: (128e-6, 190e-6)}.get(fate, (146e-6, 215e-6))
    latency = float(rng.uniform(low, high))
    point = _BASELINE_S / latency
    drop = float(rng.uniform(0.012, 0.03) if fate is Fate.QUALITY else rng.uniform(-0.001, 0.007))
    return replace(
        record,
        build_s=3.1,
        screening=measurement(latency, rng, 2),
        quality=quality(drop, 2000, "selection"),
        speedup=Interval(point=point, low=point * 0.98, high=point * 1.02),
        explanation=explanation() if fate is Fate.TOO_SLOW and i % 3 == 0 else None,
    )


def fit(n: int = 36) -> FitResult:
    """A certified fit with ``n`` challengers beside four baselines and the winner."""
    rng = np.random.default_rng(7)
    first = winner(rng)
    return FitResult(
        status=FitStatus.CERTIFIED,
        headline="1.77 times as fast as the best baseline at 0.11 pp less accuracy: 142 µs per call, 0.31 MB.",
        beats_baseline=True,
        winner=WINNER.key,
        best_baseline=BEST_BASELINE.key,
        default_baseline=DEFAULT.key,
        candidates=(*baselines(rng), first, *challengers(rng, n)),
        front=(WINNER.key,),
        objective="latency",
        metric="accuracy",
        max_drop="1pp",
        margin=0.01,
        model_name="resnet20_cifar10.onnx",
        model_hash="b1946ac92492d234",
        workload=workload(),
        environment=ENVIRONMENT,
        splits={"calibration": 512, "selection": 2000, "certification": 8000},
        ledger=(
            LedgerRow(stage="analyse", seconds=0.4, count=1),
            LedgerRow(stage="predict", seconds=0.2, count=n + 5),
            LedgerRow(stage="build", seconds=96.1, count=31),
            LedgerRow(stage="screen", seconds=121.7, count=29),
            LedgerRow(stage="measure", seconds=88.3, count=5),
            LedgerRow(stage="certify", seconds=41.9, count=3),
        ),
        artifact="fit",
        runs_alone=True,
        warnings=("Steal time reached 4 % in block 7; the block was repeated.",),
        sensitivity={name: 0.004 * math.exp(-i / 4) - 0.0002 for i, (name, _) in enumerate(layers())},
        command="dovetail optimize resnet20_cifar10.onnx --data cifar10_test.npz --metric accuracy --max-drop 1pp --out fit",
        seconds=352.0,
    )


def pruned() -> FitResult:
    """An answer whose network was made smaller and trained."""
    rng = np.random.default_rng(4)
    steps = (
        PassSpec(name="prune_blocks", params=freeze({"count": 4})),
        PassSpec(name="distil", params=freeze({"epochs": 12})),
    )
    result = fit()
    smaller = replace(winner(rng), recipe=recipe("onnxruntime", *steps, INT8), label="blocks −4 → 12 epochs → int8")
    widths = (LayerWidth(layer="layer3.7.conv1", before=4, after=2), LayerWidth(layer="layer3.8.conv1", before=2, after=2))
    made = (
        MadeStep(step=str(steps[0]), seconds=1.2, size_bytes=9e5, layers=widths),
        MadeStep(step=str(steps[1]), seconds=240.0, size_bytes=9e5, loss=tuple((float(i), 2.0 / i) for i in range(1, 13))),
    )
    return replace(result, winner=smaller.recipe.key, candidates=(*result.candidates, smaller), made=made)


def without_data() -> FitResult:
    """Lossless recipes only: quality was never looked at."""
    result = fit(8)
    bare = tuple(
        replace(c, quality=None, certificates=c.certificates[1:2]) for c in result.candidates if c.fate is not Fate.QUALITY
    )
    return replace(
        result,
        status=FitStatus.BEST_EFFORT,
        headline="1.77 times as fast as the best baseline; quality not certified: no data was given.",
        candidates=bare,
        metric="",
        max_drop="",
        splits={},
        sensitivity={},
    )


def infeasible() -> FitResult:
    """A limit that nothing meets."""
    result = fit(12)
    kept = tuple(replace(c, fate=Fate.TOO_SLOW, certificates=()) if c.fate is Fate.WINNER else c for c in result.candidates)
    return replace(
        result,
        status=FitStatus.INFEASIBLE,
        headline="No candidate stays below 50 µs within a drop of 1 pp.",
        candidates=kept,
        relaxation="latency 145 µs at a drop of 1 pp, or 98 µs at a drop of 4 pp",
        winner="",
        front=(),
        beats_baseline=False,
        artifact="",
    )


def nothing_beats() -> FitResult:
    """The best baseline is the answer."""
    result = fit(12)
    kept = tuple(replace(c, fate=Fate.TOO_SLOW) if c.fate is Fate.WINNER else c for c in result.candidates)
    return replace(
        result,
        headline="Nothing beats the baseline: ONNX Runtime with 2 threads, 251 µs per call.",
        beats_baseline=False,
        winner=BEST_BASELINE.key,
        candidates=kept,
        front=(BEST_BASELINE.key,),
    )


def bare() -> FitResult:
    """No workload, no profile, no sensitivity, no memory, no ledger: everything that may be absent is."""
    result = fit(6)

    def strip(c: CandidateRecord) -> CandidateRecord:
        measured = c.measurement and replace(c.measurement, peak_memory_bytes=None, quantiles_s={})
        return replace(c, profile=None, explanation=None, size_bytes=None, measurement=measured, speedup=None, certificates=())

    return replace(
        result,
        workload=None,
        candidates=tuple(strip(c) for c in result.candidates),
        sensitivity={},
        ledger=(),
        command="",
        warnings=(),
        environment=replace(ENVIRONMENT, isa=(), versions={}),
    )


HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)> \x1b[31m[bold red]名前 é {{ 7*7 }}"


def hostile() -> FitResult:
    """Names that try to be markup, for HTML, SVG, rich and terminals alike."""
    result = fit(10)

    def poison(c: CandidateRecord) -> CandidateRecord:
        sore = c.profile and replace(
            c.profile, kernels=tuple(replace(k, name=HOSTILE, kind=HOSTILE) for k in c.profile.kernels)
        )
        failure = c.infeasible and replace(c.infeasible, reason=HOSTILE, detail=HOSTILE, reproduce=HOSTILE)
        found = c.explanation and replace(c.explanation, summary=HOSTILE)
        claims = tuple(replace(k, claim=HOSTILE, method=HOSTILE, data_hashes={HOSTILE: HOSTILE}) for k in c.certificates)
        return replace(
            c, label=HOSTILE, reason=HOSTILE, profile=sore, infeasible=failure, explanation=found, certificates=claims
        )

    return replace(
        result,
        candidates=tuple(poison(c) for c in result.candidates),
        headline=HOSTILE,
        model_name=HOSTILE,
        metric=HOSTILE,
        max_drop=HOSTILE,
        artifact=HOSTILE,
        warnings=(HOSTILE,),
        command=HOSTILE,
        sensitivity={HOSTILE: 0.1},
        environment=replace(ENVIRONMENT, cpu=HOSTILE, versions={HOSTILE: HOSTILE}),
        splits={HOSTILE: 3},
        ledger=(LedgerRow(stage=HOSTILE, seconds=1.0, count=1),),
        workload=replace(result.workload, input_shapes={HOSTILE: (1, 2)}) if result.workload else None,
    )


def with_nan() -> FitResult:
    """Numbers that are not numbers wherever a number may stand."""
    result = fit(8)
    nan = Interval(point=math.nan, low=math.nan, high=math.nan)

    def spoil(c: CandidateRecord) -> CandidateRecord:
        if c.is_baseline and c.recipe.key != DEFAULT.key:
            return c
        broken = Measurement(
            block_medians_s=((math.nan,), ()), calls=0, quantiles_s={"0.5": math.nan}, peak_memory_bytes=math.nan
        )
        return replace(
            c,
            measurement=broken,
            screening=None,
            speedup=nan,
            size_bytes=math.nan,
            quality=c.quality and replace(c.quality, value=math.nan, drop=nan),
            certificates=tuple(replace(k, interval=nan, value=math.nan) for k in c.certificates),
        )

    return replace(
        result,
        candidates=tuple(spoil(c) for c in result.candidates),
        sensitivity={"conv1": math.nan, "conv2": 0.01},
    )


EVERY = {
    "fit": fit,
    "without_data": without_data,
    "infeasible": infeasible,
    "nothing_beats": nothing_beats,
    "bare": bare,
    "hostile": hostile,
    "with_nan": with_nan,
}


def swollen() -> FitResult:
    """Three hundred candidates that all failed loudly or were explained at length, and profiles of thousands of kernels."""
    result = fit(295)
    sore = replace(explanation(), causes=explanation().causes * 4, groups=explanation().groups * 10)

    def swell(c: CandidateRecord) -> CandidateRecord:
        failure = Infeasible(stage="build", reason="x" * 5000, detail="line of a log\n" * 5000, reproduce="run " * 2000)
        kernels = c.profile and replace(c.profile, kernels=c.profile.kernels * 200)
        return replace(c, infeasible=failure if c.infeasible else None, explanation=sore, profile=kernels, label=c.label * 20)

    return replace(result, candidates=tuple(swell(c) for c in result.candidates))
