"""One measurement at a time on a machine, and never a lock that outlives its holder."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dovetail.core.errors import StorageError
from dovetail.measure.lock import measuring

HOLD = (
    "import sys; from pathlib import Path; from dovetail.measure.lock import measuring\n"
    "with measuring(lambda text: print(text, flush=True), path=Path(sys.argv[1])):\n"
    "    print('held', flush=True); sys.stdin.read()"
)


def holder(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


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


def test_a_killed_holder_leaves_the_lock_free(tmp_path):
    path = tmp_path / "lock"
    with holder(path) as other:
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
        other.kill()
        thread.join(20)
    assert entered.is_set()


def test_it_is_free_again_after_an_error(tmp_path):
    path = tmp_path / "lock"
    with pytest.raises(RuntimeError), measuring(path=path):
        raise RuntimeError
    told: list[str] = []
    with measuring(told.append, path=path):
        assert not told


def test_a_lock_that_cannot_be_opened_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot open the measurement lock"), measuring(path=tmp_path):
        pass
