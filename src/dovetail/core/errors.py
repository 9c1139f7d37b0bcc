"""The one root of every error Dovetail raises on purpose, and its few branches.

A message has three parts: what is wrong, where, and what to do. The command line prints it, without a
traceback, and exits with 2.
"""

from __future__ import annotations


class DovetailError(Exception):
    """Root of all errors that a user can act on.

    Args:
        what: the rule that was broken, with the offending value.
        where: the file, key or argument at fault.
        hint: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(self._render())

    def _render(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  → {self.hint}" if self.hint else text


class InputError(DovetailError, ValueError):
    """Something the user gave cannot be used."""


class ModelError(InputError):
    """The model cannot be read, is not valid, or is of a kind that is not taken."""


class DataError(InputError):
    """The data do not fit the model, the metric or the claim."""


class MissingDependency(DovetailError, ImportError):
    """An optional package is absent; the hint is the pip command."""


class StorageError(DovetailError, OSError):
    """Nothing can be written: no space, no permission, or the path is taken."""


class ConformanceError(DovetailError, AssertionError):
    """A plug-in broke a promise that the framework checks."""
