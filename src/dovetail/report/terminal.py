"""Renders values on a terminal with rich.

80 columns suffice; colour appears on a terminal only, and plain ASCII where nothing else can be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dovetail.core import units
from dovetail.core.certificate import Certificate, Verdict
from dovetail.core.explanation import Explanation
from dovetail.core.outcome import CandidateRecord, FitResult
from dovetail.report import phrases, view

_TOP_CANDIDATES = 8
_TONES = {"good": "bold green", "fair": "bold yellow", "bad": "bold red"}
_STATUS = {"ok": "green", "warning": "yellow", "missing": "yellow", "failed": "red", "error": "red"}
_MARKS = {
    Verdict.CERTIFIED: ("✓", "green"),
    Verdict.REFUTED: ("✗", "red"),
    Verdict.NOT_DISTINGUISHABLE: ("≈", "yellow"),
    Verdict.CANNOT_CERTIFY: ("?", "yellow"),
}


class Check(Protocol):
    """One thing that was checked."""

    @property
    def name(self) -> str:
        """What was checked."""
        ...

    @property
    def status(self) -> str:
        """``ok``, ``warning``, ``missing``, ``failed`` or ``error``."""
        ...

    @property
    def detail(self) -> str:
        """What was found."""
        ...

    @property
    def hint(self) -> str:
        """What to do about it, empty for nothing."""
        ...


def render_result(result: FitResult, console: Console) -> None:
    """The answer of ``dovetail optimize``, verdict first."""
    page = _Page(console)
    answer = view.answer(result)
    page.line(answer.word, style=_TONES[answer.tone], after=f"  {result.model_name}")
    page.line(result.headline)
    if result.relaxation:
        page.line(f"Nearest limit that can be met: {result.relaxation}")
    _comparison(result, page)
    _claims(result, page)
    _candidates(result, page)
    if result.warnings:
        page.heading("Warnings")
        for text in result.warnings:
            page.item("!", "yellow", text)
    _cost(result, page)
    _next(result, page)


def render_certificates(certificates: Sequence[Certificate], console: Console) -> None:
    """Claims as sentences: what was certified, then what could not be and why."""
    page = _Page(console)
    certified = [c for c in certificates if c.verdict is Verdict.CERTIFIED]
    others = [c for c in certificates if c.verdict is not Verdict.CERTIFIED]
    page.heading("Certified" if certified else "Nothing was certified")
    for certificate in certified:
        page.claim(certificate)
    if others:
        page.heading("Not certified")
    for certificate in others:
        page.claim(certificate)


def render_explanation(explanation: Explanation, console: Console) -> None:
    """Why one variant is slower or faster than another, with the time each cause costs."""
    page = _Page(console)
    page.line(explanation.summary)
    if explanation.causes:
        page.heading("Causes")
        rows = [(c.name.replace("_", " "), units.time(c.cost_s), c.text) for c in explanation.causes]
        page.table(("cause", "costs", "what happens"), rows, right=(1,))
    if explanation.groups:
        page.heading("Time per call by operator group")
        rows = [(g.group, _group_time(g.baseline_s), _group_time(g.candidate_s)) for g in explanation.groups]
        page.table(("group", "baseline", "candidate"), rows, right=(1, 2))


def render_doctor(checks: Sequence[Check], console: Console) -> None:
    """What this machine and installation can and cannot do."""
    page = _Page(console)
    grid = page.grid()
    for check in checks:
        detail = page.text(check.detail)
        if check.hint:
            detail.append_text(page.text(f"\n→ {check.hint}", "dim"))
        grid.add_row(page.text(check.status, _STATUS.get(check.status, "")), page.text(check.name, "bold"), detail)
    console.print(grid)


def render_verify(
    artifact: str, passed: bool, checks: Sequence[Check], certificates: Sequence[Certificate], console: Console
) -> None:
    """What a second look at an artifact found.

    Args:
        artifact: the folder.
        passed: the verdict over all checks and claims.
        checks: hashes, versions, machine.
        certificates: the claims as they came out this time.
        console: where to.
    """
    page = _Page(console)
    word, tone = ("Verified", "good") if passed else ("Not verified", "bad")
    page.line(word, style=_TONES[tone], after=f"  {artifact}")
    render_doctor(checks, console)
    if certificates:
        render_certificates(certificates, console)


class _Page:
    """A console that receives only printable text that it can show."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._ascii = console.options.ascii_only

    def text(self, words: str, style: str = "") -> Text:
        """Words without control characters or markup; line breaks stay."""
        clean = "\n".join(phrases.one_line(line) for line in words.split("\n"))
        return Text(phrases.ascii_safe(clean) if self._ascii else clean, style=style, overflow="fold")

    def line(self, words: str, style: str = "", after: str = "") -> None:
        text = self.text(words, style)
        if after:
            text.append("  ").append_text(self.text(after, "default not bold"))
        self.console.print(text)

    def heading(self, words: str) -> None:
        self.console.print()
        self.console.print(self.text(words, "bold"))

    def item(self, mark: str, style: str, words: str) -> None:
        grid = self.grid()
        grid.add_row(self.text(mark, style), self.text(words))
        self.console.print(grid)

    def claim(self, certificate: Certificate) -> None:
        """One claim as a sentence with n and alpha."""
        mark, style = _MARKS[certificate.verdict]
        reason = f" {certificate.reason[:1].upper()}{certificate.reason[1:]}." if certificate.reason else ""
        self.item(mark, style, f"{certificate.claim}{reason} ({view.evidence(certificate)})")

    def copyable(self, label: str, words: str) -> None:
        """A path or command on one line, however long, so that it can be copied."""
        head = Text(f"{label:<10}", style="dim")
        self.console.print(head.append_text(self.text(words, "not dim")), soft_wrap=True)

    def grid(self) -> Table:
        return Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for i, title in enumerate(titles):
            table.add_column(self.text(title), justify="right" if i in right else "left", no_wrap=i in right, overflow="fold")
        for row in rows:
            table.add_row(*(self.text(cell) for cell in row))
        self.console.print(Padding(table, (0, 0, 0, 2)))


def _comparison(result: FitResult, page: _Page) -> None:
    shown = view.contenders(result)
    if not shown:
        return
    page.heading("Before and after")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for contender in shown:
        table.add_column(page.text(contender.title), style="bold green" if contender.role == "winner" else "", overflow="fold")
    for row in view.before_after(result):
        cells = []
        for value, note in row.cells:
            cell = page.text(value)
            cells.append(cell.append_text(page.text(f"\n{note}", "dim not bold default")) if note else cell)
        table.add_row(page.text(row.label), *cells)
    page.console.print(Padding(table, (0, 0, 0, 2)))
    if result.energy_note:
        # Why each meter is missing is for the report; `dovetail doctor` tells it too.
        page.line(f"Energy: {result.energy_note.partition(': ')[0]}", style="dim")


def _claims(result: FitResult, page: _Page) -> None:
    """What is proved of the winner and of the other variants to choose from; the report has the rest."""
    answers = view.answers(result)
    for record in answers:
        if len(answers) > 1:
            page.heading(phrases.name(record))
        render_certificates(record.certificates, page.console)
    shown = {record.recipe.key for record in answers}
    others = sum(len(c.certificates) for c in result.candidates if c.recipe.key not in shown)
    if others:
        page.line(f"{phrases.count(others)} claims about other candidates are in the report.", style="dim")


def _candidates(result: FitResult, page: _Page) -> None:
    ranked = view.ranked(result)
    if not ranked:
        return
    top, rest = ranked[:_TOP_CANDIDATES], ranked[_TOP_CANDIDATES:]
    page.heading(f"Candidates: the first {len(top)} of {phrases.count(len(ranked))}")
    rows = [_candidate_row(result, record) for record in top]
    page.table(("candidate", "latency", "ratio", "fate and reason"), rows, right=(1, 2))
    if rest:
        counts = ", ".join(f"{n} {phrases.FATES[fate]}" for fate, n in view.fate_counts(rest))
        page.console.print(Padding(page.text(f"and {counts}", "dim"), (0, 0, 0, 2)))


def _candidate_row(result: FitResult, record: CandidateRecord) -> tuple[str, str, str, str]:
    reason = view.reason(record)
    fate = phrases.FATES[record.fate]
    words = phrases.clip(f"{fate}: {reason}" if reason else fate, 120)
    return phrases.clip(phrases.name(record), 72), units.time(record.latency_s), view.ratio_cell(result, record)[0], words


def _cost(result: FitResult, page: _Page) -> None:
    page.heading(f"What the search cost: {units.duration(result.seconds)}")
    if result.ledger:
        times = [units.duration(row.seconds) if row.seconds else "" for row in result.ledger]
        rows = [(row.stage, phrases.count(row.count), time) for row, time in zip(result.ledger, times, strict=True)]
        page.table(("stage", "count", "time"), rows, right=(1, 2))


def _next(result: FitResult, page: _Page) -> None:
    page.console.print()
    if not result.artifact:
        page.line("No artifact was written.")
        return
    page.copyable("Artifact", result.artifact)
    page.copyable("Report", view.report_path(result))
    for command, does in view.next_commands(result):
        page.copyable("Next", f"{command}  # {does}")
    if needs := view.dependence(result):
        page.line(needs)


def _group_time(seconds: float | None) -> str:
    return "none" if seconds is None else units.time(seconds)
