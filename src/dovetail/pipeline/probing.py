"""``dovetail devices probe``: this machine's calibration, made, kept and handed out."""

from __future__ import annotations

import shutil
from pathlib import Path

from dovetail.core.calibration import Calibration
from dovetail.core.errors import InputError
from dovetail.devices.probe import environment
from dovetail.pipeline import calibrate
from dovetail.pipeline.describe import cache_folder, calibration_folder
from dovetail.report.progress import Progress


def calibrate_here(progress: Progress, *, fresh: bool = False) -> Calibration:
    """Calibrates this machine, or finishes a calibration that was stopped.

    Args:
        progress: shows what is being measured.
        fresh: forget what was measured before.
    """
    folder = calibration_folder(cache_folder())
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    progress.stage("calibrate", 100)
    shown = 0

    def tell(share: float, text: str) -> None:
        nonlocal shown
        done = int(100 * share)
        progress.advance(done - shown, text)
        shown = done

    return calibrate.calibrate(folder, tell)


def known() -> Calibration | None:
    """The calibration of this very machine; ``None`` where there is none."""
    path = calibration_folder(cache_folder()) / calibrate.FILE
    if not path.exists():
        return None
    found = calibrate.load(path)
    return found if found.environment.fingerprint == environment().fingerprint else None


def export(out: Path, *, force: bool = False) -> None:
    """Copies the calibration to a file.

    Raises:
        InputError: there is none, or the file is there already.
    """
    found = known()
    if found is None:
        raise InputError("this machine is not calibrated", hint="dovetail devices probe --calibrate --export FILE")
    if out.exists() and not force:
        raise InputError("the file is there already", where=str(out), hint="choose another name, or add --force")
    calibrate.save(found, out)
