"""Renders a result as a compact table for notebooks."""

from __future__ import annotations

from dovetail.core.outcome import FitResult
from dovetail.report import phrases, view
from dovetail.report.html import templates

_COLOURS = {"good": "#178a68", "fair": "#a8761a", "bad": "#c8483f"}
"""Readable on light and dark backgrounds alike: a notebook cell does not say which it has."""


def result_html(result: FitResult) -> str:
    """An HTML fragment with the verdict, the before/after table and where the report lies, for ``_repr_html_``."""
    answer = view.answer(result)
    return (
        templates()
        .get_template("notebook.html.j2")
        .render(
            result=result,
            answer=answer,
            colour=_COLOURS[answer.tone],
            contenders=view.contenders(result),
            rows=view.before_after(result),
            fates=view.fate_counts(result.candidates),
            fate_names=phrases.FATES,
            report=view.report_path(result),
        )
    )
