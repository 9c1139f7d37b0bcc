"""Objects in memory as files and names, because child processes share no memory with their parent and nothing is pickled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.core.errors import InputError, MissingDependency
from dovetail.core.recipe import digest


def importable(function: Callable[..., Any]) -> str:
    """``module:function`` of a function that a child process can import.

    Raises:
        InputError: it lives in ``__main__``, in a notebook, or inside another function.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in (None, "__main__", "builtins") or not name.isidentifier():
        raise InputError(
            f"the function {name or function!r} cannot be imported by another process",
            where="metric",
            hint="put it into a file and name it: metric='metrics.py:my_metric'",
        )
    file = getattr(sys.modules.get(module), "__file__", None)
    return f"{file}:{name}" if file and "." not in module else f"{module}:{name}"


def module_file(module: Any, data: Any, cache: Path) -> str:
    """Exports an ``nn.Module`` to ONNX, with an example taken from the data.

    Raises:
        InputError: it is no module, or there are no data to take an example from.
        MissingDependency: torch is absent.
    """
    try:
        import torch
    except ImportError as exc:
        raise MissingDependency("a model in memory needs torch", hint="pip install 'dovetail[torch]'") from exc
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"a {type(module).__name__} is no model", where="model", hint="give a path or an nn.Module")
    from dovetail.workloads.torch_import import import_torch

    folder = cache / "exports" / digest([type(module).__qualname__, _weights_hash(module)])
    return str(import_torch(module, folder / "model.onnx", feeds=_example(data)).path)


def _weights_hash(module: Any) -> str:
    import hashlib

    found = hashlib.sha256(str(module).encode())
    for name, value in module.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _example(data: Any) -> Any:
    """The first samples of some data, as arrays by name or in order."""
    if data is None:
        raise InputError("a model in memory needs data to take an example input from", where="data")
    first: Any = data
    if callable(data) and not hasattr(data, "__iter__"):
        data = data()
    if isinstance(data, Mapping):
        first = {name: value[:2] for name, value in data.items()}
    elif isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "shape"):
        first = data[0][:2]
    elif isinstance(data, Iterable):
        first = next(iter(islice(data, 1)))
        first = first[0] if isinstance(first, tuple | list) else first
    if isinstance(first, Mapping):
        return {name: np.asarray(value) for name, value in first.items()}
    return [np.asarray(first)]
