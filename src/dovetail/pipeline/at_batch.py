"""A model file analysed at the number of samples a call that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dovetail.core.errors import InputError
from dovetail.core.workload import Workload
from dovetail.pipeline.describe import analyze_file


def analyzed_at(model: Path, shapes: Mapping[str, list[int]], batch: int | None = None) -> Workload:
    """The model's operators; ``batch`` of the result is the number of samples a call.

    Args:
        model: an ONNX or LiteRT file.
        shapes: input name → shape.
        batch: samples a call; by default what the shapes, else the model itself, say; 1 where it is open.

    Raises:
        ModelError: the model cannot be read.
        InputError: shapes, or a model of fixed sizes, say another number of samples.
    """
    if batch is not None and batch < 1:
        raise InputError(f"a call has one sample at least, not {batch}", where="--batch")
    own = analyze_file(model, shapes)
    if batch in (None, own.batch):
        return own
    if own.batched_input in shapes:
        said = ",".join(map(str, shapes[own.batched_input]))
        what = f"--batch {batch} and --shape {own.batched_input}={said} contradict each other"
        raise InputError(what, hint="leave one of the two out")
    fixed = f"the model takes {own.batch} samples a call, not {batch}"
    try:
        found = analyze_file(model, {**_leading(own, batch or 1), **shapes})
    except InputError as exc:
        raise InputError(fixed, where="--batch", hint=exc.what) from exc
    if found.batch != batch:
        raise InputError(fixed, where="--batch")
    return found


def _leading(own: Workload, batch: int) -> dict[str, list[int]]:
    """Shapes of the inputs whose leading size is open, with ``batch`` in its place; a name that inputs share is given once."""
    unnamed = {name for name in own.input_shapes if f"{name}[0]" in own.assumed_dims}
    return {name: [batch, *shape[1:]] for name, shape in own.input_shapes.items() if name in unnamed | {own.batched_input}}
