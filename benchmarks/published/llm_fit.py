"""Fits the parameters of a serving engine (:class:`dovetail.predict.llm_engine.Engine`) to measured runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from dovetail.predict.llm_engine import Engine, engine
from published.table import Floats

PRIORS: Mapping[str, tuple[float, float]] = {
    "weight_share": (0.8, 0.1),
    "expert_share": (0.6, 0.3),
    "cache_share": (0.6, 0.4),
    "blend": (2.0, 0.3),
    "dense_share": (0.6, 0.3),
    "mixture_share": (0.4, 0.4),
    "four_bit_share": (0.7, 0.3),
    "stage_loss": (0.1, 0.7),
    "prompt_attention_share": (0.4, 0.4),
    "latent_share": (0.4, 0.4),
    "layer_s": (30e-6, 0.5),
    "moe_layer_s": (30e-6, 0.5),
    "latent_layer_s": (20e-6, 0.5),
    "sparse_layer_s": (20e-6, 0.5),
    "step_s": (5e-4, 1.0),
    "sequence_s": (10e-6, 0.7),
    "pace": (0.3, 0.5),
    "hop_s": (5e-6, 0.6),
    "decode_link_share": (0.5, 0.5),
    "prompt_link_share": (0.7, 0.5),
    "interference": (1.0, 0.3),
    "arrival_s": (0.02, 0.7),
    "own": (1.0, 0.5),
    "queue": (0.1, 0.7),
    "steps": (1.0, 0.7),
    "held": (1.0, 0.5),
}
"""Name → what is expected before any run is seen, and the standard deviation of its logarithm. From general knowledge of
kernels (60–80 % of peaks and bandwidths, 5 µs a small kernel), not from the rows."""

BACKEND_SPREAD: Mapping[str, float] = {
    "layer_s": 0.1,
    "moe_layer_s": 0.1,
    "sequence_s": 0.15,
    "interference": 0.1,
    "dense_share": 0.05,
    "mixture_share": 0.1,
    "arrival_s": 0.3,
    "own": 0.3,
    "queue": 0.3,
}
"""Name → standard deviation of the logarithm of a backend's factor."""


_ROUNDS = 60
NOISE = 0.3
"""Standard deviation of a logarithmic error: above the scatter of one combination, whose runs do not err independently."""


def start(backends: Sequence[str]) -> dict[str, Any]:
    """Parameters before any run is seen."""
    factors = {backend: {name: 1.0 for name in BACKEND_SPREAD} for backend in sorted(set(backends))}
    return {"common": {name: value for name, (value, _) in PRIORS.items()}, "backends": factors}


def fit(
    parameters: Mapping[str, Any],
    names: Sequence[str],
    backends: Sequence[str],
    predicted: Callable[[Engine], Floats],
    measured: Floats,
    weights: Floats,
    noise: float = NOISE,
) -> dict[str, Any]:
    """The most probable values of some parameters: logarithmic errors with heavy tails, normal priors.

    Args:
        parameters: where to start; those not named stay.
        names: of the parameters to fit, their backend factors included.
        backends: ``[n]`` of the runs.
        predicted: of an engine, ``[n]``.
        measured: ``[n]``.
        weights: ``[n]`` of the runs' errors.
        noise: standard deviation of a logarithmic error.
    """
    slots: list[tuple[str, str]] = [("", name) for name in names]
    slots += [(backend, name) for backend in parameters["backends"] for name in names if name in BACKEND_SPREAD]
    centre = np.array([0.0 if backend else np.log(PRIORS[name][0]) for backend, name in slots])
    spread = np.array([BACKEND_SPREAD[name] if backend else PRIORS[name][1] for backend, name in slots])

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        errors = np.log(predicted(engine(_put(parameters, slots, logs), backends)) / measured)
        return np.concatenate([weights * errors / noise, (logs - centre) / spread])

    first = np.log([parameters["backends"][b][n] if b else parameters["common"][n] for b, n in slots])
    found = least_squares(residuals, first, loss="soft_l1", max_nfev=_ROUNDS, xtol=1e-5, ftol=1e-5)
    return _put(parameters, slots, found.x)


def _put(parameters: Mapping[str, Any], slots: Sequence[tuple[str, str]], logs: NDArray[np.float64]) -> dict[str, Any]:
    common = dict(parameters["common"])
    factors = {backend: dict(values) for backend, values in parameters["backends"].items()}
    for (backend, name), value in zip(slots, np.exp(logs), strict=True):
        (factors[backend] if backend else common)[name] = float(value)
    return {**parameters, "common": common, "backends": factors}


def even(groups: Sequence[object]) -> Floats:
    """Weights that count a group of n runs like √n runs, 1 on average: many settings of one combination err alike."""
    _, place, count = np.unique(np.array([str(group) for group in groups]), return_inverse=True, return_counts=True)
    weights = count[place] ** -0.5
    return np.asarray(weights / weights.mean())
