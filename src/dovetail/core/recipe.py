"""What was done to a model. A recipe's hash names the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

Scalar = str | int | float | bool | None
Params = tuple[tuple[str, Scalar | tuple[str, ...]], ...]


def freeze(params: Mapping[str, object]) -> Params:
    """Sorts a mapping into the hashable form that recipes store; lists become tuples of strings."""
    frozen: list[tuple[str, Scalar | tuple[str, ...]]] = []
    for key in sorted(params):
        value = params[key]
        if isinstance(value, list | tuple | set | frozenset):
            frozen.append((key, tuple(str(v) for v in value)))
        elif value is None or isinstance(value, str | int | float | bool):
            frozen.append((key, value))
        else:
            raise TypeError(f"a recipe holds scalars and lists of strings; {key} is a {type(value).__name__}")
    return tuple(frozen)


def digest(value: object) -> str:
    """Sixteen hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassSpec:
    """One pass with its versioned configuration."""

    name: str
    version: int = 1
    params: Params = ()

    def to_json(self) -> dict[str, object]:
        """Plain JSON, the same for equal specs."""
        return {"name": self.name, "version": self.version, "params": {k: _plain(v) for k, v in self.params}}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> PassSpec:
        """The inverse of :meth:`to_json`."""
        params, version = data["params"], data["version"]
        assert isinstance(params, Mapping) and isinstance(version, int)
        return cls(name=str(data["name"]), version=version, params=freeze(params))

    def __str__(self) -> str:
        shown = ", ".join(f"{k}={'+'.join(v) if isinstance(v, tuple) else v}" for k, v in self.params)
        return f"{self.name}({shown})" if shown else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Passes in order, then a runtime with its options."""

    passes: tuple[PassSpec, ...] = ()
    runtime: str
    options: Params = ()

    @property
    def key(self) -> str:
        """Hash over everything that makes the result what it is."""
        return _key(self)

    @property
    def settings(self) -> dict[str, Scalar]:
        """The runtime's options as a mapping."""
        return {name: value for name, value in self.options if not isinstance(value, tuple)}

    def to_json(self) -> dict[str, object]:
        """Plain JSON, the same for equal recipes."""
        return {
            "passes": [p.to_json() for p in self.passes],
            "runtime": self.runtime,
            "options": {k: _plain(v) for k, v in self.options},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Recipe:
        """The inverse of :meth:`to_json`."""
        passes, options = data["passes"], data["options"]
        assert isinstance(passes, list) and isinstance(options, Mapping)
        return cls(passes=tuple(PassSpec.from_json(p) for p in passes), runtime=str(data["runtime"]), options=freeze(options))

    def __str__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.options)
        chain = " → ".join(str(p) for p in self.passes) or "original"
        return f"{chain} → {self.runtime}" + (f"({shown})" if shown else "")


@lru_cache(maxsize=8192)
def _key(recipe: Recipe) -> str:
    """Searches ask for keys a thousand times as often as there are recipes."""
    return digest(recipe.to_json())


def _plain(value: Scalar | tuple[str, ...]) -> object:
    return list(value) if isinstance(value, tuple) else value
