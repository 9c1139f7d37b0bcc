"""Renders a verification: terminal, JSON, JUnit."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from rich.console import Console

from dovetail.core.serial import encode
from dovetail.core.verification import Verification
from dovetail.report.terminal import render_verify

SCHEMA = 1


def render(report: Verification, console: Console) -> None:
    """Checks and claims on the terminal."""
    render_verify(report.artifact, report.passed, report.checks, report.certificates, console)


def to_json(report: Verification) -> dict[str, Any]:
    """``schema``, ``passed``, ``checks`` and ``certificates`` as plain JSON."""
    return {"schema": SCHEMA, "kind": "verification", "passed": report.passed, **encode(report)}


def to_junit(report: Verification) -> str:
    """One test case a check, for continuous integration; what could not be told counts as skipped."""
    failed = [check for check in report.checks if check.status == "failed"]
    skipped = [check for check in report.checks if check.status == "warning"]
    suite = ElementTree.Element(
        "testsuite",
        name="dovetail verify",
        tests=str(len(report.checks)),
        failures=str(len(failed)),
        skipped=str(len(skipped)),
    )
    for check in report.checks:
        case = ElementTree.SubElement(suite, "testcase", classname=report.artifact, name=check.name)
        if check in failed:
            ElementTree.SubElement(case, "failure", message=check.detail).text = check.hint
        elif check in skipped:
            ElementTree.SubElement(case, "skipped", message=check.detail)
        ElementTree.SubElement(case, "system-out").text = check.detail
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
