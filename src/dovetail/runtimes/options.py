"""Options of a runtime: declared once, checked when given, and offered to the search as knobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from dovetail.core.errors import InputError
from dovetail.core.protocols import Knob
from dovetail.core.recipe import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a runtime.

    Attributes:
        name: key in a recipe.
        default: what holds when it is absent.
        values: permitted values; empty where ``is_time`` or a count is meant.
        is_time: seconds, zero or more; otherwise an option without values is a count: a positive integer, or ``None`` for
            the vendor's choice.
        tries: values worth trying beside the default, best first.
        lossless: false when it can change outputs beyond rounding.
        help: one line for people.
    """

    name: str
    default: Scalar
    values: tuple[Scalar, ...] = ()
    is_time: bool = False
    tries: tuple[Scalar, ...] = ()
    lossless: bool = True
    help: str = ""

    def permits(self, value: Scalar) -> bool:
        """Whether a recipe may set it to ``value``; ``1`` is not ``True`` here."""
        if self.values:
            return any(value == known and type(value) is type(known) for known in self.values)
        if self.is_time:
            return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        return value is None or (type(value) is int and value > 0)

    def rule(self) -> str:
        """What it permits, in words."""
        if self.values:
            return ", ".join(map(str, self.values))
        return "seconds, zero or more" if self.is_time else "a positive integer, or nothing for the vendor's choice"

    def knob(self) -> Knob:
        """The search's view of it."""
        choices = tuple(dict.fromkeys((self.default, *self.tries)))
        return Knob(name=self.name, default=self.default, choices=choices, lossless=self.lossless, help=self.help)


def flag(name: str, default: bool, help: str, *, tries: tuple[bool, ...] = (), lossless: bool = True) -> Option:
    """An option that is on or off."""
    return Option(name=name, default=default, values=(True, False), tries=tries, lossless=lossless, help=help)


def thread_counts(cores: int) -> tuple[int, ...]:
    """Thread counts worth trying beside a runtime's own choice, halves of ``cores`` down to one.

    All cores are what runtimes choose by themselves, unless this process may use fewer than the machine has or two threads
    share a core: then that count is named too.
    """
    counts = [cores]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    own_choice = cores == psutil.cpu_count() == psutil.cpu_count(logical=False)
    return tuple(counts[1:] if own_choice else counts)


def resolve(runtime: str, options: Sequence[Option], given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Values of all options, the defaults where ``given`` says nothing.

    Raises:
        InputError: an unknown key, or a value that the option does not permit.
    """
    known = {option.name: option for option in options}
    for key, value in given.items():
        if key not in known:
            raise InputError(f"{runtime} has no option {key!r}", where=key, hint=f"options: {', '.join(sorted(known))}")
        if not known[key].permits(value):
            raise InputError(f"{key} cannot be {value!r} in {runtime}", where=key, hint=f"permitted: {known[key].rule()}")
    return {name: given.get(name, option.default) for name, option in known.items()}
