"""Predictions of a model, or of a workload told by a few numbers, as offers for ``dovetail advise``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dovetail.advise.job import AdviseJob
from dovetail.advise.offer import Offer
from dovetail.advise.work import CnnWork, RecommenderWork
from dovetail.core import units
from dovetail.core.constraint import Answer
from dovetail.core.device import STORED_BYTES, Device, Fact, Kind
from dovetail.core.estimate import Estimate
from dovetail.core.prediction import Binds, Prediction
from dovetail.core.source import Source, SourceKind
from dovetail.core.workload import Op, Workload
from dovetail.predict.op_table import OpTable, op_table
from dovetail.predict.predict import predict_many
from dovetail.predict.setting import Setting
from dovetail.predict.specialists import SPECIALISTS

_FLOAT = 4.0
_ACTIVATIONS_PER_FLOP = 0.01
_LIVE_SHARE = 0.2
_USABLE = 0.9
"""Share of the memory that a table may take beside the rest (assumed)."""
SHARED = (Kind.GPU, Kind.TPU, Kind.ASIC, Kind.CPU)
"""Kinds over which one copy of a model can be cut (a judgement by what frameworks support)."""
_DESKTOP = ("Core ", "Ryzen ")
_DESKTOP_BYTES = 1.92e11
"""Memory of a desktop or laptop at most: four modules of 48 GB (assumed); such machines are not joined."""
_TABLE = Source(kind=SourceKind.DERIVED, ref="rows x width of the embedding table, and the dense layers")


def with_host_memory(devices: Sequence[Device], job: AdviseJob) -> list[Device]:
    """Processors get the memory that the job says their machines have; no data sheet tells it."""
    size = job.quantity("host_memory")
    if size is None:
        return list(devices)
    source = Source(kind=SourceKind.USER, ref="host_memory of the job")

    def fact(device: Device) -> Fact:
        return Fact(value=min(size, _DESKTOP_BYTES) if device.name.startswith(_DESKTOP) else size, source=source)

    return [
        replace(device, memory=(replace(device.memory[0], capacity_bytes=fact(device)), *device.memory[1:]))
        if device.kind is Kind.CPU and device.memory and device.capacity_bytes is None
        else device
        for device in devices
    ]


def offers(table: OpTable, devices: Sequence[Device], job: AdviseJob, plain: bool = False) -> list[Offer]:
    """One copy of a model on each device.

    Args:
        table: the model.
        devices: where.
        job: how it is run.
        plain: by the roofline alone, so that all settings of one device are told by the same model.
    """
    setting = Setting(precision=job.precision, batch=job.batch)
    many = predict_many(table, devices, setting, () if plain else SPECIALISTS)
    return [Offer(device=device, prediction=many.at(i)) for i, device in enumerate(devices)]


def cnn(work: CnnWork) -> Workload:
    """A network of equal layers that add up to the given numbers."""
    moved = work.activations or _ACTIVATIONS_PER_FLOP * work.flop
    live = work.live or _LIVE_SHARE * moved
    each, params = moved / work.layers * _FLOAT, round(work.parameters / work.layers)
    ops = [_op(f"layer{i}", "Conv", work.flop / work.layers, params, each, each) for i in range(work.layers)]
    return _workload(ops, {"image": (1, 3, work.side, work.side)}, live * _FLOAT)


def recommender(work: RecommenderWork) -> OpTable:
    """Look-ups in the table and the dense layers; the table itself is accounted for by :func:`recommender_offers`.

    What is read of the table is stored in the table's type, whatever the layers compute in.
    """
    read = work.lookups * work.dim * STORED_BYTES[work.table_precision]
    params = round(work.dense_parameters / work.dense_layers)
    width = math.sqrt(params) * _FLOAT
    ops = [_op("lookup", "Gather", 0.0, 0, 0.0, work.lookups * work.dim * _FLOAT)]
    ops += [_op(f"dense{i}", "MatMul", 2.0 * params, params, width, width) for i in range(work.dense_layers)]
    table = op_table(_workload(ops, {"indices": (1, work.lookups)}, work.lookups * work.dim * _FLOAT))
    return replace(table, stored_bytes=np.where(np.array(table.names) == "lookup", read, 0.0))


def _op(name: str, kind: str, flop: float, params: int, read: float, written: float) -> Op:
    return Op(
        name=name, kind=kind, flop=flop, weight_bytes=params * _FLOAT, input_bytes=read, output_bytes=written, params=params,
        dtype="float32", attributes={"matrix_flop": str(flop)} if flop else None,
    )  # fmt: skip


def _workload(ops: Sequence[Op], inputs: dict[str, tuple[int, ...]], live_bytes: float) -> Workload:
    return Workload(
        model_hash="", input_shapes=inputs, assumed_dims={}, ops=tuple(ops), peak_activation_bytes=live_bytes, uncounted={}
    )


def recommender_offers(
    work: RecommenderWork, table: OpTable, devices: Sequence[Device], job: AdviseJob, plain: bool = False
) -> list[Offer]:
    """Dense layers and look-ups as predicted, and the table cut over as many devices as hold it."""
    return [_with_table(offer, work) for offer in offers(table, devices, job, plain)]


def _with_table(offer: Offer, work: RecommenderWork) -> Offer:
    predicted, device = offer.prediction, offer.device
    size = work.rows * work.dim * STORED_BYTES[work.table_precision]
    beside = predicted.memory_bytes.value if predicted.memory_bytes else 0.0
    if device.capacity_bytes is None:
        why = f"the table takes {units.size(size)}; its memory size is not known"
        answer = Answer.NO if device.kind is Kind.MCU else Answer.UNKNOWN
        return replace(offer, prediction=replace(predicted, fits=answer, fits_reason=why))
    room = _USABLE * device.capacity_bytes.value - beside
    shared = device.kind in SHARED and not device.name.startswith(_DESKTOP)
    if room <= 0 or (size > room and not shared):
        return replace(offer, prediction=_too_large(predicted, size, device.capacity_bytes.value, shared))
    group = math.ceil(size / room)
    held = size / group + beside
    low, high = 0.95 * held, size / group + 2 * beside
    return replace(
        offer,
        prediction=replace(
            predicted,
            fits=_beside_table(predicted, high, device.capacity_bytes.value),
            fits_reason=f"{units.size(size)} of table on {group} x {units.size(device.capacity_bytes.value)}",
            memory_bytes=Estimate(value=held, low=low, high=max(high, held), source=_TABLE, coverage=None),
            notes=(*predicted.notes, "the exchange between devices is left out of the time") if group > 1 else predicted.notes,
        ),
        group=group,
        group_by="memory size" if group > 1 else "",
    )


def _beside_table(predicted: Prediction, high: float, capacity: float) -> Answer:
    """Whether table and layers fit together, where the table does; what is not known of the layers is not known of both."""
    if predicted.fits is Answer.NO or predicted.memory_bytes is None:
        return predicted.fits
    return Answer.YES if high <= capacity else Answer.UNKNOWN


def _too_large(predicted: Prediction, size: float, capacity: float, shared: bool) -> Prediction:
    why = f"the table takes {units.size(size)}, its memory is {units.size(capacity)}"
    return replace(
        predicted, fits=Answer.NO, fits_reason=why if shared else f"{why}, and it cannot be shared", latency_s=None,
        throughput_per_s=None, energy_j=None, cost_usd_per_million=None, binds=Binds.MEMORY,
    )  # fmt: skip
