"""How much noise each quantised layer alone puts on the output, and what keeping it in float costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from dovetail.compress.calibrated import Calibrated
from dovetail.compress.calibration import Progress, chosen, open_session
from dovetail.core.protocols import Array, Dataset
from dovetail.core.workload import Workload

FLOAT_FLOP_PER_S = 5e10
INT8_FLOP_PER_S = 4 * FLOAT_FLOP_PER_S
CONVERT_BYTES_PER_S = 1e10
"""Assumed rates of one x86 core with VNNI. Only their ratios enter the choice of islands."""


def layer_sensitivity(calibrated: Calibrated, dataset: Dataset, samples: int, progress: Progress) -> dict[str, float]:
    """Relative noise power on the outputs when one layer alone is quantised: 0.01 is a signal-to-noise ratio of 20 dB.

    Args:
        calibrated: the float graph with its ranges.
        dataset: calibration samples.
        samples: how many of them at most.
        progress: told the share done.

    Returns:
        Layer name → ``mean ‖y_i - y‖² / mean ‖y - ȳ‖²``, averaged over the float outputs; ȳ is the mean over samples.
    """
    reference = outputs(calibrated.proto, dataset, samples)
    layers = calibrated.layers()
    names = {node.name for node in calibrated.proto.graph.node}
    found = {}
    for index, layer in enumerate(layers):
        alone = calibrated.quantised(also_float=names - _with_activation(calibrated.proto, layer))
        found[layer] = noise(reference, outputs(alone, dataset, samples))
        progress((index + 1) / len(layers), f"sensitivity {index + 1}/{len(layers)}")
    return found


def _with_activation(proto: Any, layer: str) -> set[str]:
    """A layer and the ReLU or Clip behind it, which decides the range of its output."""
    made = next(node.output[0] for node in proto.graph.node if node.name == layer)
    readers = [node for node in proto.graph.node if made in node.input]
    return {layer} | {node.name for node in readers if node.op_type in ("Relu", "Clip")}


def outputs(proto: Any, dataset: Dataset, samples: int) -> list[list[Array]]:
    """Float outputs of a model, ``[sample][output]``, flattened."""
    session = open_session(proto)
    wanted = {i.name for i in session.get_inputs()}
    floats = [o.name for o in session.get_outputs() if o.type == "tensor(float)"]
    rows = []
    for index in chosen(dataset, samples):
        feeds = {k: v for k, v in dataset.sample(index).feeds.items() if k in wanted}
        rows.append([y.ravel().astype(np.float64) for y in session.run(floats, feeds)])
    return rows


def noise(reference: Sequence[Sequence[Array]], other: Sequence[Sequence[Array]]) -> float:
    """Relative noise power of ``other`` against ``reference``, both ``[sample][output]``."""
    shares = []
    for clean, noisy in zip(zip(*reference, strict=True), zip(*other, strict=True), strict=True):
        error = sum(float(np.sum((n - c) ** 2)) for c, n in zip(clean, noisy, strict=True))
        same_size = len({c.size for c in clean}) == 1 and len(clean) > 1
        center = np.mean(clean, axis=0) if same_size else 0.0
        power = sum(float(np.sum((c - center) ** 2)) for c in clean)
        shares.append(error / max(power, np.finfo(np.float64).tiny))
    return float(np.mean(shares))


def float_penalty_s(workload: Workload | None, layers: Collection[str]) -> dict[str, float]:
    """Seconds per call that each layer would cost more in float than in 8 bits, converting its activations included.

    Derived from operation counts and assumed rates; a layer that the workload does not know gets the mean of the others, and
    all get the same where nothing is known.
    """
    known = {}
    for op in workload.ops if workload is not None else ():
        if op.name in layers and op.flop is not None:
            moved = (op.input_bytes or 0.0) + (op.output_bytes or 0.0)
            slower = op.flop / FLOAT_FLOP_PER_S - op.flop / INT8_FLOP_PER_S
            known[op.name] = slower + moved / CONVERT_BYTES_PER_S
    mean = float(np.mean(list(known.values()))) if known else 1e-6
    return {layer: known.get(layer, mean) for layer in layers}
