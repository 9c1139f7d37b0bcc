"""Time between tokens, to the first token and of a request behind a server, with intervals, from parameters fitted to runs.

The formulas of :mod:`dovetail.predict.llm` are corrected by what runs of the same model, device, backend and precision were
found to be off by, each shrunk towards nothing (:mod:`dovetail.predict.effects`). The interval is that of the errors made on
runs as far from the fitted ones as the asked one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.predict.effects import shift
from dovetail.predict.llm import Served, serve
from dovetail.predict.llm_asked import Asked, Bounded, bounded, regimes
from dovetail.predict.llm_engine import engine
from dovetail.predict.llm_setting import machine
from dovetail.predict.llm_shapes import shapes

Floats = NDArray[np.float64]

QUANTITIES = ("tpot_s", "ttft_s", "request_s")


def uncorrected(parameters: Mapping[str, Any], asked: Asked) -> Served:
    """What the formulas alone say."""
    sizes, facts = shapes(asked.models), machine(asked.devices, asked.dtypes)
    return serve(sizes, facts, asked.setting, engine(parameters, asked.backends))


def values(parameters: Mapping[str, Any], asked: Asked) -> dict[str, Floats]:
    """Seconds of each of :data:`QUANTITIES`, without intervals."""
    plain, keys, effects = uncorrected(parameters, asked), asked.keys(), parameters["effects"]
    tpot = plain.tpot_s * np.exp(shift(effects["tpot_s"], keys))
    ttft = plain.ttft_s * np.exp(shift(effects["ttft_s"], keys))
    return {"tpot_s": tpot, "ttft_s": ttft, "request_s": ttft + (asked.setting.output - 1) * tpot}


def serving(parameters: Mapping[str, Any], asked: Asked) -> dict[str, Bounded]:
    """Seconds of each of :data:`QUANTITIES`, with 90 % intervals. Throughput is the concurrency over ``request_s``.

    Args:
        parameters: of :func:`dovetail.predict.fitted_file.parameters`, ``serving``.
        asked: the questions.
    """
    regime = regimes(parameters["effects"]["tpot_s"], asked.keys())
    return {name: bounded(value, parameters["spreads"][name], regime) for name, value in values(parameters, asked).items()}
