"""Arranges a result for the renderers: which candidates stand side by side, in which order, and with which words."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from dovetail.core import units
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.outcome import CandidateRecord, Fate, FitResult, FitStatus, Quality
from dovetail.report import phrases

_ORDER = tuple(phrases.FATES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The verdict in two words, with its tone: ``good``, ``fair`` or ``bad``."""

    word: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A column of the before/after table."""

    title: str
    role: str
    record: CandidateRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the before/after table: per contender the figure, and below it what qualifies the figure."""

    label: str
    cells: tuple[tuple[str, str], ...]


def answer(result: FitResult) -> Answer:
    """What the user is told first."""
    if result.status is FitStatus.INFEASIBLE:
        return Answer(word="Infeasible", tone="bad")
    if not result.beats_baseline:
        return Answer(word="Nothing beats the baseline", tone="fair")
    if result.status is FitStatus.CERTIFIED:
        return Answer(word="Certified", tone="good")
    return Answer(word="Best effort", tone="fair")


MOST_TAIL = 0.99
"""Highest quantile in the table: beyond it a shared machine shows mostly itself."""


def find(result: FitResult, key: str) -> CandidateRecord | None:
    """The candidate with this recipe key, ``None`` when there is none."""
    return next((c for c in result.candidates if c.recipe.key == key), None)


def contenders(result: FitResult) -> tuple[Contender, ...]:
    """Original, best baseline and winner, each once; those that do not exist are left out."""
    wanted = [("Original", "original", result.default_baseline), ("Best baseline", "baseline", result.best_baseline)]
    if result.beats_baseline:
        wanted.append(("Winner", "winner", result.winner))
    shown: dict[str, Contender] = {}
    for title, role, key in wanted:
        record = find(result, key)
        if record is None:
            continue
        if key in shown:
            title = f"{shown[key].title} = {title[0].lower()}{title[1:]}"
        shown[key] = Contender(title=title, role=role, record=record)
    return tuple(shown.values())


def before_after(result: FitResult) -> tuple[Row, ...]:
    """The rows of the before/after table, one cell per contender."""
    columns = [c.record for c in contenders(result)]
    metric = phrases.clip(phrases.one_line(result.metric), 40)
    rows = [
        Row(label="Latency, median", cells=tuple((units.time(r.latency_s), "") for r in columns)),
        *_tail_rows(columns),
        Row(label="Ratio to baseline", cells=tuple(ratio_cell(result, r) for r in columns)),
        Row(label="Quality, " + metric if metric else "Quality",
            cells=tuple(quality_cell(result, r) for r in columns)),
        Row(label="Size", cells=tuple((units.size(r.size_bytes), "") for r in columns)),
        Row(label="Peak memory", cells=tuple((units.size(r.memory_bytes), "") for r in columns)),
    ]  # fmt: skip
    if any(r.energy for r in columns):
        rows.append(Row(label="Energy a sample", cells=tuple(map(_energy_cell, columns))))
    if result.objective == "throughput" or any(m.batch > 1 for r in columns if (m := r.measurement or r.screening)):
        cells = tuple((phrases.throughput(r.measurement or r.screening), "samples") for r in columns)
        rows.insert(1, Row(label="Throughput", cells=cells))
    return tuple(rows)


def _energy_cell(record: CandidateRecord) -> tuple[str, str]:
    """Energy of a sample, and below it what of that came on top of idle power."""
    if record.energy is None:
        return phrases.UNKNOWN, ""
    above = record.energy.above_idle_j
    note = "" if above is None else f"{units.energy(above.point)} above idle\n({phrases.energy_range(above)})"
    return units.energy(record.energy.per_sample_j.point), note


def _tail_rows(columns: Sequence[CandidateRecord]) -> list[Row]:
    """One row per tail quantile that at least one contender's sample size supports."""
    measured = [r.measurement or r.screening for r in columns]
    tails = sorted({q for m in measured if m is not None for q in m.quantiles_s if 0.5 < float(q) <= MOST_TAIL}, key=float)
    return [
        Row(label=f"Latency, p{float(q) * 100:g}",
            cells=tuple((units.time(m.quantiles_s.get(q)) if m else phrases.UNKNOWN, "") for m in measured))
        for q in tails
    ]  # fmt: skip


def ratio_cell(result: FitResult, record: CandidateRecord) -> tuple[str, str]:
    """Speed against the best baseline: with its interval where pairs were measured, else from the two medians."""
    if record.recipe.key == result.best_baseline:
        return units.ratio(1.0), "reference"
    if record.speedup is not None and phrases.known(record.speedup.point):
        head, _, tail = phrases.ratio_interval(record.speedup).partition(" ")
        return (head, tail.strip("()")) if record.measurement is not None else (f"≈ {head}", "a quick look")
    best = find(result, result.best_baseline)
    if best is None or not best.latency_s or not record.latency_s or not phrases.known(record.latency_s):
        return phrases.UNKNOWN, ""
    return units.ratio(best.latency_s / record.latency_s), "of medians, no interval"


def quality_cell(result: FitResult, record: CandidateRecord) -> tuple[str, str]:
    """Quality, and below it the drop with interval, n and split; the original's is what the others were compared with."""
    found = record.quality
    proof = next((c for c in record.certificates if c.kind == "quality" and c.interval is not None), None)
    if proof is not None and proof.interval is not None:
        note = f"drop {phrases.drop_interval(result.metric, proof.interval)}\nn = {phrases.count(proof.n)}, certification"
        return phrases.quality(result.metric, proof.value), note
    if found is not None:
        note = f"drop {phrases.drop_interval(result.metric, found.drop)}\n{_sample(found)}"
        return phrases.quality(result.metric, found.value), note
    others = (c.quality for c in (*answers(result), *ranked(result)) if c.quality is not None)
    compared = next(others, None) if record.recipe.key == result.default_baseline else None
    if compared is not None:
        return phrases.quality(result.metric, compared.reference), _sample(compared)
    return phrases.UNKNOWN, ""


def _sample(quality: Quality) -> str:
    return f"n = {phrases.count(quality.n)}, {phrases.one_line(quality.split)}"


def ranked(result: FitResult) -> tuple[CandidateRecord, ...]:
    """All candidates: by how far they came, then by latency; an unknown latency comes last."""

    def rank(record: CandidateRecord) -> tuple[int, bool, float]:
        latency = record.latency_s
        missing = not phrases.known(latency)
        return _ORDER.index(record.fate), missing, 0.0 if missing or latency is None else latency

    return tuple(sorted(result.candidates, key=rank))


def fate_counts(candidates: Sequence[CandidateRecord]) -> tuple[tuple[Fate, int], ...]:
    """How many candidates met each fate, in order of how far they came."""
    counts = Counter(c.fate for c in candidates)
    return tuple((fate, counts[fate]) for fate in _ORDER if counts[fate])


NOTES_SHOWN = 3


def reason(record: CandidateRecord) -> str:
    """Why a candidate met its fate, and what its passes adjusted, in one line."""
    if record.infeasible is not None:
        return phrases.one_line(f"{record.infeasible.stage}: {record.infeasible.reason}")
    more = len(record.notes) - NOTES_SHOWN
    notes = [*record.notes[:NOTES_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return phrases.one_line("; ".join(filter(None, [record.reason, *(f"adjusted: {n}" for n in notes[:1]), *notes[1:]])))


def answers(result: FitResult) -> tuple[CandidateRecord, ...]:
    """The winner, then the other variants that the user may choose from."""
    keys = dict.fromkeys((result.winner, *result.front))
    return tuple(record for key in keys if (record := find(result, key)) is not None)


def certificates(result: FitResult) -> tuple[tuple[CandidateRecord, Certificate], ...]:
    """All certificates with their candidates: the winner's first, what was certified before what was not."""
    pairs = [(record, c) for record in ranked(result) for c in record.certificates]
    return tuple(sorted(pairs, key=lambda p: (p[0].recipe.key != result.winner, p[1].verdict is not Verdict.CERTIFIED)))


def evidence(certificate: Certificate) -> str:
    """What a claim rests on: ``n = 8,000, α = 0.05, look 2 at this data``."""
    looks = f", look {certificate.looks} at this data" if certificate.looks else ""
    return f"n = {phrases.count(certificate.n)}, α = {certificate.alpha:g}{looks}"


def report_path(result: FitResult) -> str:
    """Where ``report.html`` lies, empty without an artifact."""
    return str(PurePath(result.artifact) / "report.html") if result.artifact else ""


def next_commands(result: FitResult) -> tuple[tuple[str, str], ...]:
    """(command, what it does) for what a user does next; empty without an artifact."""
    if not result.artifact:
        return ()
    commands = [(f"dovetail verify {shlex.quote(result.artifact)}", "re-check hashes, speed and quality")]
    if result.runs_alone:
        script = str(PurePath(result.artifact) / "run.py")
        commands.append((f"python {shlex.quote(script)}", "run it without Dovetail"))
    return tuple(commands)


def dependence(result: FitResult) -> str:
    """What a program needs in order to run the answer, where that is more than its runtime; else empty."""
    winner = find(result, result.winner)
    if not result.artifact or result.runs_alone or winner is None:
        return ""
    return f"The answer needs Dovetail to run: models on {winner.recipe.runtime} have no run.py. Open it with dovetail.load."


def usage(result: FitResult) -> str:
    """The lines that use the result in the user's own program; empty without an artifact."""
    if not result.artifact:
        return ""
    shapes = {n: tuple(s) for n, s in result.workload.input_shapes.items()} if result.workload else {}
    feed = "np.zeros(shapes[spec.name], spec.dtype)" if shapes else "your_arrays[spec.name]"
    return "\n".join([
        "import numpy as np",
        "import dovetail",
        "",
        f"session = dovetail.load({result.artifact!r})",
        *([f"shapes = {shapes!r}"] if shapes else []),
        f"feeds = {{spec.name: {feed} for spec in session.inputs}}  # put your data here",
        "outputs = session.run(feeds)",
        "for spec, value in zip(session.outputs, outputs):",
        "    print(spec.name, value.shape, value.dtype)",
        "session.close()",
    ])  # fmt: skip


def smaller(result: FitResult) -> list[tuple[str, ...]]:
    """Rows of the networks that training and pruning led to: name, ratio, quality, drop, size, notes."""
    changed = [r for r in result.candidates if any(step.name.startswith(CHANGING) for step in r.recipe.passes)]
    return [
        (
            phrases.clip(phrases.name(record), 160),
            units.ratio(record.speedup.point if record.speedup else None),
            phrases.quality(result.metric, record.quality.value if record.quality else None),
            phrases.drop(result.metric, record.quality.drop.point if record.quality else None),
            units.size(record.size_bytes),
            phrases.clip("; ".join(record.notes) if record.infeasible is None else record.infeasible.reason, 240),
        )
        for record in changed
        if record.screening is not None or record.infeasible is not None
    ]


CHANGING = ("prune_", "distil", "quantize_aware", "low_rank", "substitute", "cluster_")
"""How the names of passes begin that make another network of it."""
