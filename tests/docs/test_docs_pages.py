"""Pages say what is there: the command reference is the commands' own help, and links lead somewhere."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_NAMED = re.compile(r"^\| `([a-z_]+(?:/|\.py))`", re.MULTILINE)
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def test_the_command_reference_is_up_to_date() -> None:
    render = runpy.run_path(str(ROOT / "tools" / "cli_docs.py"))["render"]
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == render(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert not broken


def test_the_layout_names_every_folder() -> None:
    package = ROOT / "src" / "dovetail"
    there = {f"{folder.name}/" for folder in package.iterdir() if (folder / "__init__.py").exists()}
    there |= {file.name for file in package.glob("*.py")} - {"__init__.py"}
    assert set(_NAMED.findall((ROOT / "docs" / "layout.md").read_text(encoding="utf-8"))) == there


def test_make_lists_its_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"make {target} " in listed for target in _TARGET.findall(makefile))
