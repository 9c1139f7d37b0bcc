"""Quality certificates: what is claimed, what is refused, and the error rate of the whole procedure."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from dovetail.certify.drop import needed_n
from dovetail.certify.quality import certify_family, holm, quality_certificate, quality_drop
from dovetail.core.certificate import Verdict
from dovetail.core.constraint import DropKind, MaxDrop
from dovetail.core.errors import DataError


@dataclass
class MeanMetric:
    name: str = "accuracy"
    higher_is_better: bool = True
    binary: bool = True
    needs_reference: bool = False

    def value(self, rows):
        return float(rows.mean())


@dataclass
class PearsonMetric(MeanMetric):
    name: str = "pearson"
    binary: bool = False

    def value(self, rows):
        return float(np.corrcoef(rows[:, 0], rows[:, 1])[0, 1]) if np.ptp(rows, axis=0).all() else math.nan


ACCURACY = MeanMetric()
PSNR = MeanMetric(name="psnr", binary=False)
ERROR = MeanMetric(name="rmse", higher_is_better=False, binary=False)
ONE_PP = MaxDrop(value=0.01)
ONE_PERCENT = MaxDrop(value=0.01, kind=DropKind.RELATIVE)


def outcomes(n, lost, won, wrong=0.1):
    """Original and candidate correctness with given discordant counts."""
    original = np.ones((n, 1))
    original[: won + int(wrong * n)] = 0
    candidate = original.copy()
    candidate[:won] = 1
    if lost:
        candidate[-lost:] = 0
    return original, candidate


def test_certifies_a_harmless_candidate_and_says_so_in_numbers():
    certificate = quality_certificate(
        ACCURACY, *outcomes(8000, 60, 55), max_drop=ONE_PP, looks=2, data_hashes={"certify": "ab12"}
    )
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.interval.high < 0.0035
    assert certificate.n == 8000 and certificate.alpha == 0.05 and certificate.looks == 2
    assert certificate.data_hashes == {"certify": "ab12"}
    assert "Tango 1998" in certificate.method
    assert certificate.claim.startswith("accuracy worsens by at most 1 pp against the original (89.31 % → 89.25 %")


def test_refutes_a_harmful_candidate():
    certificate = quality_certificate(ACCURACY, *outcomes(8000, 400, 50), max_drop=ONE_PP)
    assert certificate.verdict is Verdict.REFUTED
    assert certificate.interval.low > 0.01


def test_six_samples_cannot_certify_and_it_says_how_many_could():
    certificate = quality_certificate(ACCURACY, *outcomes(6, 0, 0), max_drop=ONE_PP)
    assert certificate.verdict is Verdict.CANNOT_CERTIFY
    assert certificate.reason == "cannot certify: n = 6, needs about 1,300"


def test_six_photos_cannot_certify_a_psnr_even_when_all_agree():
    psnr = np.array([31.0, 28.4, 35.2, 30.1, 27.7, 33.3])
    certificate = quality_certificate(PSNR, psnr, psnr - 1e-6, max_drop=MaxDrop(value=0.1))
    assert certificate.verdict is Verdict.CANNOT_CERTIFY
    assert certificate.reason.startswith("cannot certify: n = 6, needs about 50")


def test_identical_outcomes_need_the_rule_of_three():
    assert quality_certificate(ACCURACY, *outcomes(300, 0, 0), max_drop=ONE_PP).verdict is Verdict.CANNOT_CERTIFY
    assert quality_certificate(ACCURACY, *outcomes(330, 0, 0), max_drop=ONE_PP).verdict is Verdict.CERTIFIED


def test_too_great_an_observed_drop_asks_for_no_more_data():
    certificate = quality_certificate(ACCURACY, *outcomes(400, 8, 2), max_drop=ONE_PP)
    assert certificate.verdict is Verdict.CANNOT_CERTIFY
    assert certificate.reason.endswith("the observed drop of 1.5 pp is not below the limit of 1 pp")


@pytest.mark.parametrize("level", [-40.0, 0.5, 40.0])
@pytest.mark.parametrize("metric", [PSNR, ERROR])
def test_relative_limits_in_either_direction_and_below_zero(metric, level):
    rng = np.random.default_rng(4)
    original = level + 0.05 * rng.normal(size=400)
    worse = -1 if metric.higher_is_better else 1
    step = abs(level) * np.array([0.005, 0.02]) * worse
    noise = abs(level) * 0.01 * rng.normal(size=400)
    kept, broken = (quality_certificate(metric, original, original + s + noise, max_drop=ONE_PERCENT) for s in step)
    assert kept.verdict is Verdict.CERTIFIED
    assert broken.verdict is Verdict.REFUTED
    assert kept.interval.point == pytest.approx(0.005 * abs(level), rel=0.3)


def test_relative_limit_at_zero_asks_for_an_absolute_one():
    certificate = quality_certificate(ACCURACY, *outcomes(400, 0, 0, wrong=1.0), max_drop=ONE_PERCENT)
    assert certificate.verdict is Verdict.CANNOT_CERTIFY
    assert "give an absolute limit" in certificate.reason


def test_undefined_metric_cannot_certify():
    rows = np.column_stack([np.ones(100), np.arange(100.0)])
    certificate = quality_certificate(PearsonMetric(), rows, rows, max_drop=ONE_PP)
    assert certificate.verdict is Verdict.CANNOT_CERTIFY
    assert certificate.interval is None and "undefined" in certificate.reason


def test_limit_of_zero_needs_a_better_candidate():
    zero = MaxDrop(value=0.0)
    assert "better than the original" in quality_certificate(ACCURACY, *outcomes(1000, 5, 5), max_drop=zero).reason
    assert quality_certificate(ACCURACY, *outcomes(1000, 5, 40), max_drop=zero).verdict is Verdict.CERTIFIED


@pytest.mark.parametrize("metric", [ACCURACY, PSNR])
def test_a_single_unit_certifies_nothing_and_says_so(metric):
    (certificate,) = certify_family(metric, [[0.75]], [[[0.5]]], max_drop=ONE_PP)
    assert certificate.verdict is Verdict.CANNOT_CERTIFY and certificate.n == 1
    assert "cannot certify: n = 1, needs at least 20" in certificate.reason
    assert certificate.interval.point == 0.25
    quality = quality_drop(metric, [[0.75]], [[0.5]], split="selection")
    assert quality.n == 1 and quality.drop.low < 0 < quality.drop.point < quality.drop.high


def test_rows_must_belong_together():
    with pytest.raises(DataError, match="same units"):
        quality_certificate(ACCURACY, np.ones((5, 1)), np.ones((4, 1)), max_drop=ONE_PP)
    with pytest.raises(DataError, match="at least two units"):
        quality_certificate(ACCURACY, np.ones((0, 1)), np.ones((0, 1)), max_drop=ONE_PP)


def test_search_quality_has_a_two_sided_interval():
    quality = quality_drop(ACCURACY, *outcomes(2000, 30, 20), split="selection")
    assert quality.drop.point == pytest.approx(0.005)
    assert quality.drop.low < 0 < 0.005 < quality.drop.high < 0.014
    assert (quality.n, quality.split, quality.drop.confidence) == (2000, "selection", 0.95)


def test_group_fractions_take_the_bootstrap():
    rng = np.random.default_rng(2)
    original = rng.integers(6, 11, size=(500, 1)) / 10  # shares of right frames of 500 recordings
    candidate = np.clip(original + rng.choice([-0.1, 0.0, 0.1], size=(500, 1), p=[0.05, 0.9, 0.05]), 0, 1)
    certificate = quality_certificate(ACCURACY, original, candidate, max_drop=ONE_PP)
    assert "bootstrap-t" in certificate.method
    assert certificate.verdict is Verdict.CERTIFIED


def test_holm_levels():
    assert holm([0.01]) == (0.05,)
    assert holm([0.04, 0.001, 0.02]) == pytest.approx((0.05, 0.05 / 3, 0.025))
    assert holm([0.04, 0.03, 0.5]) == pytest.approx((0.05 / 3,) * 3)
    assert holm([0.01], planned=4) == pytest.approx((0.0125,))


def test_family_certificates_carry_the_level_they_were_judged_at():
    original = np.arange(5000)[:, None] >= 500

    def changed(lost, won):
        rows = original.copy()
        rows[:won], rows[5000 - lost :] = True, False
        return rows

    candidates = [changed(90, 30), changed(30, 30), changed(60, 35)]
    certificates = certify_family(ACCURACY, original, candidates, max_drop=ONE_PP)
    assert [c.verdict is Verdict.CERTIFIED for c in certificates] == [False, True, True]
    assert [c.alpha for c in certificates] == pytest.approx([0.05, 0.05 / 3, 0.025])
    assert all("Holm step-down among 3" in c.method for c in certificates)


def test_family_error_stays_within_alpha():
    rng = np.random.default_rng(8)
    n, families = 1500, 400
    wrong = 0
    for _ in range(families):
        original = np.ones((n, 1))
        candidates = [(rng.random((n, 1)) >= 0.02).astype(float) for _ in range(3)]  # true drop 2 pp, at the limit
        certificates = certify_family(ACCURACY, original, candidates, max_drop=MaxDrop(value=0.02))
        wrong += any(c.verdict is Verdict.CERTIFIED for c in certificates)
    assert wrong / families <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / families)


@pytest.mark.parametrize(("metric", "right"), [(ACCURACY, 0.9), (MeanMetric(name="error rate", higher_is_better=False), 0.1)])
def test_relative_limit_of_0_1_outcomes_holds_its_level(metric, right):
    rng = np.random.default_rng(6)
    n, draws, limit = 1500, 300, MaxDrop(value=0.1 if right < 0.5 else 0.01, kind=DropKind.RELATIVE)
    worsening = limit.value * right  # true drop exactly at the limit
    flips = (worsening + 0.01, 0.01) if metric.higher_is_better else (0.01, worsening + 0.01)
    wrong = 0
    for seed in range(draws):
        original = rng.random((n, 1)) < right
        lose, gain = rng.random((n, 1)) < flips[0] / right, rng.random((n, 1)) < flips[1] / (1 - right)
        candidate = np.where(original, ~lose, gain)
        certificate = quality_certificate(metric, original, candidate, max_drop=limit, resamples=500, seed=seed)
        wrong += certificate.verdict is Verdict.CERTIFIED
    assert wrong / draws <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / draws)


def test_needed_n():
    assert needed_n(0.02, 0.0, 0.01) == pytest.approx(1236.5, abs=1)
    assert needed_n(0.02, 0.01, 0.01) == math.inf
