"""Numbers are rounded before their unit is chosen, so that no number reads 1000 of one unit where it is 1 of the next."""

import math
import re

import pytest

from dovetail.core import units


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (units.time(999.4e-9), "999 ns"),
        (units.time(999.6e-9), "1 µs"),
        (units.time(9.996e-7), "1 µs"),
        (units.time(1e-6), "1 µs"),
        (units.time(0.9996), "1 s"),
        (units.time(0.09996), "100 ms"),
        (units.time(0.0999, digits=2), "100 ms"),
        (units.time(1234.0), "1230 s"),
        (units.time(0.0), "0 ns"),
        (units.time(2.5e-10), "0.25 ns"),
        (units.size(999.9e6), "1 GB"),
        (units.size(1.09e6), "1.09 MB"),
        (units.size(2.5e15), "2.5 PB"),
        (units.size(0.0), "0 B"),
        (units.count(1.6e18, "FLOP/s"), "1.6 EFLOP/s"),
        (units.count(1.9789e15, "FLOP/s", digits=4), "1.979 PFLOP/s"),
        (units.count(989e12, "FLOP/s", digits=4), "989 TFLOP/s"),
        (units.count(999.96e9, "FLOP", digits=4), "1 TFLOP"),
        (units.count(999.5), "1 k"),
        (units.count(-999.9e3), "-1 M"),
        (units.count(7.0), "7"),
        (units.energy(0.9996e-3), "1 mJ"),
        (units.energy(0.0042), "4.2 mJ"),
        (units.energy(7200.0), "7.2 kJ"),
        (units.duration(9.96), "10 s"),
        (units.duration(9.94), "9.9 s"),
        (units.duration(59.7), "1 min 00 s"),
        (units.duration(3599.7), "1 h 00 min"),
    ],
)
def test_a_number_that_rounds_up_takes_the_next_unit(shown: str, words: str) -> None:
    assert shown == words


@pytest.mark.parametrize("show", [units.time, units.size, units.count, units.energy])
def test_what_is_not_known_is_said(show) -> None:  # type: ignore[no-untyped-def]
    assert show(None) == show(math.nan) == "unknown"


@pytest.mark.parametrize(("show", "least", "most"), [
    (units.time, 1e-9, 999.0), (units.size, 1.0, 1e20), (units.count, 1.0, 1e20), (units.energy, 1e-9, 1e8),
])  # fmt: skip
def test_no_number_between_the_units_has_four_digits_or_an_exponent(show, least: float, most: float) -> None:  # type: ignore[no-untyped-def]
    for decade in range(-9, 21):
        for mantissa in (1.0, 1.004, 4.2, 9.94, 9.96, 9.994, 9.996, 9.9999):
            value = mantissa * 10.0**decade
            if least <= value < most:
                shown = show(value)
                number = re.match(r"[\d.]+", shown)
                assert number is not None and float(number[0]) < 1000 and "e" not in shown, (value, shown)
                unit = shown[len(number[0]) :].strip()
                back = float(number[0]) * _scale(unit)
                assert back == pytest.approx(value, rel=0.006)


def _scale(unit: str) -> float:
    prefix = unit[:1] if len(unit) == 2 or (len(unit) == 1 and unit in "kMGTPE") else ""
    return {"": 1.0, "n": 1e-9, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}[prefix]
