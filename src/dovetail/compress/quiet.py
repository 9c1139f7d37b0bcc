"""Imports NNCF and OpenVINO without usage reports, and runs vendor tools without their log lines and progress bars."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any


def import_nncf() -> Any:
    """The ``nncf`` module, offline and logging errors only."""
    disable_telemetry()
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf


def import_openvino() -> Any:
    """The ``openvino`` module, offline."""
    disable_telemetry()
    import openvino

    return openvino


def disable_telemetry() -> None:
    """Keeps both libraries from reporting usage; must run before either is first imported.

    They report through the package ``openvino_telemetry`` and use a stub where it cannot be imported
    (``nncf/telemetry/wrapper.py``, ``openvino/tools/ovc/telemetry_utils.py``). A ``None`` in ``sys.modules`` makes that import
    fail (Python reference, 5.3.1), so no consent file is written and no socket opens. The variable ``NNCF_CI`` says the same
    to processes started from this one.
    """
    os.environ["NNCF_CI"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Drops what a vendor tool prints to the standard output, warns of, or logs below ``ERROR`` while it works.

    Results are judged by evaluation, not by these messages, of which attention masks alone make dozens.
    """
    previous = logging.root.manager.disable
    logging.disable(max(previous, logging.WARNING))
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
