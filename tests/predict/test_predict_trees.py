import json

import numpy as np
import pytest

from dovetail.predict.trees import Trees, mean


def _two() -> Trees:
    return Trees(
        start=1.0,
        features=np.array([[0, 1], [1, 1]]),
        thresholds=np.array([[0.0, 5.0], [2.0, 4.0]]),
        leaves=np.array([[0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]]),
    )


def test_a_level_answers_yes_above_its_threshold_and_the_first_is_the_highest_bit() -> None:
    x = np.array([[-1.0, 0.0], [1.0, 3.0], [0.0, 9.0], [7.0, 9.0]])
    assert _two()(x) == pytest.approx([1 + 0.1 + 1, 1 + 0.3 + 3, 1 + 0.2 + 4, 1 + 0.4 + 4])


def test_json_keeps_what_trees_say() -> None:
    x = np.random.default_rng(0).normal(3, 4, (500, 2))
    again = Trees.of_json(json.loads(json.dumps(_two().to_json())))
    assert again(x) == pytest.approx(_two()(x), abs=3 * 4.0 / 32767)


def test_leaves_must_match_the_depth() -> None:
    with pytest.raises(ValueError, match="4 leaves"):
        Trees(start=0.0, features=np.zeros((1, 2), dtype=int), thresholds=np.zeros((1, 2)), leaves=np.zeros((1, 8)))


def test_no_trees_say_the_start() -> None:
    none = Trees(start=2.5, features=np.zeros((0, 3), dtype=int), thresholds=np.zeros((0, 3)), leaves=np.zeros((0, 8)))
    assert none(np.zeros((4, 2))).tolist() == [2.5] * 4
    assert Trees.of_json(none.to_json())(np.zeros((1, 2))).tolist() == [2.5]


def test_known_columns_can_be_put_in_once() -> None:
    rng = np.random.default_rng(1)
    trees = Trees(
        start=0.5,
        features=rng.integers(0, 5, (40, 4)),
        thresholds=rng.normal(size=(40, 4)),
        leaves=rng.normal(size=(40, 16)),
    )
    x = rng.normal(size=(700, 5))
    some, others = ({1: 0.3, 3: -2.0}, {1: -1.0, 3: 5.0})
    answers = []
    for values in (some, others):
        fixed = x.copy()
        for column, value in values.items():
            fixed[:, column] = value
        answers.append(trees(fixed))
        assert trees.given(values)(x) == pytest.approx(answers[-1])
    assert mean([trees.given(some), trees.given(others)])(x) == pytest.approx((answers[0] + answers[1]) / 2)
    with pytest.raises(ValueError, match="ask the same"):
        mean([trees, trees.given(some)])


def test_many_rows_are_answered_as_each_alone() -> None:
    x = np.random.default_rng(2).normal(3, 4, (1100, 2))
    assert _two()(x) == pytest.approx([float(_two()(row[None])[0]) for row in x])
    assert _two()(x[:0]).shape == (0,)
