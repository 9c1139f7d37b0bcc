"""Turns a recipe's parameters into the frozen configuration of a pass."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from dovetail.core.errors import InputError

T = TypeVar("T")


def read(cls: type[T], config: Mapping[str, Any], pass_name: str) -> T:
    """Builds the configuration dataclass ``cls`` of a pass; keys that are missing take their defaults.

    Raises:
        InputError: an unknown key, or a value of another kind than the field's annotation.
    """
    fields = {f.name for f in dataclasses.fields(typing.cast(Any, cls))}
    unknown = sorted(set(config) - fields)
    if unknown:
        raise InputError(
            f"unknown key {', '.join(map(repr, unknown))}", where=pass_name, hint=f"known: {', '.join(sorted(fields))}"
        )
    hints = typing.get_type_hints(cls)
    return cls(**{key: _convert(hints[key], value, f"{pass_name}.{key}") for key, value in config.items()})


def require(holds: bool, what: str, where: str) -> None:
    """Raises an :class:`InputError` unless a rule about a configuration holds."""
    if not holds:
        raise InputError(what, where=where)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        require(value in arguments, f"{value!r} is not one of {', '.join(map(str, arguments))}", where)
        return value
    if origin is types.UnionType:
        return None if value is None else _convert(arguments[0], value, where)
    if origin is tuple:
        require(isinstance(value, list | tuple | set | frozenset), f"{value!r} is not a list of names", where)
        return tuple(str(v) for v in value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        require(math.isfinite(value), f"{value} is not finite", where)
        return float(value)
    require(type(value) is hint, f"{value!r} is not a {hint.__name__}", where)
    return value
