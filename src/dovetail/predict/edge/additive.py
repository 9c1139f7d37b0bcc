"""Times as sums of terms: each a size of the work times a coefficient that depends on the device and the kind of network.

``t = Σ_j x_j · exp(base_j + Σ_c C[c]·by_condition[j, c] + Σ_t T[t]·(by_tag[j, t] + overall[t] + Σ_g G[g]·by_group[g, t]))``

The sizes ``x_j`` are operations, pixels, layers, parameters and a constant 1; conditions say on what and how it runs, tags of
what kind the network is, groups which devices treat kinds of networks alike. Every coefficient is positive, so more work never
takes less time. Coefficients of conditions and tags are shrunk towards none: a device or kind of network that was seldom or
never seen is predicted as the average one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_NOTHING = 1e-12
"""Stands for a size of zero, whose logarithm would be infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What is known of ``n`` calls, in the order of an :class:`Additive` model's names.

    Attributes:
        sizes: ``[n, terms]``.
        conditions: ``[n, conditions]``.
        tags: ``[n, tags]``; NaN where nobody said.
        groups: ``[n, groups]``.
    """

    sizes: Floats
    conditions: Floats
    tags: Floats
    groups: Floats

    def take(self, rows: Any) -> Design:
        """Some of the calls."""
        return Design(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})


def encode(names: Sequence[str], items: Sequence[Mapping[str, float]], absent: float = 0.0) -> Floats:
    """``[n, names]``: the values of each item, ``absent`` for names that it lacks; other names of an item are ignored."""
    values = [[item.get(name, absent) for name in names] for item in items]
    return np.array(values, dtype=np.float64).reshape(len(items), len(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Additive:
    """The fitted model.

    Attributes:
        terms: names of the sizes ``[J]``; ``conditions`` ``[C]``, ``tags`` ``[T]`` and ``groups`` ``[G]`` likewise.
        base: ``[J]`` logarithms of seconds per unit of size.
        by_condition: ``[J, C]``.
        by_tag: ``[J, T]``.
        overall: ``[T]`` effect of a tag on all terms.
        by_group: ``[G, T]`` effect of a tag on all terms within a group of devices.
        centre: ``[T]`` mean of the tags over the fitted rows; what nobody said counts as that.
    """

    terms: tuple[str, ...]
    conditions: tuple[str, ...]
    tags: tuple[str, ...]
    groups: tuple[str, ...]
    base: Floats
    by_condition: Floats
    by_tag: Floats
    overall: Floats
    by_group: Floats
    centre: Floats

    def log_terms(self, design: Design) -> Floats:
        """``[n, J]`` logarithm of the seconds that each term takes."""
        known = np.where(np.isnan(design.tags), 0.0, design.tags - self.centre)
        everywhere = known @ self.overall + ((design.groups @ self.by_group) * known).sum(axis=1)
        per_term = self.base + design.conditions @ self.by_condition.T + known @ self.by_tag.T
        sizes: Floats = np.log(np.maximum(design.sizes, _NOTHING))
        logs: Floats = sizes + per_term + everywhere[:, None]
        return logs

    def log_seconds(self, design: Design) -> Floats:
        """``[n]``."""
        total: Floats = np.logaddexp.reduce(self.log_terms(design), axis=1)
        return total

    def shares(self, design: Design) -> Floats:
        """``[n, J]`` each term's share of the time."""
        logs = self.log_terms(design)
        shares: Floats = np.exp(logs - np.logaddexp.reduce(logs, axis=1)[:, None])
        return shares

    def to_json(self) -> dict[str, Any]:
        """Plain values, numbers to five digits."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> Additive:
        """Inverse of :meth:`to_json`."""
        names: dict[str, Any] = {name: tuple(document[name]) for name in ("terms", "conditions", "tags", "groups")}
        j, c, t, g = map(len, names.values())
        shapes = {"base": (j,), "by_condition": (j, c), "by_tag": (j, t), "overall": (t,), "by_group": (g, t), "centre": (t,)}
        return cls(**names | {name: _array(document[name], shape) for name, shape in shapes.items()})


def _plain(value: Any) -> Any:
    return rounded(value) if isinstance(value, np.ndarray) else list(value)


def rounded(values: Floats) -> Any:
    """Nested lists of numbers to five significant digits."""
    return [rounded(item) for item in values] if values.ndim else float(f"{float(values):.5g}")


def _array(values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(shape)
