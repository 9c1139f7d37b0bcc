"""Renders ``report.html``: one self-contained file that opens offline and requests nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined

from dovetail.core import units
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.errors import StorageError
from dovetail.core.outcome import CandidateRecord, FitResult
from dovetail.report import figures, phrases, view
from dovetail.report.roofline import Roof, roofline

_MAX_DETAIL = 1500
_MAX_EXPLANATIONS = 40
_TILES = ("Latency, median", "Throughput", "Ratio to baseline", "Quality", "Size")

_SECTIONS = {
    "before": "Before and after",
    "proof": "Proof",
    "pareto": "Speed against quality",
    "made": "How the answer was made",
    "candidates": "Every candidate",
    "latency": "Latency distributions",
    "time": "Where the time goes",
    "sensitivity": "Layer sensitivity",
    "why": "Why the slow ones are slow",
    "cost": "What the search cost",
    "environment": "Environment",
    "reproduce": "Reproduce",
    "use": "Use it in your program",
}

VERDICTS = {
    Verdict.CERTIFIED: "certified",
    Verdict.REFUTED: "refuted",
    Verdict.NOT_DISTINGUISHABLE: "not distinguishable",
    Verdict.CANNOT_CERTIFY: "cannot certify",
}


def render_html(result: FitResult, roofs: Sequence[Roof] = ()) -> str:
    """The whole report as one HTML document.

    Args:
        result: what to show.
        roofs: measured or quoted ceilings of the machine for the roofline; none is invented.
    """
    return templates().get_template("report.html.j2").render(**_context(result, roofs))


def write_html(result: FitResult, path: Path, roofs: Sequence[Roof] = ()) -> Path:
    """Writes the report and returns its path.

    Raises:
        StorageError: the file cannot be written.
    """
    return save(render_html(result, roofs), path)


def save(page: str, path: Path) -> Path:
    """Writes a page as a whole or not at all, and returns its path.

    Raises:
        StorageError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as exc:
        raise StorageError(f"the report cannot be written: {exc.strerror}", where=str(path)) from exc
    return path


@cache
def templates() -> Templates:
    """The templates of this package, escaping everything that is not drawn here."""
    made = Templates(
        loader=PackageLoader("dovetail.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        one_line=phrases.one_line,
        clip=phrases.clip,
        name=phrases.name,
        percent=phrases.percent,
        number=phrases.count,
        time=units.time,
        duration=units.duration,
        size=units.size,
        evidence=view.evidence,
        claim_interval=claim_interval,
    )
    return made


def _printable(value: object) -> object:
    """Drops control characters, which no document may hold, from whatever a template puts out."""
    if isinstance(value, str) and not value.isprintable():
        return type(value)("".join(c for c in value if c.isprintable() or c in "\n\t"))
    return value


def _context(result: FitResult, roofs: Sequence[Roof]) -> dict[str, Any]:
    contenders = view.contenders(result)
    winner = view.find(result, result.winner)
    explained = [c for c in view.ranked(result) if c.explanation is not None]
    return {
        "result": result,
        "answer": view.answer(result),
        "contenders": contenders,
        "rows": view.before_after(result),
        "tiles": _tiles(result),
        "sections": tuple(item for item in _SECTIONS.items() if item[0] != "made" or result.made),
        "section_titles": _SECTIONS,
        "certificates": view.certificates(result),
        "verdicts": VERDICTS,
        "fate_names": phrases.FATES,
        "fates": view.fate_counts(result.candidates),
        "candidates": [_candidate(result, c, i) for i, c in enumerate(view.ranked(result))],
        "pareto": figures.pareto(result),
        "losses": figures.losses(result),
        "smaller": view.smaller(result),
        "latencies": figures.latencies(result),
        "disturbances": _disturbances(contenders),
        "groups": figures.group_times(result),
        "roofline": roofline(result, roofs),
        "sensitivity": figures.sensitivity(result),
        "explanations": [{"name": phrases.name(c), "explanation": c.explanation} for c in explained[:_MAX_EXPLANATIONS]],
        "unexplained": max(0, len(explained) - _MAX_EXPLANATIONS),
        "ledger_s": sum(row.seconds for row in result.ledger),
        "splits": tuple(result.splits.items()),
        "environment": _environment(result),
        "recipe": json.dumps(winner.recipe.to_json(), indent=2, ensure_ascii=False) if winner else "",
        "recipe_key": winner.recipe.key if winner else "",
        "commands": view.next_commands(result),
        "usage": view.usage(result),
        "dependence": view.dependence(result),
    }


def _tiles(result: FitResult) -> list[dict[str, str]]:
    """The answer's main figures, with the original's beside them."""
    if not result.winner:
        return []
    tiles = []
    for row in view.before_after(result):
        if row.label.startswith(_TILES) and row.cells:
            (before, _), (after, note) = row.cells[0], row.cells[-1]
            if not row.label.startswith("Ratio"):
                note = f"original: {before}" if before != after else ""
            tiles.append({"label": row.label, "value": after, "note": note})
    return tiles


def _candidate(result: FitResult, record: CandidateRecord, rank: int) -> dict[str, Any]:
    """One row of the table; a number is (text, value to sort by), the value empty when it is unknown."""
    found, failure = record.quality, record.infeasible
    ratio = record.speedup.point if record.speedup is not None else None
    numbers: tuple[tuple[str, float | None], ...] = (
        (units.time(record.latency_s), record.latency_s),
        (units.ratio(ratio), ratio),
        (phrases.quality(result.metric, found.value if found else None), found.value if found else None),
        (phrases.drop(result.metric, found.drop.point if found else None), found.drop.point if found else None),
        (units.size(record.size_bytes), record.size_bytes),
        (units.size(record.memory_bytes), record.memory_bytes),
    )
    name = phrases.clip(phrases.name(record), 240)
    recipe = phrases.clip(phrases.one_line(str(record.recipe)), 400)
    return {
        "name": name,
        "recipe": recipe if recipe != name else "",
        "role": figures.role(record),
        "fate": record.fate,
        "rank": rank,
        "numbers": [(text, repr(float(v)) if v is not None and phrases.known(v) else "") for text, v in numbers],
        "reason": phrases.clip(view.reason(record), 600),
        "detail": failure.detail[-_MAX_DETAIL:] if failure else "",
        "reproduce": phrases.clip(failure.reproduce, _MAX_DETAIL) if failure else "",
    }


def claim_interval(certificate: Certificate, metric: str) -> str:
    """The interval of a claim in its own unit: a ratio for speed, a drop for quality."""
    if certificate.interval is None:
        return phrases.UNKNOWN
    if certificate.kind == "speed":
        return phrases.ratio_interval(certificate.interval)
    if certificate.kind == "quality":
        return f"drop {phrases.drop_interval(metric, certificate.interval)}"
    low, point, high = certificate.interval.low, certificate.interval.point, certificate.interval.high
    wording = phrases.in_unit_of(certificate.kind)
    return f"{wording(point)} ({wording(low)} to {wording(high)}, {certificate.interval.confidence * 100:g} %)"


def _disturbances(contenders: Sequence[view.Contender]) -> list[str]:
    measured = [(c.title, c.record.measurement or c.record.screening) for c in contenders]
    return [f"{title}: {note}" for title, m in measured if m is not None for note in m.notes]


def _environment(result: FitResult) -> list[tuple[str, str]]:
    env = result.environment
    facts: Mapping[str, str] = {
        "Processor": env.cpu,
        "Cores used": str(env.cores),
        "Instruction sets": ", ".join(env.isa),
        "Memory": units.size(env.memory_bytes),
        "System": env.os,
        "Python": env.python,
        "Libraries": ", ".join(f"{name} {version}" for name, version in env.versions.items()),
        "Fingerprint": env.fingerprint,
        "Model hash": result.model_hash,
        "Energy": result.energy_note,
    }
    return [(label, value or phrases.UNKNOWN) for label, value in facts.items()]
