"""What a model and a job ask of the data: which key feeds which input, how, and where labels and units are named."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dovetail.core.errors import DataError
from dovetail.core.protocols import Array, TensorSpec
from dovetail.data.dataset import has_batch_axis
from dovetail.data.preprocess import Preprocess

LABEL_KEYS = ("y", "label", "labels", "target", "targets")
GROUP_KEYS = ("group", "groups")
CLASS_NAME_KEYS = ("classes", "class_names")
SOLE_INPUT_KEYS = ("x", "X", "data", "images", "inputs", "features")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPlan:
    """How one model input is fed.

    Attributes:
        spec: the model's input, with the shape the job declares for it.
        key: name in the user's data; empty for the input's own name.
        value: fed to every call instead of data (a sampling rate).
        preprocess: applied to each sample.
    """

    spec: TensorSpec
    key: str = ""
    value: Array | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)

    @property
    def batched(self) -> bool:
        """Whether the leading axis counts samples."""
        return has_batch_axis(self.spec)

    @property
    def raw_rank(self) -> int:
        """Rank of one sample in the user's data, without its batch axis."""
        declared = self.preprocess.raw_rank
        return declared if declared is not None else len(self.spec.shape) - self.batched


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """Everything a source must find.

    Attributes:
        inputs: one plan per model input that is not recurrent state.
        labels: key of the labels; empty to look for the usual names.
        classes: class names in the order of the model's outputs, for labels that are text.
        groups: key of the independent units; empty to look for ``group`` and ``groups``.
    """

    inputs: tuple[InputPlan, ...]
    labels: str = ""
    classes: tuple[str, ...] = ()
    groups: str = ""

    @property
    def fed(self) -> tuple[InputPlan, ...]:
        """Inputs that take their values from the data."""
        return tuple(plan for plan in self.inputs if plan.value is None)

    def label_key(self, keys: Collection[str], where: str) -> str | None:
        """The key that holds labels; ``None`` when there is none.

        Raises:
            DataError: a declared key is absent.
        """
        return self._named("labels", self.labels, LABEL_KEYS, keys, where)

    def group_key(self, keys: Collection[str], where: str) -> str | None:
        """The key that holds independent units; ``None`` when there is none.

        Raises:
            DataError: a declared key is absent.
        """
        return self._named("groups", self.groups, GROUP_KEYS, keys, where)

    def _named(self, what: str, declared: str, usual: tuple[str, ...], keys: Collection[str], where: str) -> str | None:
        if declared:
            if declared not in keys:
                raise missing_key(declared, keys, where, hint=f"name the key that holds the {what}: `{what}: KEY`")
            return declared
        inputs = {plan.key or plan.spec.name for plan in self.inputs}
        return next((key for key in usual if key in keys and key not in inputs), None)

    def input_keys(self, keys: Collection[str], where: str) -> dict[str, str]:
        """Input name → key in the data, for every input that takes its values from the data.

        A model with one such input also takes ``x``, ``data``, ``images``, ``inputs`` or ``features``, or else the only key
        that is neither label, unit nor class names, whatever its name.

        Raises:
            DataError: a key is absent, or several could be meant.
        """
        found: dict[str, str] = {}
        for plan in self.fed:
            key = plan.key or plan.spec.name
            if key not in keys and not plan.key and len(self.fed) == 1:
                key = self._sole_key(key, keys, where)
            if key not in keys:
                raise missing_key(key, keys, where, hint=_from_hint(plan.spec.name))
            found[plan.spec.name] = key
        return found

    def _sole_key(self, name: str, keys: Collection[str], where: str) -> str:
        taken = {self.label_key(keys, where), self.group_key(keys, where), *CLASS_NAME_KEYS}
        free = [key for key in keys if key not in taken]
        usual = [key for key in SOLE_INPUT_KEYS if key in free]
        if len(usual) == 1:
            return usual[0]
        if len(free) > 1:
            raise DataError(
                f"several keys could feed input {name!r}: {', '.join(sorted(free))}", where=where, hint=_from_hint(name)
            )
        return free[0] if free else name


def _from_hint(name: str) -> str:
    others = f"or a constant, `value: 16000`; or recurrent state, `state: {{{name}: OUTPUT}}`"
    return f"say in fit.yaml which key feeds it:\ninputs:\n  {name}:\n    from: KEY      # {others}"


def missing_key(key: str, keys: Collection[str], where: str, *, hint: str) -> DataError:
    """The error for a name that the data lack, with the nearest ones."""
    near = difflib.get_close_matches(key, list(keys), n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return DataError(
        f"there is no {key!r} in the data (keys: {', '.join(sorted(keys)) or 'none'}){meant}", where=where, hint=hint
    )


def to_array(value: Any) -> Array:
    """Arrays, numbers, lists and tensors (anything with ``.numpy()``) as numpy arrays; imports no framework."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "numpy"):
        value = value.numpy()
    return np.asarray(value)


def pick(mapping: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Array]:
    """Arrays keyed by input name, from a mapping with the user's keys."""
    return {name: to_array(mapping[key]) for name, key in names.items()}
