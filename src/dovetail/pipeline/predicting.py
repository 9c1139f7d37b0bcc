"""``dovetail predict``: how long a model will take, before it is run; ``dovetail devices probe``: what this machine is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dovetail import plugins
from dovetail.core.calibration import CALIBRATED, Calibration
from dovetail.core.device import Device, Fact, Kind, Memory
from dovetail.core.errors import InputError, ModelError
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Prediction
from dovetail.core.profile import Kernel
from dovetail.core.protocols import Model
from dovetail.core.recipe import Recipe, Scalar, freeze
from dovetail.core.serial import decode
from dovetail.core.source import Source, SourceKind
from dovetail.devices.catalogue import device as find_device
from dovetail.devices.probe import environment
from dovetail.measure.arena import Contestant, Runner
from dovetail.measure.child import ChildFailure
from dovetail.pipeline import calibrate
from dovetail.pipeline.at_batch import analyzed_at
from dovetail.pipeline.calibrated_gpus import calibrated_gpu
from dovetail.pipeline.describe import cache_folder, calibration_folder, timing_conditions
from dovetail.pipeline.forecast import threads_of, unlike
from dovetail.pipeline.learned import learned
from dovetail.predict.best_rates import best_rates
from dovetail.predict.call_model import CallEstimate
from dovetail.predict.machine_model import Learned, MachineModel, Setting
from dovetail.predict.op_table import OpTable, op_table
from dovetail.predict.plan_model import form, plan
from dovetail.predict.predict import predict
from dovetail.predict.setting import Setting as DeviceSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasted:
    """One way to run a model, as predicted.

    Attributes:
        form: ``float``, ``int8`` or ``int8-dynamic``.
        batch: samples a call.
        needs: memory, whether it fits, and what limits a call, by the machine's measured rates; without times.
        notes: what was assumed.
    """

    runtime: str
    form: str
    options: Mapping[str, Scalar]
    batch: int
    latency_s: Estimate
    needs: Prediction | None = None
    notes: tuple[str, ...] = ()

    @property
    def throughput_per_s(self) -> Estimate:
        """Samples a second when calls follow each other."""
        own = self.latency_s
        return Estimate(
            value=self.batch / own.value, low=self.batch / own.high, high=self.batch / own.low, source=own.source,
            coverage=own.coverage,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltForecast:
    """A model that a runtime has built, as predicted from its kernels and, where they are known to calibrations, its operators.

    Attributes:
        kernels: that a call executes, with the seconds of each in ``estimate``.
        notes: what was assumed.
    """

    recipe: Recipe
    threads: int
    kernels: tuple[Kernel, ...]
    estimate: CallEstimate
    notes: tuple[str, ...] = ()


def calibration_of_this_machine(
    file: Path | None = None, progress: Callable[[float, str], None] = lambda share, text: None
) -> Learned:
    """What was learned from the stored calibration, or from one in a file, of whatever machine.

    Args:
        file: of a calibration; this machine's by default.
        progress: called where it has to be learned first: once for each calibration.

    Raises:
        InputError: there is none, or it was made on another machine or with other libraries and no file was named.
    """
    folder = calibration_folder(cache_folder())
    path = file or folder / calibrate.FILE
    if file is None and not path.exists():
        hint = "dovetail devices probe --calibrate takes up to five minutes; or name a --device of the catalogue"
        raise InputError("this machine is not calibrated", hint=hint)
    found = learned(path, folder, progress)
    if file is None and (why := unlike(found.calibration, environment())):
        hint = "calibrate again, or give the file with --calibration to predict that machine"
        raise InputError(f"the calibration is of {why}", where=str(path), hint=hint)
    if not found.calls:
        hint = "dovetail devices probe --calibrate --device cpu; or name a calibrated --device"
        raise InputError("the processor is not calibrated, or on too few networks", where=str(path), hint=hint)
    return found


def predict_here(
    model: Path,
    shapes: Mapping[str, list[int]],
    known: Learned,
    *,
    precision: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
) -> list[Forecasted]:
    """Every calibrated way to run a model, the fastest first. Nothing is built or run.

    Args:
        model: an ONNX or LiteRT file.
        shapes: input name → shape.
        known: learned from the machine's calibration.
        precision: only this one: ``float``, ``int8``, ``int8-dynamic`` or a runtime's own name for one (``bf16``).
        threads: only this number.
        batch: samples a call; by default as many as the shapes, else the model, say.

    Raises:
        ModelError: the model cannot be read.
        InputError: nothing was calibrated at that precision and number of threads, or shapes or model say another batch.
    """
    machine = MachineModel(known)
    workload = analyzed_at(model, shapes, batch)
    able = [key for key in machine.settings if key[1] == "int8" or form(workload) != "int8"]
    chosen = [key for key in able if _wanted(key, precision, threads)]
    if not chosen:
        precisions, counts = {_precision(key) for key in able}, {_threads_of(key) for key in able}
        hint = f"calibrated: {', '.join(sorted(precisions))}; threads {', '.join(map(str, sorted(counts)))}"
        raise InputError(f"nothing is calibrated at {precision or 'any precision'}, {threads or 'any'} threads", hint=hint)
    wanted, device, table = plan(workload), calibrated_device(known), op_table(workload)
    needs = {name: _needs(table, device, name, workload.batch) for name in map(_precision, chosen)}
    found = [
        Forecasted(
            runtime=key[0], form=key[1], options=dict(key[2]), batch=workload.batch,
            latency_s=machine.planned(key[0], key[1], dict(key[2]), wanted, batch=workload.batch),
            needs=needs[_precision(key)], notes=_batch_notes(workload.batch),
        )
        for key in chosen
    ]  # fmt: skip
    return sorted(found, key=lambda item: item.latency_s.value)


def predict_on(
    model: Path,
    device: str,
    precision: str | None,
    shapes: Mapping[str, list[int]],
    *,
    threads: int | None = None,
    batch: int | None = None,
    eager: bool = False,
    calibration: Path | None = None,
) -> Prediction:
    """A model on a device that was calibrated or is in the catalogue.

    A calibrated one is told by its measured rates; others by a model fitted to published measurements where one applies, else
    from the data sheet and what is known of the class.

    Args:
        model: an ONNX or LiteRT file.
        device: a name of the catalogue, or ``cuda:0`` of this machine.
        precision: that it computes in; the model's own by default.
        shapes: input name → shape.
        threads: of a processor; all its cores by default.
        batch: samples a call; by default as many as the shapes, else the model, say.
        eager: on a GPU, PyTorch operator by operator instead of compiled.
        calibration: file of a machine whose calibrated devices are meant.

    Raises:
        ModelError: the model cannot be read.
        InputError: an unknown device or precision, threads of what is no processor, or shapes or model say another batch.
    """
    measured = calibrated_gpu(device, calibration)
    chosen = find_device(device) if measured is None else measured[0]
    if threads is not None and chosen.kind is not Kind.CPU:
        raise InputError(f"threads are a processor's; {chosen.name} is of kind {chosen.kind}", where="--threads")
    workload = analyzed_at(model, shapes, batch)
    setting = DeviceSetting(precision=precision, batch=workload.batch, threads=threads, eager=eager)
    table = op_table(workload)
    return predict(table, chosen, setting) if measured is None else predict(table, chosen, setting, [measured[1]])


def calibrated_device(known: Learned) -> Device:
    """The processor that was calibrated, wherever it stands, with its memory and the rates that it reached."""
    calibration, made = known.calibration, known.calibration.environment
    source = Source(kind=SourceKind.MEASURED, ref="the calibrated machine's kernel", date=calibration.date[:10])
    memory = Fact(value=made.memory_bytes, source=source) if made.memory_bytes > 0 else None
    plain = Device(
        name=made.cpu, vendor="", kind=Kind.CPU, memory=(Memory(name="DRAM", capacity_bytes=memory),),
        cores=Fact(value=float(made.cores), source=source),
    )  # fmt: skip
    return with_rates(plain, calibration, known.best_rates)


def _needs(table: OpTable, device: Device, precision: str, batch: int) -> Prediction:
    """What a model takes of the machine beside time, which the calibration tells better."""
    found = predict(table, device, DeviceSetting(precision=_TYPES.get(precision), batch=batch))
    return replace(found, latency_s=None, throughput_per_s=None, per_op=None, model="")


_TYPES = {"int8": "int8", "int8-dynamic": "int8", "bf16": "bf16", "f16": "fp16"}
"""Calibrated precisions → types that devices compute in; the model's own otherwise."""


def _batch_notes(batch: int) -> tuple[str, ...]:
    if batch == 1:
        return ()
    return (f"a calibration holds single samples: batch {batch} is told from shapes, and the interval is widened (assumed)",)


def _wanted(key: Setting, precision: str | None, threads: int | None) -> bool:
    return precision in (None, _precision(key)) and threads in (None, _threads_of(key))


def _precision(key: Setting) -> str:
    return str(dict(key[2]).get("precision", key[1]))


def _threads_of(key: Setting) -> int:
    return int(str(dict(key[2])["threads"]))


def predict_built(
    model: Path, runtime: str, options: Mapping[str, Scalar], known: Learned, *, batch: int = 1
) -> BuiltForecast:
    """What a runtime makes of a model, and how long that will take. The runtime builds it and executes one call at most.

    Raises:
        InputError: no such runtime, one that was not calibrated at that number of threads, a model that it cannot build, or a
            calibration of another machine: what is built here are the kernels of this one.
    """
    if why := unlike(known.calibration, environment()):
        what = f"the calibration is of {why}; a runtime builds what suits this machine"
        raise InputError(what, where="--runtime", hint="without --runtime nothing is built, and that machine is predicted")
    chosen = plugins.runtime(runtime)
    recipe = Recipe(runtime=runtime, options=freeze(options))
    form = "litert" if model.suffix == ".tflite" else "openvino" if model.suffix == ".xml" else "onnx"
    if form not in chosen.formats:
        hint = "`dovetail export` writes a LiteRT file; without --runtime nothing is built" if runtime == "litert" else None
        raise InputError(f"{runtime} takes {', '.join(sorted(chosen.formats))}, not {form}", where=str(model), hint=hint)
    contestant = Contestant(recipe=recipe, model=Model(path=model, format=form))
    conditions = timing_conditions(contestant.model, None, batch, runtime)
    try:
        with Runner(contestant, conditions, ready=False) as runner:
            runner.load()
            answer = runner.call("kernels")
    except ChildFailure as failure:
        raise InputError(failure.outcome.reason, where=str(model)) from failure
    if answer["kernels"] is None:
        raise InputError(f"{runtime} does not tell what it executes", where="--runtime")
    kernels = tuple(decode(Kernel, kernel) for kernel in answer["kernels"])
    threads = threads_of(runtime, options, known.calibration.environment.cores)
    machine = MachineModel(known)
    try:
        planned = _planned(machine, runtime, {**options, "threads": threads}, model, batch)
        estimate = machine.built(runtime, threads, kernels, batch=batch, planned=planned)
    except KeyError:
        pairs = sorted(f"{name} at {count}" for name, count in known.calls)
        what = f"{runtime} was not calibrated at {threads} threads"
        raise InputError(what, where="--threads", hint=f"calibrated: {', '.join(pairs)}") from None
    notes = _batch_notes(batch)
    return BuiltForecast(recipe=recipe, threads=threads, kernels=kernels, estimate=estimate, notes=notes)


def _planned(machine: MachineModel, runtime: str, options: Mapping[str, Scalar], model: Path, batch: int) -> Estimate | None:
    """The call as told by the operators alone, as if of one sample; ``None`` where that says nothing of it."""
    if not set(options) <= CALIBRATED:
        return None
    try:
        workload = analyzed_at(model, {}, batch)
        known = form(workload)
        return None if known is None or workload.uncounted else machine.planned(runtime, known, options, plan(workload))
    except (KeyError, ModelError, InputError):
        return None


def with_rates(device: Device, calibration: Calibration | None, best: Mapping[str, float] | None = None) -> Device:
    """A machine with what its calibration reached as peaks, from its traces if not given; without one peaks stay unknown."""
    if calibration is None:
        return device
    source = Source(kind=SourceKind.MEASURED, ref="best kernel of the calibration", date=calibration.date[:10])
    found = best_rates(calibration) if best is None else best
    peaks: dict[str, Fact] = {}
    for name, dtype in _PEAKS.items():
        value = found.get(f"{name}_flop_per_s", 0.0)
        if value > (peaks[dtype].value if dtype in peaks else 0.0):
            peaks[dtype] = Fact(value=value, source=source)
    first, *rest = device.memory
    memory = (replace(first, bandwidth_bytes_per_s=_bandwidth(calibration)), *rest)
    return replace(device, peak_flop_per_s=peaks, memory=memory)


def _bandwidth(calibration: Calibration) -> Fact | None:
    value = calibration.rates.get("memory_bytes_per_s")
    source = Source(kind=SourceKind.MEASURED, ref="copies of large arrays, all threads", date=calibration.date[:10])
    return None if value is None else Fact(value=value, source=source)


_PEAKS = {
    "float32": "fp32", "f32": "fp32", "bf16": "bf16", "f16": "fp16",
    "u8": "int8", "i8": "int8", "int8": "int8", "uint8": "int8",
}  # fmt: skip
"""Runtimes' names of numeric types → those of peaks."""
