"""``dovetail devices``: the hardware catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dovetail.cli import common

if TYPE_CHECKING:
    from dovetail.core.device import Kind

EXAMPLES = """Examples:

  dovetail devices                                           (all of them)

  dovetail devices show h100

  dovetail devices compare a100 h100 mi300x

  dovetail devices add board.yaml
"""
_LIST = """Examples:

  dovetail devices list --kind gpu --sort bandwidth

  dovetail devices list --json > devices.json
"""
_SHOW = """Examples:

  dovetail devices show jetson-orin-nano

  dovetail devices show "A100 PCIe 80GB" --json
"""
_COMPARE = """Examples:

  dovetail devices compare a100 h100 b200

  dovetail devices compare rpi5 jetson-orin-nano --json
"""
_ADD = """Examples:

  dovetail devices add board.yaml                            (docs/devices.md shows one to copy)

  dovetail devices add board.yaml --force                    (replaces a device of that name)
"""

_PROBE = """Examples:

  dovetail devices probe

  dovetail devices probe --calibrate                         (processor and first GPU, within five minutes)

  dovetail devices probe --calibrate --device cuda:0         (that GPU alone, about a minute)

  dovetail devices probe --export board.json                 (predict it elsewhere: dovetail predict --calibration board.json)
"""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback(invoke_without_command=True)
def command(context: typer.Context) -> None:
    """Look hardware up in the catalogue, compare devices, and add your own; alone, it lists all."""
    if context.invoked_subcommand is None:
        list_devices()


def list_devices(
    kind: Annotated[str | None, typer.Option(help="Only this kind: cpu, gpu, tpu, fpga, asic, npu, edge or mcu.")] = None,
    sort: Annotated[str | None, typer.Option(help="Column to sort by: name, year, fp32, 16bit, 8bit, memory, price, …")] = None,
    json: Json = False,
) -> None:
    """List devices with their main numbers; an unknown number is blank, and sorts last."""
    from dovetail.devices.catalogue import catalogue
    from dovetail.report.devices import in_order, list_to_json, render_list

    only = None if kind is None else _kind(kind)
    found = [device for device in catalogue().values() if only in (None, device.kind)]
    found = found if sort is None else in_order(found, sort)
    if json:
        common.print_json(list_to_json(found))
    else:
        render_list(found, common.console())


def show(
    name: Annotated[str, typer.Argument(help="Name or alias; case, spaces and signs do not count.")], json: Json = False
) -> None:
    """Show every number of a device with its source, how it was obtained, and when."""
    from dovetail.devices.catalogue import device
    from dovetail.report.devices import one_to_json, render_one

    found = device(name)
    if json:
        common.print_json(one_to_json(found))
    else:
        render_one(found, common.console())


def compare(
    names: Annotated[list[str], typer.Argument(help="Two devices or more; the first is the yardstick.")], json: Json = False
) -> None:
    """Set devices side by side, with every number as a multiple of the first one's."""
    from dovetail.core.errors import InputError
    from dovetail.devices.catalogue import device
    from dovetail.report.devices import comparison_to_json, render_comparison

    if len(names) < 2:
        raise InputError("a comparison takes two devices or more", hint="for example: dovetail devices compare a100 h100")
    found = [device(name) for name in names]
    if json:
        common.print_json(comparison_to_json(found))
    else:
        render_comparison(found, common.console())


def add(
    file: Annotated[Path, typer.Argument(help="A YAML file with `devices:`; a name, a kind and what you know will do.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a device of that name.")] = False,
) -> None:
    """Add your devices to the catalogue, after checks; numbers that look odd together are pointed out."""
    from dovetail.devices.catalogue import catalogue
    from dovetail.devices.catalogue.user import add as add_file
    from dovetail.devices.catalogue.user import user_folder

    for added in add_file(file, user_folder(), catalogue(), force=force):
        typer.echo(f"{added.device.name}: added, in {added.path}")
        for finding in added.findings:
            typer.echo(f"warning: {added.device.name}: {finding.what}", err=True)


def probe(
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure, up to five minutes; goes on where stopped.")] = False,
    device: Annotated[str | None, typer.Option(help="Calibrate only this: cpu, or cuda:0 and the like.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Calibrate anew instead of going on.")] = False,
    export: Annotated[Path | None, typer.Option(help="Write the calibration to a file, for use elsewhere.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --export.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: Json = False,
) -> None:
    """Describe this machine: processor, memory, disks, GPUs, sensors; with --calibrate also what they reach."""
    from dovetail.core.errors import InputError
    from dovetail.devices.local import this_machine
    from dovetail.pipeline import predicting, probing
    from dovetail.report.devices import one_to_json, render_one
    from dovetail.report.machine import render_machine
    from dovetail.report.machine import to_json as machine_to_json

    if calibrate or fresh:
        probing.calibrate_here(common.progress(quiet, None), device=device, fresh=fresh)
    elif device is not None:
        raise InputError("--device says what to calibrate", hint="add --calibrate")
    if export is not None:
        probing.export(export, force=force)
    stored = probing.known()
    found = predicting.with_rates(this_machine(), stored)
    machine = probing.describe_machine()
    if json:
        common.print_json({**one_to_json(found), **machine_to_json(machine, stored)})
    else:
        render_one(found, common.console())
        render_machine(machine, stored, common.console())


def _kind(text: str) -> Kind:
    from dovetail.core.device import Kind
    from dovetail.core.errors import InputError

    try:
        return Kind(text.lower())
    except ValueError:
        raise InputError(f"there is no kind {text!r}", where="--kind", hint=f"one of: {', '.join(Kind)}") from None


for _name, _command, _examples in (
    ("list", list_devices, _LIST),
    ("show", show, _SHOW),
    ("compare", compare, _COMPARE),
    ("add", add, _ADD),
    ("probe", probe, _PROBE),
):
    app.command(name=_name, epilog="\b\n" + _examples.replace("\n\n", "\n"))(_command)
