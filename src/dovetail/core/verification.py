"""What a second look at an artifact found."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.core.certificate import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: short and stable (``files``, ``speed``, ``quality``).
        status: ``ok``, ``failed``, or ``warning`` for what could not be told and does not fail.
        detail: one line with the figures.
        hint: what to do about it.
    """

    name: str
    status: str
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """All checks of one artifact; it passes when none failed."""

    artifact: str
    checks: tuple[Check, ...]
    certificates: tuple[Certificate, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)
