"""The page on devices says what the code does: its examples load, and it names every key, rule and level."""

import re
from pathlib import Path

import pytest

from dovetail.core.device import DEPLOYMENT
from dovetail.devices import consistency
from dovetail.devices.catalogue.sheet import DeviceSheet
from dovetail.devices.catalogue.user import add

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "devices.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_examples_can_be_added(example: str, tmp_path: Path) -> None:
    (tmp_path / "board.yaml").write_text(example, encoding="utf-8")
    (added,) = add(tmp_path / "board.yaml", tmp_path / "devices", {})
    assert added.device.name == "My board" and added.findings == ()


def test_every_key_is_explained() -> None:
    assert [name for name in DeviceSheet.model_fields if f"`{name}`" not in PAGE] == []


def test_every_level_and_rule_is_explained() -> None:
    assert all(f"| {level} | {words} |" in PAGE for level, words in DEPLOYMENT.items())
    source = Path(consistency.__file__).read_text(encoding="utf-8")
    rules = set(re.findall(r'rule="(\w+)"', source))
    table = PAGE.partition("| rule | what it says |")[2]
    assert rules <= set(re.findall(r"\w+", table)) and len(rules) >= 8
