"""Random small graphs of covered operators agree with ONNX Runtime, with XNNPACK and without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lowered import Arrays, LiteRT, Rejected, difference, litert, lower, reference
from random_models import integer_graph, random_graph
from steps_quantised import quantised_graph

from dovetail.core.errors import ModelError

SEEDS, SIZES = st.integers(0, 2**32 - 1), st.integers(2, 6)
BOUNDED = settings(max_examples=800, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
SMALLEST = 0.01
"""Greatest results below this are what did not cancel of numbers about 1."""


class Comparison:
    """Runs models on both runtimes, and counts what became of them."""

    def __init__(self, folder: Path, runtime: LiteRT) -> None:
        self.folder = folder
        self.runtime = runtime
        self.seen: Counter[str] = Counter()

    def pairs(self, model: onnx.ModelProto, feeds: Arrays) -> list[tuple[np.ndarray, np.ndarray]]:
        """Expected and found outputs, of both kinds of kernels; none where the model is refused."""
        try:
            wanted: Mapping[str, np.ndarray] = reference(model, feeds)
            lowered = lower(model, self.folder)
        except (Rejected, ModelError) as exc:
            self.seen[type(exc).__name__] += 1
            return []
        self.seen["compared"] += 1
        both = [self.runtime.run(lowered, feeds, delegate) for delegate in (True, False)]
        return [(wanted[name], found[name]) for found in both for name in wanted]


def compared(folder: Path, check: Callable[[Comparison], None]) -> None:
    """Runs a check with a runtime, and prints what it saw; at most one model in twenty may be refused."""
    with litert() as runtime:
        comparison = Comparison(folder, runtime)
        check(comparison)
    print(dict(comparison.seen))
    assert comparison.seen["compared"] > 0.95 * comparison.seen.total()


def test_graphs_of_reals(tmp_path: Path) -> None:
    def check(comparison: Comparison) -> None:
        @BOUNDED
        @given(SEEDS, SIZES)
        def agree(seed: int, nodes: int) -> None:
            model, feeds = random_graph(seed, nodes)
            for want, got in comparison.pairs(model, feeds):
                assert difference(want, got, smallest=SMALLEST) is None, onnx.printer.to_text(model.graph)

        agree()

    compared(tmp_path, check)


def test_graphs_of_integers(tmp_path: Path) -> None:
    def check(comparison: Comparison) -> None:
        @BOUNDED
        @given(SEEDS, SIZES)
        def agree(seed: int, nodes: int) -> None:
            model, feeds = integer_graph(seed, nodes)
            for want, got in comparison.pairs(model, feeds):
                assert difference(want, got) is None, onnx.printer.to_text(model.graph)

        agree()

    compared(tmp_path, check)


def test_operators_between_pairs_of_quantisation(tmp_path: Path) -> None:
    values: Counter[int] = Counter()

    def check(comparison: Comparison) -> None:
        @BOUNDED
        @given(SEEDS)
        def agree(seed: int) -> None:
            model, feeds = quantised_graph(seed, 1)
            for want, got in comparison.pairs(model, feeds):
                assert difference(want, got, steps=2) is None, onnx.printer.to_text(model.graph)
                values.update(np.abs(want.astype(int) - got.astype(int)).reshape(-1).tolist())

        agree()

    compared(tmp_path, check)
    print(dict(values))
    assert values[0] + values[1] >= 0.999 * values.total()
