"""The command line: every verb parses, calls the pipeline, and renders. One file per verb."""

from __future__ import annotations

import errno
import sys

import typer

from dovetail.cli import (
    advise,
    analyze,
    bench,
    devices,
    doctor,
    explain,
    export,
    init,
    optimize,
    pack,
    predict,
    scenario,
    train,
    unpack,
    verify,
)
from dovetail.core.errors import DovetailError

app = typer.Typer(
    name="dovetail",
    help="Fits neural networks to the hardware they run on, and proves the result on this machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_FULL = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EROFS), "cannot be written")
_STORAGE = {**_FULL, **dict.fromkeys((errno.EACCES, errno.EPERM), "cannot be used")}
"""Errors of the file system that only the user can do something about, and what they mean."""

for _verb in (optimize, train, analyze, predict, advise, scenario, bench, explain, verify, export, pack, unpack, init, doctor):
    # The mark \b keeps the lines of the examples as they are.
    app.command(name=_verb.__name__.rpartition(".")[2], epilog="\b\n" + _verb.EXAMPLES.replace("\n\n", "\n"))(_verb.command)
app.add_typer(devices.app, name="devices", epilog="\b\n" + devices.EXAMPLES.replace("\n\n", "\n"))


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("dovetail"))
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Entry point: an error that the user can act on is one message and exit code 2, never a traceback."""
    try:
        app(args=arguments, prog_name="dovetail")
    except DovetailError as exc:
        typer.echo(f"error: {exc}", err=True)
        sys.exit(exc.exit_code)
    except OSError as exc:
        what = _STORAGE.get(exc.errno or 0)
        if what is None:
            raise
        typer.echo(f"error: {exc.filename or 'storage'}: {what}: {exc.strerror}", err=True)
        sys.exit(DovetailError.exit_code)
