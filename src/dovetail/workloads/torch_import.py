"""Turns a torch network into ONNX, in float, and checks the result against torch.

Needs the ``torch`` extra. ``file.py:factory`` runs the user's own code, as naming it asks for; a ``.pt2`` file comes from anywhere
and is only taken in the form whose weights torch loads without unpickling code.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dovetail.core.errors import InputError, MissingDependency, ModelError

OPSET = 18
"""Lowest opset of torch's exporter."""
TOLERANCE = 1e-4
"""Greatest difference to torch, relative to the largest output value."""

_HINT = "pip install 'dovetail[torch]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchImport:
    """What was exported.

    Attributes:
        path: the ONNX file.
        relative_error: greatest difference to torch on the example, relative to the largest output value.
        dynamic_batch: whether the leading dimension of the inputs was left open.
        notes: what could not be done as wished.
    """

    path: Path
    relative_error: float
    dynamic_batch: bool
    notes: tuple[str, ...] = ()


def import_torch(
    source: str | Path | Any,
    out: Path,
    *,
    feeds: Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]] | None = None,
    shapes: Sequence[Sequence[int]] | None = None,
) -> TorchImport:
    """Exports a torch network to ONNX and compares both on the example.

    Args:
        source: ``file.py:factory``, a ``.pt2`` exported program, or an ``nn.Module``. The factory is called without arguments and
            returns a module, or a pair of a module and its example inputs; the file may define ``example_inputs()`` instead.
        out: the ONNX file to write.
        feeds: example inputs, in order, or by the name of the module's arguments.
        shapes: shapes of float example inputs, drawn from a normal distribution, where no values are given.

    Raises:
        MissingDependency: torch or onnxscript is absent.
        InputError: there is no example input, or the file or factory is missing.
        ModelError: the network cannot be exported, or ONNX Runtime computes something else than torch.
    """
    torch = _torch()
    given = _given(torch, feeds, shapes)
    if isinstance(source, torch.nn.Module):
        program, example = source, given
    elif str(source).endswith(".pt2"):
        program, example = _load_pt2(torch, Path(source), given)
    else:
        program, example = _from_factory(torch, str(source), given)
    where = type(source).__name__ if isinstance(source, torch.nn.Module) else str(source)
    if example is None:
        raise InputError(
            "the network's inputs are not known", where=where,
            hint="define example_inputs() in the file, return (module, example_inputs) from the factory, or give shapes",
        )  # fmt: skip
    module = program.module() if hasattr(program, "graph_signature") else program.eval()
    with torch.no_grad():
        expected = _arrays(torch, _call(module, example, where))
    dynamic, notes = _export(torch, program, example, out, where)
    error = _compare(out, example, expected, where)
    return TorchImport(path=out, relative_error=error, dynamic_batch=dynamic, notes=notes)
