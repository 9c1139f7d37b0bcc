"""Which candidates stand side by side, in which order, and in which words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sample

from dovetail.core.outcome import Fate
from dovetail.report import view


def test_original_that_is_the_best_baseline_is_one_column() -> None:
    result = replace(sample.fit(), best_baseline=sample.DEFAULT.key)
    assert [c.title for c in view.contenders(result)] == ["Original = best baseline", "Winner"]


def test_winner_that_is_a_baseline_gets_no_column_of_its_own() -> None:
    assert [c.title for c in view.contenders(sample.nothing_beats())] == ["Original", "Best baseline"]


def test_unknown_latency_ranks_behind_every_known_one_of_its_fate() -> None:
    result = sample.fit()
    lost = replace(result.candidates[1], measurement=None, screening=None)
    ranked = view.ranked(replace(result, candidates=(lost, *result.candidates)))
    baselines = [c.latency_s for c in ranked if c.fate is Fate.BASELINE]
    assert ranked[0].fate is Fate.WINNER
    assert baselines[-1] is None and None not in baselines[:-1]


def test_throughput_is_shown_when_it_is_the_objective() -> None:
    rows = {row.label: row.cells for row in view.before_after(replace(sample.fit(), objective="throughput"))}
    assert rows["Throughput"][-1] == ("7.03 k/s", "samples")
    assert "Throughput" not in {row.label for row in view.before_after(sample.fit())}


def test_ratio_without_measured_pairs_says_so() -> None:
    result = sample.bare()
    assert view.ratio_cell(result, result.record(result.winner)) == ("1.77×", "of medians, no interval")
    assert view.ratio_cell(result, result.record(result.best_baseline)) == ("1.00×", "reference")


@pytest.mark.parametrize("name", sample.EVERY)
def test_lines_for_the_users_program_are_valid_python(name: str) -> None:
    compile(view.usage(sample.EVERY[name]()), "usage", "exec")


def test_artifact_with_spaces_is_quoted() -> None:
    assert view.next_commands(replace(sample.fit(), artifact="my fit"))[0][0] == "dovetail verify 'my fit'"


def test_script_is_named_only_where_it_is_there() -> None:
    alone, bound = sample.fit(), replace(sample.fit(), runs_alone=False)
    assert [c for c, _ in view.next_commands(alone)] == ["dovetail verify fit", "python fit/run.py"]
    assert view.dependence(alone) == ""
    assert [c for c, _ in view.next_commands(bound)] == ["dovetail verify fit"]
    assert "onnxruntime have no run.py" in view.dependence(bound)
    assert view.dependence(replace(sample.infeasible(), runs_alone=False)) == ""
