"""Draws random small graphs of covered operators, for property tests."""

from __future__ import annotations

import math
import random

import numpy as np
import onnx
import steps_integers
import steps_moving
import steps_real
import steps_windows
from graphs import Graph, Step

LARGEST = 6000
"""Elements of one value."""
REAL: tuple[Step, ...] = (
    *steps_moving.STEPS, *steps_moving.REAL_STEPS, *steps_real.STEPS, *steps_windows.STEPS, *steps_windows.STEPS
)  # fmt: skip
INTEGER: tuple[Step, ...] = (*steps_moving.STEPS, *steps_integers.STEPS, *steps_integers.STEPS, steps_real.where)


def random_graph(seed: int, nodes: int, dtype: str = "float32") -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of a few operators and numbers to feed it."""
    g = Graph(random.Random(seed), dtype=dtype)
    x = g.input(*(g.number(1, 6) for _ in range(g.pick((1, 2, 3, 4, 4, 4, 5)))))
    values = [x]
    for _ in range(nodes):
        made = g.pick(REAL if dtype == "float32" else INTEGER)(g, g.pick(values[-2:]))
        if made is not None and math.prod(made.shape) <= LARGEST and made.rank <= 5:
            values.append(made)
    outputs = [values[-1]] if len(values) > 1 else [g.node("Relu", [x.name], x.shape)]
    if len(values) > 2 and g.flag():
        outputs.append(values[-2])
    feeds = {value.name: g.array(*value.shape, low=-2.0, high=2.0) for value in g.inputs}
    return g.model([value.name for value in outputs]), feeds


def integer_graph(seed: int, nodes: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The same of integers."""
    return random_graph(seed, nodes, random.Random(seed).choice(("int32", "int64")))
