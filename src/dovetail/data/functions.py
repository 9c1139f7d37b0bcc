"""Loads what a user names as ``module:function`` or ``file.py:function``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from dovetail.core.errors import InputError


def is_function_name(text: str) -> bool:
    """Whether a text reads ``module:function`` or ``file.py:function`` and names no existing file."""
    place, colon, name = text.rpartition(":")
    return bool(colon) and name.isidentifier() and bool(place) and not Path(text).exists()


def load_function(text: str, *, what: str) -> Callable[..., Any]:
    """Imports the named function; the current folder counts as a place of modules.

    Args:
        text: ``module:function`` or ``path/to/file.py:function``.
        what: what it is for (``data``, ``metric``), for messages.

    Raises:
        InputError: no such file, module or function, or its import fails.
    """
    place, _, name = text.rpartition(":")
    module = _load_file(Path(place), text) if place.endswith(".py") else _load_module(place, text)
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{place} has no function {name!r}", where=f"{what} {text}")
    found: Callable[..., Any] = function
    return found


def source_file(text: str) -> Path | None:
    """The file of a function that was loaded by this name; ``None`` for a module without one."""
    place = text.rpartition(":")[0]
    file = place if place.endswith(".py") else getattr(sys.modules.get(place), "__file__", None)
    return None if file is None else Path(file)


def _load_file(path: Path, text: str) -> ModuleType:
    if not path.is_file():
        raise InputError("there is no such file", where=text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"importing it fails: {type(error).__name__}: {error}", where=text) from error
    finally:
        sys.path.pop(0)
    return module


def _load_module(name: str, text: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise InputError(f"importing it fails: {type(error).__name__}: {error}", where=text) from error
    finally:
        sys.path.pop(0)
