"""The child process: the same steps as the pipeline's, under limits. ``python -m dovetail.worker REPLY_FD [PARENT_PID]``.

Reads one JSON command a line from standard input and answers one JSON line each. A failure is an answer; a crash is seen by the
parent, and when the parent dies the child goes with it.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dovetail import plugins
from dovetail.core.errors import ConformanceError, DovetailError, InputError
from dovetail.core.gpu import GpuProbe
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Array, Dataset, Feeds, Model, PassContext, Session
from dovetail.core.recipe import PassSpec
from dovetail.core.serial import decode, encode
from dovetail.core.workload import Workload

_STARTED = time.perf_counter()
PROGRESS_S = 1.0
_PROFILE_S = 0.25
"""Of profiled calls of a network that is traced, but :data:`_FEWEST_REPEATS` at least."""
_FEWEST_REPEATS = 4


class Worker:
    """Holds the one session of this process between commands."""

    def __init__(self, reply: Callable[[dict[str, Any]], None]) -> None:
        self._reply = reply
        self._session: Session | None = None
        self._feeds: list[Feeds] = []

    def serve(self, lines: Any) -> None:
        """Answers commands until the input ends."""
        for line in lines:
            request: dict[str, Any] = json.loads(line)
            op = request.pop("op")
            try:
                answer = getattr(self, f"do_{op}")(**request)
            except DovetailError as exc:
                answer = {"error": str(exc), "stage": op, "kind": type(exc).__name__}
            except Exception as exc:
                text = (str(exc).strip().splitlines() or [""])[0]
                answer = {"error": f"{type(exc).__name__}: {text}"[:600], "stage": op, "detail": traceback.format_exc()[-3000:]}
            self._reply(answer)
        if self._session is not None:
            self._session.close()

    # -- models ------------------------------------------------------------------------------------------------------

    def do_normalize(self, source: str, out: str) -> dict[str, Any]:
        """Writes the normalised model."""
        from dovetail.workloads.normalize import normalize

        report = normalize(Path(source), Path(out))
        return {"report": encode(report)}

    def do_import_litert(self, source: str, out: str) -> dict[str, Any]:
        """Writes a LiteRT file in ONNX form."""
        from dovetail.lowering.raising import raise_to_onnx

        return {"report": encode(raise_to_onnx(Path(source), Path(out)))}

    def do_analyze(self, model: str, shapes: dict[str, list[int]] | None = None) -> dict[str, Any]:
        """Counts operators, FLOPs and bytes."""
        from dovetail.workloads.analyze import analyze

        return {"workload": encode(analyze(Path(model), shapes=shapes))}

    def do_build(
        self,
        path: str,
        format: str,
        step: dict[str, Any],
        workdir: str,
        environment: dict[str, Any],
        calibration: str | None = None,
        workload: dict[str, Any] | None = None,
        score: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Applies one pass and checks what it promised."""
        spec = PassSpec.from_json(step)
        chosen = plugins.compression_pass(spec.name)
        model = Model(path=Path(path), format=format)
        if format not in chosen.accepts:
            return {"error": f"{spec.name} takes {', '.join(sorted(chosen.accepts))}, not {format}", "stage": "build"}
        Path(workdir).mkdir(parents=True, exist_ok=True)
        notes: list[str] = []
        machine = decode(Environment, environment)
        context = PassContext(
            workdir=Path(workdir),
            environment=machine,
            config=dict(spec.params),
            calibration=_open(calibration) if calibration else None,
            workload=decode(Workload, workload) if workload else None,
            seed=seed,
            note=notes.append,
            progress=self._share(),
            score=_scorer(**score) if score else None,
            **_training(machine, **training) if training else {},
        )
        result = chosen.apply(model, context)
        if chosen.shrinks and result.size_bytes() > model.size_bytes():
            raise ConformanceError(
                f"{spec.name} promised a smaller file: {model.size_bytes():,} → {result.size_bytes():,} bytes"
            )
        return {"path": str(result.path), "format": result.format, "size_bytes": result.size_bytes(), "notes": notes}

    def do_train(
        self, path: str, out: str, environment: dict[str, Any], objective: dict[str, Any], schedule: dict[str, Any],
        training: dict[str, Any], teacher: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Trains a model's weights."""
        from dovetail.core.training import Objective, Schedule

        trainer = _training(decode(Environment, environment), **training)["trainer"]
        trained = trainer.fit(
            Model(path=Path(path)),
            out=Path(out),
            objective=decode(Objective, objective),
            schedule=decode(Schedule, schedule),
            teacher=None if teacher is None else Model(path=Path(teacher)),
            progress=self._share(),
        )
        told = {name: encode(getattr(trained, name)) for name in ("history", "seconds", "samples_per_s", "notes")}
        return {**told, "score_name": trained.score_name, "score": trained.score}

    # -- sessions ----------------------------------------------------------------------------------------------------

    def do_load(self, path: str, format: str, runtime: str, options: dict[str, Any]) -> dict[str, Any]:
        """Builds the session of this process."""
        chosen = plugins.runtime(runtime)
        missing = chosen.missing()
        if missing:
            return {"error": missing, "stage": "load"}
        self._session = chosen.build(Model(path=Path(path), format=format), options)
        return {"inputs": encode(self._session.inputs), "outputs": encode(self._session.outputs)}

    def do_feeds(self, split: str, indices: list[int], batch: int = 1) -> dict[str, Any]:
        """Prepares the feeds that blocks are timed on, and answers the first one."""
        data, session = _open(split), self._live()
        if batch == 1:
            self._feeds = [_complete(data.sample(i).feeds, session) for i in indices]
        else:
            stacked = data.batch([indices[i % len(indices)] for i in range(batch)])
            if stacked is None:
                return {"error": "samples of different shapes cannot form a batch", "stage": "run"}
            self._feeds = [_complete(stacked, session)]
        outputs = session.run(self._feeds[0])
        named = zip(session.outputs, outputs, strict=True)
        bad = [spec.name for spec, value in named if value.dtype.kind == "f" and not np.isfinite(value).all()]
        return {"first_answer_s": time.perf_counter() - _STARTED, "non_finite": bad}

    def do_warm(self) -> dict[str, Any]:
        """Runs until call times are steady."""
        from dovetail.measure.timing import warm_up

        typical, steady = warm_up(self._live().run, self._feeds)
        return {"typical_s": typical, "steady": steady}

    def do_block(self, seconds: float, keep: int = 2000) -> dict[str, Any]:
        """Times one block; answers at most ``keep`` single call times."""
        from dovetail.measure.timing import block

        timed = block(self._live().run, self._feeds, seconds)
        times = timed.times_s[:: max(1, len(timed.times_s) // keep)]
        return {"typical_s": timed.typical_s, "calls": len(timed.times_s), "times_s": [float(f"{t:.6g}") for t in times]}

    def do_profile(self, repeats: int = 30) -> dict[str, Any]:
        """Kernel times on the first feed."""
        profile = self._live().profile(self._feeds[0], repeats)
        return {"profile": encode(profile)}

    def do_memory(self) -> dict[str, Any]:
        """Highest resident set of this process so far, in bytes."""
        return {"peak_memory_bytes": peak_bytes()}

    def do_fidelity(self, reference: str) -> dict[str, Any]:
        """Greatest relative difference to the outputs stored in a file, over the timing feeds.

        Writes the file when it is absent. ``max|y − ŷ| / max|y|`` per output, the worst of all; ``null`` when not finite.
        """
        session = self._live()
        outputs = {
            f"{i}.{spec.name}": np.asarray(value)
            for i, feeds in enumerate(self._feeds)
            for spec, value in zip(session.outputs, session.run(feeds), strict=True)
        }
        path = Path(reference)
        if not path.exists():
            partial = path.with_suffix(".part.npz")
            np.savez(partial, **outputs)  # type: ignore[arg-type]
            partial.replace(path)
        with np.load(path, allow_pickle=False) as stored:
            worst = max((_relative_error(stored[name], outputs[name]) for name in stored.files), default=0.0)
        return {"max_relative_error": worst if np.isfinite(worst) else None}

    # -- calibration of the machine -----------------------------------------------------------------------------------

    def do_probe_networks(self, folder: str) -> dict[str, Any]:
        """Writes the networks that machines are calibrated with, in every form that runtimes take them in."""
        from dovetail.probe_files import write

        return {"files": encode(write(Path(folder)))}

    def do_rates(self, threads: int, folder: str) -> dict[str, Any]:
        """Measures memory, disk and image input."""
        from dovetail.devices.rates import disk_bytes_per_s, input_bytes_per_s, memory_bytes_per_s

        memory = {"memory_bytes_per_s": memory_bytes_per_s(threads), "memory_1_thread_bytes_per_s": memory_bytes_per_s(1)}
        return {"rates": {**memory, **disk_bytes_per_s(Path(folder)), **input_bytes_per_s()}}

    def do_gpu_identity(self, device: str) -> dict[str, Any]:
        """What torch calls a device."""
        from dovetail.devices.gpu_probes import identity

        return identity(device)

    def do_gpu_probe(self, device: str, probe: dict[str, Any]) -> dict[str, Any]:
        """Measures one thing of a torch device; the row is ``null`` where it has no such thing."""
        from dovetail.devices.gpu_probes import measure

        return {"row": encode(measure(decode(GpuProbe, probe), device))}

    def do_trace(
        self, path: str, format: str, runtime: str, options: dict[str, Any], repeats: int, seconds: float
    ) -> dict[str, Any]:
        """Times and profiles a model on feeds of its own; nothing stays loaded.

        ``repeats`` calls are profiled at most, of long calls as many as take a fraction of a second; ``seconds`` go to warming
        up, and as many to timed calls.
        """
        from dovetail.measure.timing import block, warm_up

        session = plugins.runtime(runtime).build(Model(path=Path(path), format=format), options)
        try:
            feeds = _random_feeds(session)
            warm_up(session.run, [feeds], limit_s=seconds)
            timed = block(session.run, [feeds], seconds)
            profile = session.profile(feeds, min(repeats, max(_FEWEST_REPEATS, math.ceil(_PROFILE_S / timed.typical_s))))
        finally:
            session.close()
        return {"call_s": timed.typical_s, "profile": encode(profile)}

    def do_kernels(self) -> dict[str, Any]:
        """What a call on the first feed executes."""
        return {"kernels": encode(self._live().kernels(self._feeds[0]))}

    # -- quality -----------------------------------------------------------------------------------------------------

    def do_reference(self, split: str, state: dict[str, str], folder: str) -> dict[str, Any]:
        """Stores the outputs of the session on a split."""
        from dovetail.data.evaluator import Evaluator
        from dovetail.data.metrics.agreement import Agreement

        evaluator = Evaluator(Agreement(), state=state)
        stored = evaluator.reference_outputs(self._live(), _open(split), Path(folder), self._progress())
        return {"samples": len(stored)}

    def do_score(
        self,
        split: str,
        metric: Any,
        state: dict[str, str],
        out: str,
        reference: str | None = None,
        units: list[int] | None = None,
    ) -> dict[str, Any]:
        """Writes the metric's rows of some independent units of a split, of all by default."""
        rows = _rows(self._live(), split, metric, state, reference, units, self._progress())
        partial = Path(out).with_suffix(".part.npy")
        np.save(partial, rows)
        partial.replace(out)
        return {"n": len(rows)}

    def _progress(self) -> Callable[[int, int], None]:
        """Tells the parent, at most once in a while, that long work goes on."""
        last = time.monotonic()

        def tell(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_S:
                last = time.monotonic()
                self._reply({"progress": [done, total]})

        return tell

    def _share(self) -> Callable[[float, str], None]:
        """Tells the parent, at most once in a while, how much of a build is done."""
        last = time.monotonic()

        def tell(share: float, text: str) -> None:
            nonlocal last
            if time.monotonic() - last >= PROGRESS_S:
                last = time.monotonic()
                self._reply({"progress": [share, text]})

        return tell

    def _live(self) -> Session:
        if self._session is None:
            raise RuntimeError("no session is loaded")
        return self._session


def _random_feeds(session: Session) -> dict[str, Array]:
    """Normal numbers for floats, zeros for the rest; open sizes are 1."""
    rng = np.random.default_rng(0)
    shapes = {spec.name: (spec.dtype, [d if isinstance(d, int) else 1 for d in spec.shape]) for spec in session.inputs}
    return {
        name: rng.standard_normal(shape).astype(dtype) if np.dtype(dtype).kind == "f" else np.zeros(shape, dtype)
        for name, (dtype, shape) in shapes.items()
    }


def _rows(
    session: Session,
    split: str,
    metric: Any,
    state: dict[str, str],
    reference: str | None,
    units: list[int] | None,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    from dovetail.data.evaluator import Evaluator
    from dovetail.data.metrics import get_metric
    from dovetail.data.outputs import StoredOutputs

    stored = None if reference is None else StoredOutputs(Path(reference))
    return Evaluator(get_metric(metric), state=state).rows(session, _open(split), units, stored, progress)


def _scorer(
    split: str, metric: Any, state: dict[str, str], reference: str | None, units: list[int], baseline: str
) -> Callable[[Model], float]:
    """A function model → quality drop on some units of a split, in ONNX Runtime."""
    from dovetail.data.metrics import get_metric

    judge = get_metric(metric)
    sign = 1.0 if judge.higher_is_better else -1.0
    original = judge.value(np.load(baseline, allow_pickle=False)[units])

    def drop(model: Model) -> float:
        session = plugins.runtime("onnxruntime").build(model, {})
        try:
            return sign * (original - judge.value(_rows(session, split, metric, state, reference, units)))
        finally:
            session.close()

    return drop


def _training(
    machine: Environment, samples: str, original: str, state: str, threads: int, metric: str = "", spent_s: float = 0.0
) -> dict[str, Any]:
    """What a pass needs to train, by name as in :class:`PassContext`.

    Raises:
        InputError: torch is not installed.
    """
    try:
        from dovetail.train.trainer import GraphTrainer
    except ImportError as exc:
        raise InputError("training needs torch", where="train", hint="pip install 'dovetail[torch]'") from exc
    data = _open(samples)
    wishes: dict[str, Any] = {"threads": threads, "environment": machine, "metric": metric, "spent_s": spent_s}
    trainer = GraphTrainer(data, state=Path(state), **wishes)
    return {"trainer": trainer, "training": data, "original": Model(path=Path(original))}


def _relative_error(expected: Array, found: Array) -> float:
    if expected.shape != found.shape:
        return float("inf")
    if expected.dtype.kind not in "fc":
        return 0.0 if np.array_equal(expected, found) else 1.0
    difference = np.abs(expected.astype(np.float64) - found.astype(np.float64)).max(initial=0.0)
    return float(difference / max(np.abs(expected).max(initial=0.0), 1e-12)) if np.isfinite(difference) else float("inf")


def _open(folder: str) -> Dataset:
    from dovetail.data.dataset import open_split

    return open_split(Path(folder))


def _complete(feeds: Feeds, session: Session) -> dict[str, Array]:
    """Feeds as contiguous arrays; recurrent state, which data do not hold, starts at zero."""
    whole = {name: np.ascontiguousarray(array) if array.ndim else array for name, array in feeds.items()}
    for spec in session.inputs:
        if spec.name not in whole:
            whole[spec.name] = np.zeros([d if isinstance(d, int) else 1 for d in spec.shape], spec.dtype)
    return whole


def peak_bytes() -> int:
    """Peak resident set since this program started; ``ru_maxrss`` would hand down the parent's (Linux keeps it over exec)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _die_with(parent: int) -> None:
    """Asks the kernel to end this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def main() -> None:
    """Entry point of the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if len(sys.argv) > 2:
        _die_with(int(sys.argv[2]))
    descriptor = int(sys.argv[1])

    def reply(answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(descriptor, data) :]

    Worker(reply).serve(sys.stdin.buffer)


if __name__ == "__main__":
    main()
