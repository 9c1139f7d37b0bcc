"""Our artifact against each peer, used as its documentation says: ``python benchmarks/peers.py [--models resnet8,minilm]``.

Every peer's model is made in a process of its own, judged on the same certification samples by the same metric, limit and test
as ours, and timed in fresh processes with interleaved blocks. The *best peer* is the fastest that keeps the quality; it is
chosen in a first measurement and measured again, in fresh processes, against our artifact. Appends a row a model to
``benchmarks/results/peers.jsonl``; ``--show`` prints the table of the latest rows.

Peers run through the product's own sessions with the runtime's defaults. That is the documented call or a faster one
(OpenVINO's inputs are copied into tensors that stay set, torch is compiled for each shape), which favours the peer.

Olive lives in an environment of its own (its ``--help`` fails without requests, which it does not declare):

    python -m venv /tmp/olive && /tmp/olive/bin/pip install olive-ai onnxruntime requests
    python benchmarks/peers.py --olive /tmp/olive/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import models
import peers_table
import rows
from peer_judge import Judge, Judged
from peer_tools import Task

from dovetail.certify import ratio_interval
from dovetail.core.constraint import DropKind
from dovetail.core.protocols import Model
from dovetail.core.recipe import Recipe, Scalar, freeze
from dovetail.core.serial import encode
from dovetail.export.artifact import MANIFEST, read_manifest
from dovetail.measure.arena import Contestant, Duel, duel
from dovetail.measure.child import ChildFailure
from dovetail.measure.lock import measuring
from dovetail.pipeline.describe import describe
from dovetail.pipeline.optimize import optimize
from dovetail.report.progress import PlainProgress

OURS = "dovetail"
UNTRAINED = "dovetail untrained"
"""Another artifact of ours, made without training, as if it were a peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One way to use a peer.

    Attributes:
        tool: of :mod:`peer_tools`, makes its model; empty for the original file.
        judged_with: options while quality is judged, where ``options`` would take hours and change rounding only.
        kinds: kinds of model that its documentation recommends it for; empty for all.
    """

    runtime: str
    options: Mapping[str, Scalar] = field(default_factory=dict)
    tool: str = ""
    judged_with: Mapping[str, Scalar] | None = None
    kinds: frozenset[str] = frozenset()


DEFAULT_OPENVINO = {"precision": "default"}
PEERS = {
    "onnxruntime": Peer(runtime="onnxruntime"),
    "openvino": Peer(runtime="openvino", options=DEFAULT_OPENVINO),
    "openvino f32": Peer(runtime="openvino", options={"precision": "f32"}),
    "torch compiled": Peer(runtime="torch", options={"compile": True}, judged_with={}),
    "torch compiled bf16": Peer(
        runtime="torch", options={"compile": True, "precision": "bf16"}, judged_with={"precision": "bf16"}
    ),
    "onnxruntime static": Peer(runtime="onnxruntime", tool="onnxruntime_static"),
    "onnxruntime static per channel": Peer(runtime="onnxruntime", tool="onnxruntime_per_channel"),
    "onnxruntime dynamic": Peer(
        runtime="onnxruntime", tool="onnxruntime_dynamic", kinds=frozenset({"transformer", "recurrent"})
    ),
    "nncf": Peer(runtime="openvino", options=DEFAULT_OPENVINO, tool="nncf_quantize"),
    "nncf accuracy control": Peer(runtime="openvino", options=DEFAULT_OPENVINO, tool="nncf_accuracy_control"),
    "olive": Peer(runtime="onnxruntime", tool="olive_static"),
}


@dataclass(slots=True, kw_only=True)
class Entry:
    """What became of one side: built, judged, timed."""

    contestant: Contestant | None = None
    size_bytes: int | None = None
    build_s: float | None = None
    note: str = ""
    failure: str = ""
    judged: Judged | None = None
    latency_s: float | None = None

    def figures(self) -> dict[str, Any]:
        """For the journal."""
        shown = {"recipe": str(self.contestant.recipe)} if self.contestant else {}
        numbers = {"size_bytes": self.size_bytes, "build_s": self.build_s, "latency_s": self.latency_s}
        return {**shown, **numbers, "judged": encode(self.judged), "note": self.note, "failure": self.failure}


class Match:
    """One model: our artifact and all peers."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.options = name, options
        self.folder: Path = options.work / "peers" / name
        self.out: Path = options.ours or self.folder / "fit"
        request = models.request(name, options.work / "peers", budget=options.budget)
        if not (options.ours or (options.reuse and (self.out / MANIFEST).exists())):
            optimize(request, PlainProgress(sys.stderr))
        self.manifest = read_manifest(self.out)
        self.job = describe(request, lambda text: None)
        self.conditions = models.conditions(self.job, self.folder / "logs")
        self.judge = Judge(self.job, self.conditions, self.folder / "rows")

    def run(self) -> rows.Row:
        """Builds, judges and times everything, and files the row."""
        entries = {OURS: self.ours(), **{name: self.peer(name) for name in self._suitable()}}
        best = self.first(entries)
        found = self.final(entries[OURS], entries[best]) if best and entries[OURS].contestant else None
        return rows.append("peers", self._config(), self._figures(entries, best, found), olive_version(self.options.olive))

    def _suitable(self) -> list[str]:
        kind = models.REFERENCES[self.name].kind
        named = [name for name in self.options.peers if not PEERS[name].kinds or kind in PEERS[name].kinds]
        return [*named, *([UNTRAINED] if self.options.untrained else [])]

    # -- sides ---------------------------------------------------------------------------------------------------------

    def ours(self) -> Entry:
        """The artifact's answer; its status is in the manifest."""
        if self.manifest.status == "infeasible":
            return Entry(failure=self.manifest.headline)
        answer = models.answer(self.out, OURS)
        return self._judged(Entry(contestant=answer, size_bytes=answer.model.size_bytes()), OURS, answer.recipe)

    def peer(self, name: str) -> Entry:
        """A peer's model, made and judged; a failure is kept."""
        print(f"{self.name}: {name}", file=sys.stderr, flush=True)
        if name == UNTRAINED:
            answer = models.answer(self.options.untrained, name)
            return self._judged(Entry(contestant=answer, size_bytes=answer.model.size_bytes()), name, answer.recipe)
        peer = PEERS[name]
        given = {"path": str(self.job.original.path), "format": "onnx"}
        row: dict[str, Any] = self._built(peer.tool) if peer.tool else given
        if "error" in row:
            return Entry(failure=f"build: {row['error']}", build_s=row.get("seconds"))
        model = Model(path=Path(row["path"]), format=row["format"])
        recipe = Recipe(runtime=peer.runtime, options=freeze(peer.options))
        entry = Entry(
            contestant=Contestant(recipe=recipe, model=model, name=name),
            size_bytes=model.size_bytes(),
            build_s=row.get("seconds"),
            note=row.get("note", ""),
        )
        judged_with = peer.options if peer.judged_with is None else peer.judged_with
        return self._judged(entry, name, replace(recipe, options=freeze(judged_with)))

    def _judged(self, entry: Entry, name: str, recipe: Recipe) -> Entry:
        assert entry.contestant is not None
        try:
            entry.judged = self.judge.judge(replace(entry.contestant, recipe=recipe), name.replace(" ", "-"))
        except ChildFailure as exc:
            entry.failure = str(exc)
        return entry

    def _built(self, tool: str) -> dict[str, Any]:
        out = self.folder / "models" / tool
        done = out / "built.json"
        if not (self.options.reuse and done.exists()):
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            task = out / "task.json"
            task.write_text(json.dumps(encode(self._task())))
            make(tool, task, out, limit_s=self.options.build_limit, olive=self.options.olive)
        row: dict[str, Any] = json.loads(done.read_text())
        return row

    def _task(self) -> Task:
        splits = self.job.splits
        return Task(
            model=str(self.job.original.path),
            kind=models.REFERENCES[self.name].kind,
            calibration=str(splits["calibration"].folder),
            selection=str(splits["selection"].folder),
            metric=self.job.metric_spec,
            max_drop=self.job.wish.max_drop,
            state=self.job.state,
            inputs=self.job.inputs,
            outputs=self.job.outputs,
            reference=None if (stored := self.judge.reference("selection")) is None else str(stored),
        )

    # -- time ----------------------------------------------------------------------------------------------------------

    def first(self, entries: Mapping[str, Entry]) -> str:
        """Times all that run, and names the fastest peer that keeps the quality; empty when none does."""
        contestants = [e.contestant for e in entries.values() if e.contestant and not e.failure]
        found = self._measure(contestants, self.options.first_rounds, seed=1)
        for name, entry in entries.items():
            if name in found.failures:
                entry.failure = f"{found.failures[name].stage}: {found.failures[name].reason}"
            elif name in found.measurements:
                entry.latency_s = found.measurements[name].latency_s
        fit = {n: e.latency_s for n, e in entries.items() if n != OURS and e.latency_s and e.judged and e.judged.passes}
        return min(fit, key=fit.__getitem__, default="")

    def final(self, ours: Entry, best: Entry) -> Duel:
        """Our artifact and the best peer again, in fresh processes."""
        assert ours.contestant is not None and best.contestant is not None
        return self._measure([ours.contestant, best.contestant], self.options.rounds, seed=2)

    def _measure(self, contestants: Sequence[Contestant], rounds: int, seed: int) -> Duel:
        with measuring(lambda text: print(text, file=sys.stderr)):
            return duel(contestants, self.conditions, rounds=rounds, seconds=self.options.block, seed=seed)

    # -- the row ---------------------------------------------------------------------------------------------------------

    def _config(self) -> dict[str, Any]:
        limit = self.job.wish.max_drop
        return {
            "model": self.name,
            "metric": self.job.metric_spec,
            "max_drop": f"{100 * limit.value:g}{'%' if limit.kind is DropKind.RELATIVE else 'pp'}",
            "units": {name: split.units for name, split in self.job.splits.items() if name != "timing"},
            "ours": str(self.options.ours or ""),
            **{name: getattr(self.options, name) for name in ("budget", "rounds", "first_rounds", "block")},
        }

    def _figures(self, entries: Mapping[str, Entry], best: str, found: Duel | None) -> dict[str, Any]:
        assert self.job.metric is not None
        figures: dict[str, Any] = {
            "status": self.manifest.status,
            "headline": self.manifest.headline,
            "original": {"value": self.job.metric.value(self.judge.original), "size_bytes": self.job.original.size_bytes()},
            "ours": entries[OURS].figures(),
            "peers": {name: entry.figures() for name, entry in entries.items() if name != OURS},
            "best_peer": best,
        }
        ratios = found.log_ratios(OURS, best) if found else []
        if found and len(ratios) > 1:
            figures["ratio"] = encode(ratio_interval(ratios))
            figures["ours_s"], figures["best_s"] = (found.measurements[key].latency_s for key in (OURS, best))
            figures["rounds_s"] = encode(found.rounds)
        return figures


def make(tool: str, task: Path, out: Path, *, limit_s: float, olive: str) -> None:
    """Runs a peer's tool; a crash or a time-out becomes a ``built.json`` that says so."""
    command = [sys.executable, str(Path(__file__).with_name("peer_tools.py")), tool, str(task), str(out)]
    env = {**os.environ, "OLIVE_PYTHON": olive}
    with (out / "log.txt").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=env)
        try:
            child.wait(limit_s)
            error = f"the process ended with {child.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            error = f"not done after {limit_s:.0f} s"
    if not (out / "built.json").exists():
        (out / "built.json").write_text(json.dumps({"error": error}))


def olive_version(python: str) -> dict[str, str]:
    """Version of Olive in its environment; nothing where there is none."""
    if not python:
        return {}
    code = "import importlib.metadata as m; print(m.version('olive-ai'))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return {"olive-ai": found.stdout.strip()}


def _peers(text: str) -> list[str]:
    chosen = [name for name in text.split(",") if name]
    unknown = [name for name in chosen if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no peer {unknown[0]!r}; known: {', '.join(PEERS)}")
    return chosen


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models.add_models_option(parser, list(models.REFERENCES))
    parser.add_argument("--peers", type=_peers, default=list(PEERS), help="comma-separated (default: all)")
    parser.add_argument("--budget", default="10m", help="of our own optimisation, per model (default: 10m)")
    parser.add_argument("--rounds", type=int, default=8, help="fresh process pairs against the best peer (default: 8)")
    parser.add_argument("--first-rounds", type=int, default=3, help="fresh processes when the best peer is chosen (default: 3)")
    parser.add_argument("--block", type=float, default=0.15, help="seconds per block (default: 0.15)")
    parser.add_argument("--build-limit", type=float, default=1800.0, help="seconds for one peer's tool (default: 1800)")
    parser.add_argument("--reuse", action="store_true", help="take artifacts and peers' models from an earlier run")
    parser.add_argument("--ours", type=Path, help="an artifact of the one model that was made elsewhere, for example trained")
    parser.add_argument("--untrained", type=Path, help="an artifact made without training, to be compared as if it were a peer")
    parser.add_argument("--olive", default="", help="Python of the environment that Olive is installed in")
    parser.add_argument("--show", action="store_true", help="print the table of the latest rows and measure nothing")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.ours and len(options.models) != 1:
        sys.exit("--ours is an artifact of one model: name it with --models")
    found = rows.latest("peers") if options.show else [Match(name, options).run() for name in options.models]
    return 0 if peers_table.show(found) else 1


if __name__ == "__main__":
    sys.exit(main())
