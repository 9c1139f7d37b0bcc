"""Reads a YAML file of keys and values; a key that comes twice is an error, as it would silently win over the first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dovetail.core.errors import InputError

Lines = Mapping[tuple[str, ...], int]
"""Path of a key → its line."""


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """The document, and the line of every key.

    Raises:
        InputError: not there, not YAML, or a key that is there twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        lines = dict(_lines(yaml.compose(text, Loader=yaml.SafeLoader), (), path))
        return yaml.safe_load(text), lines
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"cannot be read: {reason}", where=str(path)) from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise InputError(f"not YAML: {getattr(error, 'problem', None) or error}", where=where) from error


def _lines(node: yaml.Node | None, at: tuple[str, ...], path: Path) -> Iterator[tuple[tuple[str, ...], int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in seen:
            raise InputError(f"{name!r} occurs twice, first in line {seen[name]}", where=f"{path}, line {line}")
        seen[name] = line
        yield (*at, name), line
        yield from _lines(value, (*at, name), path)
