"""Writes docs/cli.md from the commands' own help: ``make docs``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from dovetail.cli import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"

_HEAD = """\
# Commands

Written by `make docs` from the commands' help; do not edit. Results go to standard output, progress to standard error.

Exit codes: 0 answered, 1 a check of `verify` failed, 2 bad input, 3 and 4 infeasible and best effort under `optimize --strict`,
130 stopped by Ctrl-C.
"""


def render() -> str:
    """The whole page."""
    group: Any = get_command(app)
    return "\n".join([_HEAD, *(line for name, verb in group.commands.items() for line in _section(name, verb))])


def _section(name: str, verb: Any) -> Iterator[str]:
    """A verb, or a group of verbs: what the group is for, then each of its verbs."""
    if not hasattr(verb, "commands"):
        yield from _verb(name, verb)
        return
    yield from (f"## dovetail {name}", "", " ".join(verb.help.split()), "", "```bash", *_examples(verb.epilog), "```", "")
    for inner, member in verb.commands.items():
        yield from _verb(f"{name} {inner}", member)


def _verb(name: str, verb: Any) -> Iterator[str]:
    arguments = [p for p in verb.params if p.param_type_name == "argument"]
    options = [p for p in verb.params if p.param_type_name == "option" and p.name != "help"]
    places = [f"{p.name.upper()}…" if p.nargs == -1 else p.name.upper() for p in arguments]
    shown = [place if p.required else f"[{place}]" for place, p in zip(places, arguments, strict=True)]
    usage = " ".join(["dovetail", name, *shown, *(["[OPTIONS]"] if options else [])])
    yield from (f"## dovetail {name}", "", " ".join(verb.help.split()), "", "```", usage, "```", "")
    yield from ("| | |", "|---|---|")
    for place, parameter in zip(places, arguments, strict=True):
        yield f"| `{place}` | {_cell(parameter.help)} |"
    for option in options:
        yield f"| `{_flag(option)}` | {_cell(option.help)}{_default(option)} |"
    yield from ("", "```bash", *_examples(verb.epilog), "```", "")


def _flag(option: Any) -> str:
    name = max(option.opts, key=len)
    return name if option.is_flag else f"{name} {option.name.upper()}"


def _default(option: Any) -> str:
    value = option.default
    return "" if option.is_flag or value is None or callable(value) else f" Default: `{value}`."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _examples(epilog: str) -> Iterator[str]:
    """Example lines, with their remark in brackets as a comment."""
    for line in epilog.splitlines():
        if line.startswith("  dovetail"):
            command, gap, remark = line.strip().partition("   ")
            yield f"{command:<48}  # {remark.strip()[1:-1]}" if gap else command


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"{TARGET} written")
