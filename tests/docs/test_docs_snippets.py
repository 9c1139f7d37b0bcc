"""Blocks of the documentation that are marked with ``<!-- test -->`` work as they stand.

Marked blocks of one page run in order in one folder that holds ``model.onnx`` and ``data.npz``, with a short budget in place of
the one they name. ``<!-- test: NAME -->`` writes the block to a file of that name instead; a job file is read and checked.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dovetail.data.job import load_job

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/write-a-runtime.md")
_BLOCK = re.compile(r"<!-- test(?:: (?P<file>\S+))? -->\n```(?P<language>\w+)\n(?P<code>.*?)\n```", re.DOTALL)
_BUDGET = re.compile(r"""(?<=--budget )\w+|(?<=budget: )\w+|(?<=budget=")\w+""")


@pytest.mark.parametrize("page", PAGES)
def test_marked_blocks_work(page: str, tmp_path: Path, digits: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    shutil.copyfile(digits / "digits.onnx", folder / "model.onnx")
    shutil.copyfile(digits / "digits.npz", folder / "data.npz")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    blocks = list(_BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")))
    assert blocks
    for block in blocks:
        code = _BUDGET.sub("10s", block["code"])
        if block["file"]:
            (folder / block["file"]).write_text(code + "\n")
            if block["language"] == "yaml":
                load_job(folder / block["file"])
            continue
        command = {"bash": ["bash", "-ec", code], "python": [sys.executable, "-c", code]}[block["language"]]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{block['code']}\n{done.stdout}\n{done.stderr}"


def test_the_translation_shows_the_same_commands() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    fenced = "\n".join(re.findall(r"```bash\n(.*?)\n```", chinese, re.DOTALL))
    commands = [line.partition("  #")[0].strip() for line in fenced.splitlines()]
    assert commands and all(command in english for command in commands)
