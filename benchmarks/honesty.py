"""How often Dovetail certifies what is not true, and how often what is.

``python benchmarks/honesty.py simulate`` draws outcomes of a candidate whose true drop equals the limit exactly, passes them
through the product's own certificates, and counts those certified; then the same for a harmless candidate.
``python benchmarks/honesty.py aa`` measures recipes against themselves and counts the claims of a difference. Each appends one
row to ``benchmarks/results/honesty.jsonl``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import rows
import self_duels
from numpy.typing import NDArray
from scipy import stats

from dovetail.certify import quality_certificate
from dovetail.certify.paired import score_statistic
from dovetail.core.certificate import Verdict
from dovetail.core.constraint import MaxDrop
from dovetail.core.protocols import Metric

ALPHA = 0.05
MARGIN = 0.01
ALLOWED = 62
SIZES = (200, 1300, 5000, 8000)
DISCORDANCES = (0.012, 0.02, 0.03, 0.05, 0.1)
POWER = ((1300, 0.75), (5000, 0.99))

Rows = NDArray[np.float64]
Draw = Callable[[np.random.Generator], tuple[Rows, Rows]]


@dataclass(slots=True, kw_only=True)
class MeanMetric:
    """The mean of one column; accuracy where rows are 0/1."""

    name: str
    binary: bool
    higher_is_better: bool = True
    needs_reference: bool = False

    def value(self, rows: Rows) -> float:
        """Mean over units."""
        return float(rows.mean())


@dataclass(slots=True, kw_only=True)
class SpearmanMetric:
    """Rank correlation of two columns, score and label."""

    name: str = "Spearman"
    binary: bool = False
    higher_is_better: bool = True
    needs_reference: bool = False

    def value(self, rows: Rows) -> float:
        """Pearson correlation of midranks."""
        ranks = [np.searchsorted(s, x) + np.searchsorted(s, x, "right") for x in rows.T for s in [np.sort(x)]]
        return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


ACCURACY = MeanMetric(name="accuracy", binary=True)
SCORE = MeanMetric(name="mean score", binary=False)


def paired_outcomes(n: int, discordance: float, drop: float) -> Draw:
    """0/1 outcomes of both models on ``n`` units; 90 % of the concordant ones are right."""
    shares = [(discordance + drop) / 2, (discordance - drop) / 2, 0.9 * (1 - discordance), 0.1 * (1 - discordance)]
    original, candidate = np.array([1.0, 0, 1, 0]), np.array([0.0, 1, 1, 0])

    def draw(rng: np.random.Generator) -> tuple[Rows, Rows]:
        kind = np.repeat(np.arange(4), rng.multinomial(n, shares))
        return original[kind][:, None], candidate[kind][:, None]

    return draw


def skewed_scores(n: int, drop: float) -> Draw:
    """Scores whose drop per unit is exponential with the given mean: a few units lose much."""

    def draw(rng: np.random.Generator) -> tuple[Rows, Rows]:
        original = rng.normal(size=(n, 1))
        return original, original - rng.exponential(drop, size=(n, 1))

    return draw


def ranked_pairs(n: int, noise: float = 0.25, correlation: float = 0.85) -> tuple[Draw, float]:
    """Normal scores and labels, the candidate's scores blurred; returns the true drop of Spearman's rho too."""

    def draw(rng: np.random.Generator) -> tuple[Rows, Rows]:
        label = rng.normal(size=n)
        score = correlation * label + math.sqrt(1 - correlation**2) * rng.normal(size=n)
        return np.column_stack([score, label]), np.column_stack([score + noise * rng.normal(size=n), label])

    def rho(r: float) -> float:
        return 6 / math.pi * math.asin(r / 2)

    return draw, rho(correlation) - rho(correlation / math.sqrt(1 + noise**2))


def certified_share(metric: Metric, draw: Draw, limit: float, draws: int, seed: int) -> float:
    """Share of draws that the product certifies."""
    rng = np.random.default_rng(seed)
    max_drop = MaxDrop(value=limit)
    certified = 0
    for i in range(draws):
        certificate = quality_certificate(metric, *draw(rng), max_drop=max_drop, alpha=ALPHA, seed=seed + i)
        certified += certificate.verdict is Verdict.CERTIFIED
    return certified / draws


def exact_share(n: int, discordance: float, drop: float) -> float:
    """The same for 0/1 outcomes by enumeration of all likely discordant counts: no draws, no luck."""
    lost, won = (discordance + drop) / 2, (discordance - drop) / 2
    b, c = np.meshgrid(*(np.arange(stats.binom.ppf(1e-9, n, p), stats.binom.isf(1e-9, n, p) + 1) for p in (lost, won)))
    probability = stats.binom.pmf(b, n, lost) * stats.binom.pmf(c, n - b, won / (1 - lost))
    return float(probability[score_statistic(b, c, n, MARGIN) <= stats.norm.ppf(ALPHA)].sum())


def false_certifications(draws: int, seed: int) -> list[dict[str, Any]]:
    """One row per cell whose true drop equals the limit."""
    rows: list[dict[str, Any]] = []

    def add(metric: Metric, n: int, draw: Draw, limit: float, **extra: float) -> None:
        share = certified_share(metric, draw, limit, draws, seed)
        row = {"metric": metric.name, "n": n, "limit": round(limit, 5), "certified": round(share * draws), **extra}
        shown = "  ".join(f"{k} {v:.3g}" for k, v in extra.items())
        print(f"{metric.name:<11} n = {n:>5,}  certified {round(share * draws):>3} of {draws:,}  {shown}", flush=True)
        rows.append(row)

    for n in SIZES:
        for discordance in DISCORDANCES:
            exact = round(exact_share(n, discordance, MARGIN), 5)
            add(ACCURACY, n, paired_outcomes(n, discordance, MARGIN), MARGIN, discordance=discordance, exact=exact)
    for n in (100, 879):
        add(SCORE, n, skewed_scores(n, MARGIN), MARGIN)
    draw, limit = ranked_pairs(100)
    add(SpearmanMetric(), 100, draw, limit)
    return rows


def power(draws: int, seed: int) -> list[dict[str, Any]]:
    """Certified shares of a candidate that does no harm: true drop 0, discordance 2 %, limit 1 pp."""
    rows: list[dict[str, Any]] = []
    for n, wanted in POWER:
        share = certified_share(ACCURACY, paired_outcomes(n, 0.02, 0.0), MARGIN, draws, seed)
        exact = exact_share(n, 0.02, 0.0)
        print(f"harmless    n = {n:>5,}  certified {share:.1%} of {draws:,}  exact {exact:.2%}  wanted {wanted:.0%}")
        rows.append({"n": n, "certified_share": share, "exact": round(exact, 5), "wanted": wanted})
    return rows


def record(part: str, config: Mapping[str, object], figures: Mapping[str, object]) -> None:
    """Appends one row."""
    rows.append("honesty", {"part": part, **config}, figures)


def simulate(draws: int, seed: int) -> bool:
    """Runs both tables; true when every cell keeps its promise."""
    print(f"True drop equal to the limit: at most {ALLOWED} of 1,000 may be certified.")
    false_rows = false_certifications(draws, seed)
    print("True drop 0, discordance 2 %, limit 1 pp:")
    power_rows = power(10 * draws, seed)
    honest = all(row["certified"] * 1000 <= ALLOWED * draws for row in false_rows)
    kept = honest and all(row["certified_share"] >= row["wanted"] for row in power_rows)
    print("every cell keeps its promise" if kept else "a cell breaks its promise")
    config: dict[str, object] = {"draws": draws, "seed": seed, "alpha": ALPHA, "margin": MARGIN}
    record("simulate", config, {"false_certifications": false_rows, "power": power_rows, "kept": kept})
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    simulation = parts.add_parser("simulate", help="false-certification and power tables")
    simulation.add_argument("--draws", type=int, default=1000, help="per cell; the promises are of 1000")
    simulation.add_argument("--seed", type=int, default=0)
    self_duels.add_options(parts.add_parser("aa", help="recipes measured against themselves"))
    arguments = parser.parse_args()
    if arguments.part == "aa":
        return 0 if self_duels.aa(arguments, record) else 1
    return 0 if simulate(arguments.draws, arguments.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
