"""The HTML report: self-contained, escaped, bounded, and honest about what is absent."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import sample

from dovetail.core.errors import StorageError
from dovetail.core.source import Source, SourceKind
from dovetail.report.html import render_html, write_html
from dovetail.report.notebook import result_html
from dovetail.report.roofline import Roof

VOID = {"meta", "link", "input", "img", "br"}
INTENDED = {"html", "head", "body", "meta", "link", "title", "style", "script", "main", "header", "p", "h1", "h2", "h3",
            "div", "span", "b", "small", "code", "pre", "ul", "li", "dl", "dt", "dd", "nav", "a", "section", "article",
            "figure", "figcaption", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "button", "input", "select", "option",
            "details", "summary", "svg", "g", "line", "rect", "circle", "polyline", "text"}  # fmt: skip


class Reader(HTMLParser):
    """Collects tags and attributes, and checks that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


def read(document: str) -> Reader:
    reader = Reader()
    reader.feed(document)
    reader.close()
    assert reader.open == []
    return reader


def text_of(document: str) -> str:
    return " ".join(" ".join(read(document).words).split())


@pytest.mark.parametrize("name", sample.EVERY)
def test_document_is_well_formed_and_asks_for_nothing(name: str) -> None:
    document = render_html(sample.EVERY[name]())
    found = read(document)
    assert set(found.tags) <= INTENDED
    assert found.tags.count("script") == found.tags.count("style") == 1
    for _, attribute, value in found.attributes:
        assert not attribute.startswith("on")
        if attribute in ("href", "src"):
            assert value.startswith("#") or value == "data:,"
    style = document[document.index("<style>") : document.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in document


def test_verdict_comes_first_and_every_candidate_has_its_reason() -> None:
    result = sample.fit()
    document = render_html(result)
    assert document.index(result.headline) < document.index('id="before"') < document.index('id="candidates"')
    assert document.count("<tr data-fate=") == len(result.candidates)
    shown = text_of(document)
    for record in result.candidates:
        assert (record.infeasible.reason if record.infeasible else record.reason) in shown


def test_claims_carry_method_size_level_and_data() -> None:
    shown = text_of(render_html(sample.fit()))
    for words in (
        "Tango 1998",
        "n = 8,000, α = 0.025, look 2 at this data",
        "4c1f09d2aa31e7b8",
        "1.77× (1.74× to 1.80×, 95 %)",
    ):
        assert words in shown


def test_user_program_and_recipe_are_there() -> None:
    result = sample.fit()
    shown = "".join(read(render_html(result)).words)
    assert "session = dovetail.load('fit')" in shown
    assert "shapes = {'input': (1, 3, 32, 32)}" in shown
    assert '"name": "quantize_static"' in shown and result.command in shown


def test_hostile_names_stay_text() -> None:
    document = render_html(sample.hostile())
    assert "<img" not in document and "alert(1)</script>" not in document
    assert "{{ 7*7 }}" in document and "\x1b" not in document
    assert "名前" in document


def test_hostile_names_stay_text_in_a_notebook() -> None:
    fragment = result_html(sample.hostile())
    assert "<img" not in fragment and "<script" not in fragment and "名前" in fragment


@pytest.mark.parametrize("name", sample.EVERY)
def test_notebook_table_is_well_formed(name: str) -> None:
    result = sample.EVERY[name]()
    fragment = result_html(result)
    read(fragment)
    assert len(fragment) < 20_000
    assert "nan" not in text_of(fragment).lower().split()


def test_absent_numbers_are_unknown_and_never_zero() -> None:
    shown = text_of(render_html(sample.bare()))
    for words in (
        "Size unknown", "Peak memory unknown", "the workload was not analysed", "Layer sensitivity was not measured",
        "No profile was taken", "Nothing was certified", "No ledger was kept", "The command is unknown", "Libraries unknown",
    ):  # fmt: skip
        assert words in shown
    assert not re.search(r"(?<![\d.,])0 B\b", shown)


def test_nan_never_reaches_the_page() -> None:
    document = render_html(sample.with_nan())
    assert not re.search(r"\bnan\b", document[document.index("</style>") :], re.IGNORECASE)


def test_three_hundred_candidates_stay_below_three_megabytes(tmp_path: Path) -> None:
    path = write_html(sample.fit(295), tmp_path / "report.html")
    assert path.stat().st_size < 1_500_000
    assert path.read_text(encoding="utf-8").count("<tr data-fate=") == 300


def test_huge_texts_and_profiles_stay_below_three_megabytes(tmp_path: Path) -> None:
    path = write_html(sample.swollen(), tmp_path / "report.html")
    assert path.stat().st_size < 3_000_000
    assert "more explanations are in the JSON result" in path.read_text(encoding="utf-8")


def test_ceilings_are_drawn_only_when_given() -> None:
    result = sample.fit()
    assert "No ceiling is drawn" in render_html(result) and 'class="l-roof"' not in render_html(result)
    source = Source(kind=SourceKind.MEASURED, ref="calibration", date="2026-01-01")
    roof = Roof(label="fp32", peak_flop_per_s=3e11, bandwidth_bytes_per_s=2e10, source=source)
    document = render_html(result, [roof])
    assert 'class="l-roof"' in document and "fp32 (measured: calibration)" in document


def test_unwritable_path_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_html(sample.fit(1), tmp_path / "absent" / "report.html")


def test_how_a_smaller_network_was_made_is_told_step_by_step():
    text = text_of(render_html(sample.pruned()))
    assert "How the answer was made" in text and "prune_blocks(count=4)" in text
    assert "2 of 6 units" in text and "layer3.7.conv1" in text
    assert "Networks on the way" in text and "training loss" in text


def test_without_such_steps_nothing_is_said_of_them():
    assert "How the answer was made" not in text_of(render_html(sample.fit()))
