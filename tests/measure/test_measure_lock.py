"""One measurement at a time on a machine, and never a lock that outlives its holder."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dovetail.core.errors import StorageError
from dovetail.measure import lock
from dovetail.measure.lock import measuring
from processes import without_privileges

HOLD = (
    "import sys; from pathlib import Path; from dovetail.measure.lock import measuring\n"
    "with measuring(lambda text: print(text, flush=True), path=Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.read()"
)


def holder(path: Path, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how)


def test_a_second_process_says_that_it_waits_and_gets_its_turn(tmp_path):
    path = tmp_path / "lock"
    with measuring(path=path):
        other = holder(path)
        assert other.stdout is not None
        assert "waiting" in other.stdout.readline()
        assert other.poll() is None
    assert other.stdout.readline() == "held\n"
    assert other.communicate()[0] == ""
    assert other.returncode == 0


def enters_when_it_ends(path: Path, other: subprocess.Popen[str], end: Callable[[], object]) -> None:
    """Waits while the other process holds the lock, and takes it once that has ended."""
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    waiting, entered = threading.Event(), threading.Event()

    def enter() -> None:
        with measuring(lambda text: waiting.set(), path=path):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert waiting.wait(20)
    assert not entered.is_set()
    end()
    thread.join(20)
    assert entered.is_set()


def test_a_killed_holder_leaves_the_lock_free(tmp_path):
    path = tmp_path / "lock"
    with holder(path) as other:
        enters_when_it_ends(path, other, other.kill)


def test_it_is_free_again_after_an_error(tmp_path):
    path = tmp_path / "lock"
    with pytest.raises(RuntimeError), measuring(path=path):
        raise RuntimeError
    told: list[str] = []
    with measuring(told.append, path=path):
        assert not told


def test_a_lock_that_cannot_be_opened_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot open the measurement lock"), measuring(path=tmp_path / "gone" / "lock"):
        pass


def test_a_lock_of_another_user_is_taken_though_nobody_may_write_it(tmp_path):
    path = tmp_path / "lock"
    path.touch(mode=0o444)
    with holder(path, preexec_fn=without_privileges) as other:
        enters_when_it_ends(path, other, other.communicate)
    assert other.returncode == 0


def test_others_may_open_the_lock_whatever_the_mask_of_its_maker(tmp_path):
    before = os.umask(0o077)
    try:
        with measuring(path=tmp_path / "lock"):
            assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_the_place_depends_on_no_folder_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LOCK", tmp_path / "machine")
    monkeypatch.delenv("DOVETAIL_LOCK", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "own"))
    with measuring():
        assert (tmp_path / "machine").exists()
    monkeypatch.setenv("DOVETAIL_LOCK", str(tmp_path / "chosen"))
    with measuring():
        assert (tmp_path / "chosen").exists()
