"""The story: describe → search (build, run, measure, judge) → certify → explain → artifact and report.

Read :func:`optimize` from top to bottom; every line is one stage.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dovetail import plugins
from dovetail.core.errors import InputError
from dovetail.core.outcome import CandidateRecord, FitResult, MadeStep
from dovetail.core.serial import decode, encode
from dovetail.core.workload import Workload
from dovetail.measure.arena import Conditions
from dovetail.measure.lock import measuring
from dovetail.pipeline import deliver, explaining, metering, results
from dovetail.pipeline.builder import BUDGET, Builder
from dovetail.pipeline.describe import MEMORY_SHARE, Request, describe
from dovetail.pipeline.finals import Final, Finals
from dovetail.pipeline.forecast import ModelForecast, ignored, machine_model
from dovetail.pipeline.improving import improve, outlook
from dovetail.pipeline.in_vain import in_vain
from dovetail.pipeline.interrupt import Interrupt
from dovetail.pipeline.job import Job
from dovetail.pipeline.ledger import Ledger
from dovetail.pipeline.trials import Trials
from dovetail.report.progress import Progress, SilentProgress
from dovetail.search.goal import Goal, Strategy
from dovetail.search.journal import FILE, Journal
from dovetail.search.race import Forecast, Race
from dovetail.search.space import Proposal, Traits, enumerate_space

HINT_S = 60.0
"""Time left from which a look at what training could gain is taken; it needs a few seconds of it."""
MEMORY_SLACK = 1.1
"""Resident memory in a quick look, relative to a limit, above which a recipe surely breaks it: processes differ a little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The parts that one fit works with."""

    job: Job
    ledger: Ledger
    journal: Journal
    builder: Builder
    trials: Trials
    finals: Finals
    race: Race
    progress: Progress
    deadline: float


def optimize(request: Request, progress: Progress | None = None, strategy: Strategy = Strategy.RACE) -> FitResult:
    """Fits a model to this machine.

    Args:
        request: model, data and wishes of the user.
        progress: shows what happens; silent by default.
        strategy: how the space is walked; anything but ``race`` exists to be compared with it.

    Raises:
        DovetailError: bad input; nothing half-written is left behind.
    """
    progress = progress or SilentProgress()
    ledger = Ledger()
    out = request.claim_out()
    with ledger.stage("describe"):
        progress.stage("describe", None)
        job = describe(request, progress.note)
    with Interrupt(lambda: progress.note("finishing with the best so far; Ctrl-C again stops")) as interrupt:
        with _fit(job, request, out, ledger, progress, strategy) as fit:
            search(fit, lambda: interrupt.requested)
            if job.trained:
                fit = improve(fit, lambda: interrupt.requested)
                search(fit, lambda: interrupt.requested)
            hint = _hint(fit)
            final = conclude(fit)
            result = results.assemble(job, fit.race, final, ledger, request.command)
            hints = filter(None, (hint, in_vain(result) if job.trained else ""))
            result = replace(result, warnings=(*result.warnings, *hints))
            result = replace(result, sensitivity=fit.builder.sensitivity, made=_made(fit, result))
            with ledger.stage("explain"):
                progress.stage("explain", None)
                result = explaining.explain(job, fit.finals, result)
            result = metering.with_energy(fit.finals, result, fit.deadline - time.monotonic(), progress)
        progress.stage("write", None)
        return deliver.deliver(job, fit.builder, results.timed(result, ledger), final.duel, out)


def _hint(fit: Fit) -> str:
    """What training could gain, where there are no samples to train on and time is left to look."""
    left_s = fit.deadline - time.monotonic() - fit.finals.estimate_s(fit.race)
    if fit.job.trained or not fit.job.judged or not fit.race.finished or left_s < HINT_S:
        return ""
    with fit.ledger.stage("outlook on training"):
        return outlook(fit)


def _made(fit: Fit, result: FitResult) -> tuple[MadeStep, ...]:
    """How the answer was made; nothing for a baseline."""
    answer = [r for r in result.candidates if r.recipe.key == result.winner and not r.is_baseline]
    return fit.builder.made(answer[0].recipe) if answer else ()


@contextmanager
def _fit(job: Job, request: Request, out: Path, ledger: Ledger, progress: Progress, strategy: Strategy) -> Iterator[Fit]:
    """Holds the measurement lock and the anchor process while the parts work."""
    work = request.cache / "jobs" / job.digest
    (work / "rows").mkdir(parents=True, exist_ok=True)
    conditions = Conditions(
        split=job.splits["timing"].folder,
        indices=job.timing_indices,
        batch=job.wish.batch,
        logs=work / "logs",
        memory_limit_bytes=MEMORY_SHARE * job.environment.memory_bytes,
    )
    builder = Builder(job, request.cache, conditions)
    trials = Trials(job, builder, conditions, work / "rows")
    journal = Journal(out / FILE, job.digest)
    asked = time.monotonic()
    with measuring(progress.note):
        waited_s = time.monotonic() - asked
        ledger.add("waiting for another measurement", waited_s)
        try:
            with ledger.stage("original"):
                progress.stage("original", None)
                _open(trials, _baselines_first(_space(job), journal), journal)
                builder.score = trials.scorer_arguments()
                goal = _goal(job, trials)
            yield Fit(
                job=job,
                ledger=ledger,
                journal=journal,
                builder=builder,
                trials=trials,
                finals=Finals(job, builder, trials, conditions, request.cache),
                race=Race(
                    _space(job, goal.margin),
                    goal,
                    strategy=strategy,
                    seed=job.wish.seed,
                    forecast=_forecast(job, request, progress),
                ),
                progress=progress,
                deadline=ledger.started + waited_s + job.wish.budget_s,
            )
        finally:
            trials.close()


def _forecast(job: Job, request: Request, progress: Progress) -> Forecast | None:
    """What the calibration of this machine says of the model's recipes; ``None`` without one."""
    machine = machine_model(request.calibration, job.environment)
    if machine is None and (why := ignored(request.calibration, job.environment)):
        progress.note(why)
    if machine is None or job.workload is None or job.wish.batch != 1:
        return None
    progress.note("predictions from this machine's calibration order and prune the search")
    return ModelForecast(machine, job.workload, job.environment.cores).ratio


def _open(trials: Trials, baselines: list[Proposal], journal: Journal) -> None:
    """Opens the anchors; a resumed run keeps the ratio between them, so that all its looks stay comparable."""
    row = next(journal.of("anchor"), None)
    proposal = trials.open(baselines, shift=None if row is None else float(row["shift"]))
    if row is None:
        journal.add("anchor", f"anchor of {proposal.recipe.key}", {"shift": trials.anchors.shift})


def _baselines_first(space: tuple[Proposal, ...], journal: Journal) -> list[Proposal]:
    """Baselines in order; those that failed in an interrupted run come last, so that the anchor stays the same."""
    failed = {row["key"] for row in journal.of("trial") if row["record"]["infeasible"]}
    return sorted((p for p in space if p.baseline), key=lambda p: (p.recipe.key in failed, bool(p.recipe.options)))


def _space(job: Job, margin: float | None = None) -> tuple[Proposal, ...]:
    runtimes = {name: plugins.runtime(name) for name in job.wish.runtimes}
    usable = {name: runtime for name, runtime in runtimes.items() if runtime.missing() is None}
    if not usable:
        reasons = "; ".join(str(runtime.missing()) for runtime in runtimes.values())
        raise InputError(f"none of the runtimes can run here: {reasons}", hint="`dovetail doctor` says more")
    kinds = frozenset(op.kind for op in job.workload.ops) if job.workload else frozenset()
    traits = Traits(
        kinds=kinds,
        quantised=bool(kinds & {"DequantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger"}),
        free_dims=job.free_dims,
        fixed_sizes=job.fixed_sizes,
        native=job.native.format if job.native else "",
        has_calibration="calibration" in job.splits,
        lossless_only=not job.judged,
        product_share=_product_share(job.workload) if job.workload else 1.0,
        margin=margin,
    )
    return enumerate_space(
        traits,
        job.environment,
        {name: runtime.knobs(job.environment) for name, runtime in usable.items()},
        {name: runtime.formats for name, runtime in usable.items()},
        {name: runtime.integer_forms for name, runtime in usable.items()},
    )


def _product_share(workload: Workload) -> float:
    """Of a model's FLOP or weights, whichever is more, in products that dynamic and weight-only quantisation take."""
    products = [op for op in workload.ops if op.kind in ("MatMul", "Gemm")]
    flop = sum(op.flop or 0.0 for op in products) / max(workload.flop, 1.0)
    weights = sum(op.weight_bytes for op in products) / max(workload.weight_bytes, 1.0)
    return min(1.0, max(flop, weights))


def _goal(job: Job, trials: Trials) -> Goal:
    bounds = {c.metric: c.bound for c in job.wish.constraints}
    size, memory = bounds.get("size_bytes", math.inf), MEMORY_SLACK * bounds.get("memory_bytes", math.inf)

    def feasible(record: CandidateRecord) -> bool:
        return record.is_baseline or ((record.size_bytes or 0.0) <= size and (record.memory_bytes or 0.0) <= memory)

    units = job.splits["certification"].units if "certification" in job.splits else 0
    margin = job.wish.max_drop.margin(trials.reference_value()) if job.judged else None
    return Goal(objectives=job.wish.objectives, margin=margin, certification_units=units, feasible=feasible)


def search(fit: Fit, stop: Callable[[], bool]) -> None:
    """Tries recipes until nothing could win any more, the budget's share is used, or the user stops it."""
    fit.progress.stage("search", len(fit.race.space))
    if not fit.race.records:
        _replay(fit)
    fit.builder.deadline = fit.deadline
    while not stop() and time.monotonic() < fit.deadline - fit.finals.estimate_s(fit.race):
        proposal = fit.race.ask()
        if proposal is None:
            break
        with fit.ledger.stage("trials"):
            record = fit.trials.run(proposal, fit.race)
        if record.infeasible is not None and record.infeasible.stage == BUDGET:
            break
        fit.race.tell(record)
        fit.journal.add("trial", proposal.recipe.key, {"record": encode(record)})
        fit.progress.advance(1, record.label)
        _show_best(fit)


def _replay(fit: Fit) -> None:
    """Files the finished trials of an earlier, interrupted run."""
    known = {p.recipe.key for p in fit.race.space}
    finished = [row for row in fit.journal.of("trial") if row["key"] in known]
    if finished:
        fit.progress.note(f"resuming: {len(finished)} finished trials taken from the journal")
    for row in finished:
        fit.race.tell(decode(CandidateRecord, row["record"]))
        fit.progress.advance(1, "from the journal")


def _show_best(fit: Fit) -> None:
    leaders = [*fit.race.ranked()[:1], *fit.race.baselines()[:1]]
    if leaders:
        fit.progress.best(min(leaders, key=fit.race.goal.cost).label)


def conclude(fit: Fit) -> Final:
    """Looks more closely at the best, chooses finalists, measures them in fresh processes and certifies."""
    if not fit.race.baselines():
        raise InputError(
            "the budget was too short to measure a single candidate",
            where="budget",
            hint=f"the run used {fit.ledger.elapsed_s:.0f} s of {fit.job.wish.budget_s:.0f} s before the first trial ended",
        )
    with fit.ledger.stage("select"):
        fit.progress.stage("select", None)
        fit.finals.deepen(fit.race)
        if fit.deadline - time.monotonic() > fit.finals.estimate_s(fit.race) + fit.finals.refine_s(fit.race):
            fit.finals.refine(fit.race)
            fit.finals.deepen(fit.race)
    with fit.ledger.stage("certify"):
        fit.progress.stage("certify", fit.finals.rounds)
        return fit.finals.run(fit.race, lambda: fit.progress.advance(1, "fresh processes measured"))
