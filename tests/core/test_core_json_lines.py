"""Files of rows that a kill may have torn."""

from pathlib import Path

import pytest

from dovetail.core.json_lines import resume


@pytest.mark.parametrize("torn", [b'{"a": 3', b'{"a": 3}', b"\n", b"[1]\n", b'{"a": 3}}\n{"a": 4}\n', b"\xff\xfe"])
def test_what_is_appended_after_a_torn_row_can_be_read(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n' + torn)
    assert resume(path) == [{"a": 1}, {"a": 2}]
    with path.open("ab") as file:
        file.write(b'{"a": 5}\n')
    assert resume(path) == [{"a": 1}, {"a": 2}, {"a": 5}]


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert resume(tmp_path / "none.jsonl") == []
