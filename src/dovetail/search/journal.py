"""An append-only JSONL journal: a killed run resumes and repeats nothing it had finished."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dovetail.core.errors import StorageError
from dovetail.core.json_lines import whole_rows

SCHEMA = 1
FILE = "journal.jsonl"
_START = b'{"kind": "job"'


def is_journal(path: Path) -> bool:
    """Whether a file is a journal, be it one whose first row a kill cut short."""
    try:
        with path.open("rb") as file:
            return _START.startswith(file.read(len(_START)))
    except OSError:
        return False


class Journal:
    """Rows of one job. The first row names the job; a journal of another job is set aside, never overwritten.

    Args:
        path: the file; its folder is made where it is not there.
        job: hash over everything that makes rows comparable (model, data, limits, machine).
    """

    def __init__(self, path: Path, job: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._resume(job)
            if not path.exists():
                self._append({"kind": "job", "schema": SCHEMA, "job": job})
        except OSError as exc:
            what = f"cannot write the journal: {exc.strerror}"
            raise StorageError(what, where=str(path), hint="choose another --out") from exc

    def _resume(self, job: str) -> None:
        whole, end = whole_rows(self.path)
        if not whole or whole[0].get("job") != job or whole[0].get("schema") != SCHEMA:
            self._set_aside()
            return
        if end < self.path.stat().st_size:
            os.truncate(self.path, end)
        self.rows = whole[1:]

    def _set_aside(self) -> None:
        number = 1
        while (other := self.path.with_name(f"{self.path.stem}-{number}{self.path.suffix}")).exists():
            number += 1
        self.path.rename(other)

    def of(self, kind: str) -> Iterator[dict[str, Any]]:
        """Finished rows of one kind, in order."""
        return (row for row in self.rows if row["kind"] == kind)

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """The finished row of one kind with this key."""
        for row in self.of(kind):
            if row.get("key") == key:
                return row
        return None

    def add(self, kind: str, key: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Appends one finished row and makes sure that it is on disk."""
        row = {"kind": kind, "key": key, **values}
        self._append(row)
        self.rows.append(row)
        return row

    def _append(self, row: Mapping[str, Any]) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            raise StorageError(f"cannot write the journal: {exc.strerror}", where=str(self.path)) from exc
