"""``dovetail advise``: predicts a job on every device of the catalogue, has it judged and ranked, and tries changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dovetail.advise import design, training
from dovetail.advise.job import AdviseJob, load_job, parse_job
from dovetail.advise.offer import Offer
from dovetail.advise.options import option
from dovetail.advise.ranking import rank
from dovetail.advise.work import CnnWork, LlmWork, RecommenderWork, TrainingWork
from dovetail.core.advice import Advice, Change
from dovetail.core.device import Device
from dovetail.core.errors import InputError
from dovetail.core.workload import Workload
from dovetail.devices.catalogue import catalogue
from dovetail.pipeline.describe import analyze_file
from dovetail.pipeline.offers import cnn, offers, recommender, recommender_offers, with_host_memory
from dovetail.pipeline.offers_llm import llm_offers
from dovetail.predict.nets.quantities import QUANTITIES
from dovetail.predict.op_table import OpTable, op_table

_ADVISED = 3
"""Devices that changes are tried on."""
_NARROWER = {
    "fp32": ("fp16", "int8"), "tf32": ("fp16", "int8"), "fp16": ("int8", "int4"), "bf16": ("int8", "int4"), "fp8": ("int4",),
}  # fmt: skip
_TILE = 16
"""Channels that matrix units work on together: 8 in 16 bits, 16 in 8 bits on NVIDIA's (Deep Learning Performance guide)."""
_COUNTS = np.array([name.startswith("count_") for name in QUANTITIES])

Predict = Callable[[Sequence[Device], AdviseJob, bool], list[Offer]]
"""On devices, for a job, and whether by the roofline alone where that is a choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A job ready to be predicted: by what, its unit of work, its operators where there are some, and what was assumed."""

    job: AdviseJob
    unit: str
    predict: Predict
    table: OpTable | None = None
    workload: Workload | None = None
    notes: tuple[str, ...] = ()


def advise(path: Path) -> Advice:
    """The answer to a job file, or for a model without any requirement.

    Raises:
        ModelError: the model cannot be read.
        InputError: the job cannot be used.
    """
    job = load_job(path) if path.suffix.lower() in (".yaml", ".yml") else parse_job({"model": str(path)}, str(path))
    return advise_job(job if job.name else job.model_copy(update={"name": path.name}))


def advise_job(job: AdviseJob) -> Advice:
    """The answer to a job; errors as :func:`advise`."""
    devices = with_host_memory(list(catalogue().values()), job)
    asked = _asked(job)
    found = asked.predict(devices, job, False)
    ranked = rank(found, job, asked.unit, (*asked.notes, *_money(job)))
    by_name = {offer.device.name: offer for offer in found}
    best = [by_name[item.device] for item in ranked.ranked[:_ADVISED]]
    return replace(ranked, changes=design.best([item for offer in best for item in _changes(offer, asked)]))


def _money(job: AdviseJob) -> tuple[str, ...]:
    """What the costs leave out."""
    left_out = "a purchase is spread over 36 months; the machine around a bought chip is left out"
    if job.budget.basis == "rent":
        return ()
    mixed = ("rents, where known, stand beside purchases",) if job.budget.basis == "any" else ()
    return (*mixed, left_out)


def _asked(job: AdviseJob) -> _Asked:
    work = job.workload
    if isinstance(work, LlmWork):
        served = (
            f"{work.users:g} users at a time, always waiting for an answer: {work.prompt:g} tokens in, {work.output:g} out",
            "latency is the time between output tokens; the server batches continuously",
        )
        return _Asked(job=job, unit="output tokens", predict=lambda d, j, _: llm_offers(work, d, j), notes=served)
    if isinstance(work, TrainingWork):
        trained = ("6 FLOP a parameter and token, MFU 0.3 to 0.5 (assumed), 16 to 18 bytes a parameter cut over all devices",)
        return _Asked(job=job, unit="tokens", predict=lambda ds, j, _: [training.offer(d, j, work) for d in ds], notes=trained)
    if isinstance(work, RecommenderWork):
        table = recommender(work)
        return _Asked(job=job, unit="samples", predict=lambda d, j, p: recommender_offers(work, table, d, j, p), table=table)
    workload = cnn(work) if isinstance(work, CnnWork) else _analyzed(job)
    table = op_table(workload)
    notes = (f"the network is taken as {work.layers} equal layers",) if isinstance(work, CnnWork) else ()
    return _Asked(
        job=job, unit="samples", predict=lambda d, j, p: offers(table, d, j, p), table=table,
        workload=None if isinstance(work, CnnWork) else workload, notes=notes,
    )  # fmt: skip


def _analyzed(job: AdviseJob) -> Workload:
    if job.model is None:
        raise InputError("a job names a model or a workload")
    return analyze_file(Path(job.model), {})


def _changes(before: Offer, asked: _Asked) -> list[Change | None]:
    """Every change that this kind of work can take, on one device."""
    device, job, work = [before.device], asked.job, asked.job.workload
    found: list[Change | None] = []

    def compare(first: Predict, as_is: AdviseJob, second: Predict, changed: AdviseJob, what: str, note: str) -> None:
        """By one model: what two models say of a device differs for other reasons than the change."""
        pair = first(device, as_is, False)[0], second(device, changed, False)[0]
        if pair[0].prediction.model != pair[1].prediction.model:
            pair = first(device, as_is, True)[0], second(device, changed, True)[0]
        lost = design.broken(option(pair[0], as_is), option(pair[1], changed))
        found.append(design.change(*pair, what, "; ".join(filter(None, (note, lost)))))

    def again(what: str, changed: AdviseJob, note: str = "", predict: Predict | None = None) -> None:
        compare(asked.predict, job, predict or asked.predict, changed, what, note)

    if isinstance(work, TrainingWork):
        if "fp8" in before.device.peak_flop_per_s and before.prediction.precision != "fp8":
            narrow = job.model_copy(update={"precision": "fp8"})
            again("products in fp8", narrow, "at the same MFU, which fp8 rarely reaches; check the loss")
        return found
    quality = "check the quality: dovetail optimize does, for a model file"
    for precision in _NARROWER.get(before.prediction.precision, ()):
        if precision in before.device.peak_flop_per_s or isinstance(work, LlmWork):
            narrow = job.model_copy(update={"precision": precision})
            again(f"{precision} instead of {before.prediction.precision}", narrow, quality)
    if isinstance(work, LlmWork):
        more = work.model_copy(update={"users": 2 * work.users})
        predict: Predict = lambda d, j, _: llm_offers(more, d, j)  # noqa: E731
        again("twice the users on as many devices", job, "tokens of all users together; each waits longer", predict)
        return found
    for factor in (4, 16):
        wider = job.model_copy(update={"batch": job.batch * factor})
        again(f"batch {wider.batch} instead of {job.batch}", wider, _waiting(before, wider))
    if isinstance(work, RecommenderWork) and work.table_precision != "int8":
        small = work.model_copy(update={"table_precision": "int8"})
        own = recommender(small)
        again("the embedding table in int8", job, quality, lambda d, j, p: recommender_offers(small, own, d, j, p))
    if asked.table is not None and not isinstance(work, RecommenderWork):
        halved = _fewer(asked.table)
        again("half as many operators, each twice as wide", job, "same operations", lambda d, j, p: offers(halved, d, j, p))
        pair = _aligned(asked.table, asked.workload)
        if pair is not None:
            filled, cut = pair
            what = f"channels that are multiples of {_TILE}, cut down rather than filled up"
            note = "where the hardware fills channels up"
            compare(lambda d, j, p: offers(filled, d, j, p), job, lambda d, j, p: offers(cut, d, j, p), job, what, note)
    return found


def _waiting(before: Offer, wider: AdviseJob) -> str:
    latency = before.prediction.latency_s
    note = "a call takes longer" if latency else ""
    rate, most = wider.rate_per_s, wider.quantity("latency")
    if rate is None:
        return note
    wait = (wider.batch - 1) / rate
    broken = f", which breaks the latency of {most:g} s" if most and wait > most else ""
    return f"{note}; at this rate the first sample waits {wait:.3g} s for the last{broken}"


def _fewer(table: OpTable) -> OpTable:
    """Every second operator inside the one before it: its launch is saved, nothing else."""
    return replace(
        table,
        fused=table.fused | (np.arange(len(table.names)) % 2 == 1),
        quantities=np.where(_COUNTS, table.quantities / 2, table.quantities),
        network=replace(table.network, layers=table.network.layers and table.network.layers / 2),
    )


def _aligned(table: OpTable, workload: Workload | None) -> tuple[OpTable, OpTable] | None:
    """With channels filled up to whole tiles, and cut down to them; ``None`` where all are whole.

    The roofline knows nothing of tiles: filled up, there are more operations. What was fitted to measured networks has the
    filling in it: cut down, no operations are in channels that do not suit the hardware.
    """
    if workload is None:
        return None
    shapes = {op.name: op.output_shapes[0] for op in workload.ops if op.kind == "Conv"}
    channels = {name: shape[1] for name, shape in shapes.items() if shape and len(shape) > 1}
    factor = np.array([-(-channels.get(name, _TILE) // _TILE) * _TILE / channels.get(name, _TILE) for name in table.names])
    if np.all(factor == 1):
        return None
    even = np.where(np.array(QUANTITIES) == "flop_odd", 0.0, table.quantities)
    return replace(table, flop=table.flop * factor), replace(table, quantities=even)
