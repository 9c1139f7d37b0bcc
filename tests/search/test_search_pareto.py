"""The front: what no other beats; a missing number is on no front."""

import math

from hypothesis import given
from hypothesis import strategies as st

from dovetail.search.pareto import front

coordinate = st.one_of(st.none(), st.just(math.nan), st.integers(0, 4).map(float))


def test_dominated_points_are_left_out():
    points = {"fast": (1.0, 9.0), "small": (9.0, 1.0), "between": (5.0, 5.0), "worse": (5.0, 6.0)}
    assert front(points) == ("fast", "small", "between")


def test_a_point_with_a_missing_coordinate_is_on_no_front_and_beats_nothing():
    points = {"known": (2.0, 2.0), "missing": (1.0, None), "nan": (math.nan, 0.0)}
    assert front(points) == ("known",)
    assert front({"missing": (None, None)}) == ()
    assert front({}) == ()


def test_equal_points_stay_together():
    assert front({"a": (1.0, 1.0), "b": (1.0, 1.0)}) == ("a", "b")


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.tuples(coordinate, coordinate, coordinate)))
def test_laws(points):
    chosen = front(points)
    known = {name: p for name, p in points.items() if all(v is not None and not math.isnan(v) for v in p)}
    assert set(chosen) <= known.keys()
    assert bool(chosen) == bool(known)
    assert set(front({name: points[name] for name in chosen})) == set(chosen)
    for name in known.keys() - set(chosen):
        assert any(all(a <= b for a, b in zip(known[c], known[name], strict=True)) for c in chosen)
