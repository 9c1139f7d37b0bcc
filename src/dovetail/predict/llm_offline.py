"""Highest throughput of a language model, and the time to read one prompt, with intervals, from parameters fitted to runs.

As :mod:`dovetail.predict.llm_serving`, for an engine that has all requests from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.effects import shift
from dovetail.predict.llm import offline_tokens_per_s, prefill_s
from dovetail.predict.llm_asked import Asked, Bounded, bounded, regimes
from dovetail.predict.llm_engine import Engine, engine
from dovetail.predict.llm_setting import Machine, Setting, machine
from dovetail.predict.llm_shapes import Shapes, shapes

Floats = NDArray[np.float64]

QUANTITIES = ("tokens_per_s", "prompts_per_s")
"""Output tokens of all requests together; prompts that are read one after the other, the inverse of the time to a first
token."""


def uncorrected(sizes: Shapes, facts: Machine, setting: Setting, efficiency: Engine) -> dict[str, Floats]:
    """What the formulas alone say of :data:`QUANTITIES`."""
    return {
        "tokens_per_s": offline_tokens_per_s(sizes, facts, setting, efficiency),
        "prompts_per_s": 1 / prefill_s(sizes, facts, setting, efficiency, setting.prompt),
    }


def values(parameters: Mapping[str, Any], asked: Asked) -> dict[str, Floats]:
    """Of each of :data:`QUANTITIES`, without intervals."""
    keys = asked.keys()
    sizes, facts = shapes(asked.models), machine(asked.devices, asked.dtypes)
    plain = uncorrected(sizes, facts, asked.setting, engine(parameters, asked.backends))
    return {name: value * np.exp(shift(parameters["effects"][name], keys)) for name, value in plain.items()}


def offline(parameters: Mapping[str, Any], asked: Asked) -> dict[str, Bounded]:
    """Of each of :data:`QUANTITIES`, with 90 % intervals.

    Args:
        parameters: of :func:`dovetail.predict.fitted_file.parameters`, ``trtllm``.
        asked: the questions.
    """
    regime = regimes(parameters["effects"]["tokens_per_s"], asked.keys())
    return {name: bounded(value, parameters["spreads"][name], regime) for name, value in values(parameters, asked).items()}
