"""What several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from dovetail.report.progress import Progress


def console() -> Console:
    """The terminal, for results."""
    from rich.console import Console

    return Console()


def progress(quiet: bool, budget_s: float | None) -> Progress:
    """Live bars on a terminal, one line per event elsewhere, nothing when quiet; always on standard error."""
    import sys

    from rich.console import Console

    from dovetail.report.progress import LiveProgress, PlainProgress, SilentProgress

    if quiet:
        return SilentProgress()
    errors = Console(stderr=True)
    return LiveProgress(errors, budget_s) if errors.is_terminal else PlainProgress(sys.stderr)


def print_json(document: Any) -> None:
    """A JSON document on standard output."""
    import json

    import typer

    typer.echo(json.dumps(document, indent=1, ensure_ascii=False))


def write_text(path: Path, text: str, *, force: bool) -> None:
    """Writes a file that must not be there yet, unless forced.

    Raises:
        InputError: it is there.
        StorageError: it cannot be written.
    """
    from dovetail.core.errors import InputError, StorageError

    if path.exists() and not force:
        raise InputError("the file is there already", where=str(path), hint="choose another name, or add --force")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise StorageError(f"cannot be written: {exc.strerror}", where=str(path)) from exc


def shape(text: str) -> tuple[str, list[int]]:
    """``NAME=SIZE,SIZE,…`` as a pair.

    Raises:
        InputError: not of that form.
    """
    from dovetail.core.errors import InputError

    name, equals, sizes = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name, [int(size) for size in sizes.split(",") if size.strip()]
    except ValueError:
        hint = "for example --shape input=1,3,224,224"
        raise InputError(f"{text!r} is not NAME=SIZE,SIZE,…", where="--shape", hint=hint) from None
