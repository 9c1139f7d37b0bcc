"""Speed claims: margin, pairs, outliers and false claims; drift notes; limits on measured quantities."""

import math

import numpy as np
import pytest
from scipy import stats

from dovetail.certify.speed import drift_note, limit_certificate, ratio_interval, speed_certificate
from dovetail.core.certificate import Verdict
from dovetail.core.constraint import Constraint
from dovetail.core.measurement import Interval


def test_faster_slower_and_neither():
    spread = 0.01 * np.array([-1.0, 0.5, 0.2, -0.3, 1.0, -0.4])
    faster = speed_certificate(math.log(1.5) + spread, baseline_s=3e-3, candidate_s=2e-3, environment="f00d")
    slower = speed_certificate(math.log(0.7) + spread)
    level = speed_certificate(math.log(1.015) + spread)
    assert faster.verdict is Verdict.CERTIFIED and faster.interval.low > 1.02
    assert slower.verdict is Verdict.REFUTED and slower.reason == "it is slower"
    assert level.verdict is Verdict.NOT_DISTINGUISHABLE and "1.02×" in level.reason
    assert (faster.n, faster.environment, faster.baseline_value, faster.value) == (6, "f00d", 3e-3, 2e-3)
    assert "1.500×" in faster.claim


def test_five_pairs_cannot_certify():
    certificate = speed_certificate([0.5] * 5, notes=["the clock ended at 80% of its start"])
    assert certificate.verdict is Verdict.CANNOT_CERTIFY
    assert certificate.reason == "cannot certify: n = 5 process pairs, needs 6; the clock ended at 80% of its start"
    assert speed_certificate([]).verdict is Verdict.CANNOT_CERTIFY


def test_six_pairs_are_plain_student():
    pairs = np.array([0.1, 0.12, 0.09, 0.11, 0.13, 0.1])
    low, high = stats.t.interval(0.95, 5, pairs.mean(), stats.sem(pairs))
    interval = ratio_interval(pairs)
    assert (interval.low, interval.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_one_disturbed_pair_of_eight_spoils_nothing():
    rng = np.random.default_rng(0)
    pairs = math.log(1.1) + 0.008 * rng.normal(size=8)
    calm = speed_certificate(pairs)
    pairs[3] -= 0.5
    disturbed = speed_certificate(pairs)
    assert calm.verdict is disturbed.verdict is Verdict.CERTIFIED
    assert "trimmed" in disturbed.method


def test_log_ratios_must_be_finite():
    with pytest.raises(ValueError, match="finite log ratios"):
        ratio_interval([0.1, math.inf])


@pytest.mark.parametrize("pairs", [6, 8, 12])
@pytest.mark.parametrize("spread", [0.005, 0.01, 0.03])
@pytest.mark.parametrize("disturbed", [0.0, 0.1])
def test_at_most_4_of_200_self_comparisons_claim_a_difference(pairs, spread, disturbed):
    rng = np.random.default_rng(pairs)
    claims = 0
    for _ in range(200):
        noise = rng.normal(0, spread, pairs) + (rng.random(pairs) < disturbed) * rng.exponential(10 * spread, pairs)
        claims += speed_certificate(noise).verdict in (Verdict.CERTIFIED, Verdict.REFUTED)
    assert claims <= 4


def test_interval_covers_the_ratio():
    rng = np.random.default_rng(9)
    for pairs in (6, 10):
        intervals = [ratio_interval(rng.normal(0.2, 0.02, pairs)) for _ in range(1500)]
        missed = np.mean([not i.low <= math.exp(0.2) <= i.high for i in intervals])
        assert missed <= 0.06 + 2 * math.sqrt(0.05 * 0.95 / 1500)


def test_drift_is_noted_and_quiet_is_not():
    assert drift_note([1.0e-3, 1.01e-3, 0.99e-3], [1.02e-3, 1.0e-3, 1.01e-3]) is None
    assert drift_note([1.0e-3] * 3, [1.2e-3] * 3) == "the last blocks were 20% slower than the first (1 ms → 1.2 ms)"
    note = drift_note([1e-3], [1e-3], steal_share=0.03, clock_ratio=0.8)
    assert note == "the clock ended at 80% of its start; other machines on this host took 3.0% of the processor time"


P99 = Constraint(metric="latency_s", bound=5e-3, quantile=0.99)


def test_limits_are_judged_on_the_whole_interval():
    met = limit_certificate(P99, Interval(point=4e-3, low=3.9e-3, high=4.5e-3), n=2000, environment="f00d")
    missed = limit_certificate(P99, Interval(point=6e-3, low=5.5e-3, high=7e-3), n=2000)
    unsure = limit_certificate(P99, Interval(point=4.9e-3, low=4.5e-3, high=5.3e-3), n=2000)
    assert (met.verdict, missed.verdict, unsure.verdict) == (
        Verdict.CERTIFIED,
        Verdict.REFUTED,
        Verdict.CANNOT_CERTIFY,
    )
    assert met.claim == "p99 latency is at most 5 ms (3.9 ms to 4.5 ms, n = 2,000)"
    assert met.alpha == pytest.approx(0.025)
    assert unsure.reason == "cannot certify: n = 2,000, the limit lies inside the interval"


def test_percentile_without_enough_samples_is_refused():
    certificate = limit_certificate(P99, None, n=200, needed=368)
    assert certificate.verdict is Verdict.CANNOT_CERTIFY
    assert certificate.reason == "cannot certify: n = 200, needs 368"


def test_exact_quantities_and_lower_limits():
    size = Constraint(metric="size_bytes", bound=1e6)
    exact = limit_certificate(size, Interval(point=9e5, low=9e5, high=9e5), n=1)
    assert exact.verdict is Verdict.CERTIFIED and exact.method == "exact"
    assert exact.claim == "size is at most 1 MB (900 kB)"
    throughput = Constraint(metric="throughput_per_s", bound=1000, at_least=True)
    fast = limit_certificate(throughput, Interval(point=1500, low=1400, high=1600), n=6)
    assert fast.verdict is Verdict.CERTIFIED
    assert fast.claim.startswith("throughput is at least 1 k/s")
