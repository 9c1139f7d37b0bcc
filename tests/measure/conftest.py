"""A runtime that misbehaves, installed as a plug-in for child processes, and conditions to measure under."""

from pathlib import Path

import numpy as np
import pytest

from dovetail.core.protocols import Model, TensorSpec
from dovetail.data.dataset import write_split
from dovetail.measure.arena import Conditions

HOSTILE = '''
import os, signal, subprocess, sys, time
import numpy as np
from dovetail.runtimes.null import NullRuntime

EAT = "import time; eaten = bytearray(600_000_000); time.sleep(30)"


def misbehave(how):
    if how == "abort":
        os.abort()
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "hang":
        time.sleep(60)
    elif how == "eat":
        exec(EAT, {})
    elif how == "eat in a grandchild":
        subprocess.run([sys.executable, "-c", EAT])
    elif how == "print":
        os.write(1, b"noise on standard output\\n" * 9)
    elif how == "raise":
        raise RuntimeError("first line\\nsecond line")


class Hostile(NullRuntime):
    """Options: ``on_build`` or ``on_run``, and the call (from 0) on which the latter acts."""

    name = "hostile"

    def build(self, model, options):
        misbehave(options.get("on_build"))
        session = super().build(model, {})
        run, calls = session.run, iter(range(10**9))

        def hostile_run(feeds):
            due = next(calls) >= options.get("call", 0)
            if due and options.get("on_run") == "nan":
                return [np.full_like(value, np.nan) for value in run(feeds)]
            if due:
                misbehave(options.get("on_run"))
            return run(feeds)

        session.run = hostile_run
        return session
'''


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a third-party runtime that does to its process what its options say."""
    site = tmp_path / "site"
    metadata = site / "hostile-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "hostile.py").write_text(HOSTILE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[dovetail.runtimes]\nhostile = hostile:Hostile\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return "hostile"


@pytest.fixture
def model(digits: Path) -> Model:
    return Model(path=digits / "digits.onnx")


@pytest.fixture
def conditions(tmp_path: Path) -> Conditions:
    """Four random images to time on, and short limits."""
    spec = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 16, 16))
    random = np.random.default_rng(0)
    samples = [({"image": random.random((1, 1, 16, 16), np.float32)}, number, None) for number in range(4)]
    split = write_split(tmp_path / "split", samples, [spec], name="timing")
    return Conditions(
        split=split.folder, indices=(0, 1, 2, 3), batch=1, logs=tmp_path / "logs", memory_limit_bytes=4e9, start_limit_s=60
    )
