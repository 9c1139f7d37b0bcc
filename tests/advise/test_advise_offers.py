"""Offers of workloads that are told by a few numbers, and what a change of them breaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dovetail.advise.job import parse_job
from dovetail.advise.work import RecommenderWork
from dovetail.core.constraint import Answer
from dovetail.core.device import Device, Fact, Kind, Memory
from dovetail.core.source import Source, SourceKind
from dovetail.devices.catalogue import device
from dovetail.pipeline.advising import advise_job
from dovetail.pipeline.offers import recommender, recommender_offers
from dovetail.predict.rates import rates
from dovetail.predict.roofline import roofline

WORK = RecommenderWork(kind="recommender", rows=1e6, dim=128, lookups=100, table_precision="int8")
JOB = parse_job({"workload": WORK.model_dump()}, "job")


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4.0), ("fp16", 2.0)])
def test_a_table_is_read_in_the_type_that_it_is_stored_in(precision: str, size: float) -> None:
    card = device("A100 SXM 80GB")
    found = rates([card], precision, "fp32")
    bandwidth = float(found.bandwidth[0] * found.of_priors("bandwidth")[0])
    moved = roofline(recommender(WORK), found, 3).memory[0, 0] * bandwidth
    assert moved == pytest.approx(3 * 100 * 128 * (1.0 + size))


def card(capacity: float) -> Device:
    source = Source(kind=SourceKind.USER, ref="this test")
    size, rate = (Fact(value=value, source=source) for value in (capacity, 1e12))
    memory = Memory(name="HBM", capacity_bytes=size, bandwidth_bytes_per_s=rate)
    peak = {"fp32": Fact(value=1e13, source=source)}
    return Device(name="card", vendor="NVIDIA", kind=Kind.GPU, memory=(memory,), peak_flop_per_s=peak)


def test_what_may_not_fit_beside_a_table_is_not_told_to_fit() -> None:
    table = recommender(WORK)
    fits = [recommender_offers(WORK, table, [card(size)], JOB)[0].prediction.fits for size in (1e8, 7e8, 8e10)]
    assert fits == [Answer.NO, Answer.UNKNOWN, Answer.YES]
    unknown = replace(table, peak_activations=None)
    assert recommender_offers(WORK, unknown, [card(8e10)], JOB)[0].prediction.fits is Answer.UNKNOWN


def test_a_change_that_breaks_a_requirement_says_which() -> None:
    work = {"kind": "cnn", "flop": 8e9, "parameters": 2.5e7}
    job = {"workload": work, "latency": "20ms", "deployment": {"kinds": ["gpu"]}, "stack": ["cuda"], "prefer": "cost"}
    found = advise_job(parse_job(job, "job"))
    batches = [change for change in found.changes if change.what.startswith("batch 16")]
    slow = {change.device: "it breaks latency" in change.note for change in batches}
    assert batches and any(slow.values())
    assert not any("it breaks" in change.note for change in found.changes if change.what.startswith("int8"))
    assert np.all([("at most 20 ms" in change.note) == slow[change.device] for change in batches])
