"""What became of a candidate, and of a whole search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dovetail.core.certificate import Certificate
from dovetail.core.energy import MeasuredEnergy
from dovetail.core.explanation import Explanation
from dovetail.core.measurement import Environment, Interval, Measurement
from dovetail.core.profile import Profile
from dovetail.core.recipe import Recipe
from dovetail.core.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Infeasible:
    """A candidate that cannot run here: a stored value, not an exception.

    Attributes:
        stage: ``build``, ``load``, ``run``, ``quality``, ``measure`` or ``limits``.
        reason: one line for people.
        detail: the end of what the child process printed.
        reproduce: a command that shows the failure again.
    """

    stage: str
    reason: str
    detail: str = ""
    reproduce: str = ""


class Fate(StrEnum):
    """Where a candidate's way through the search ended."""

    BASELINE = "baseline"
    INFEASIBLE = "infeasible"
    PREDICTED_OUT = "predicted_out"
    TOO_SLOW = "too_slow"
    QUALITY = "quality"
    OUT_OF_TIME = "out_of_time"
    RUNNER_UP = "runner_up"
    FINALIST = "finalist"
    WINNER = "winner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Quality of a candidate on one split: the metric's value, and the drop against the original with its interval.

    ``drop`` is positive when the candidate is worse, whatever the metric's direction.
    """

    split: str
    n: int
    value: float
    reference: float
    drop: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRecord:
    """Everything known of one candidate.

    Attributes:
        notes: what its passes had to adjust.
        energy: of a sample, where a meter could be read.
    """

    recipe: Recipe
    fate: Fate
    reason: str
    is_baseline: bool = False
    label: str = ""
    size_bytes: float | None = None
    build_s: float | None = None
    screening: Measurement | None = None
    measurement: Measurement | None = None
    speedup: Interval | None = None
    quality: Quality | None = None
    infeasible: Infeasible | None = None
    profile: Profile | None = None
    certificates: tuple[Certificate, ...] = ()
    explanation: Explanation | None = None
    notes: tuple[str, ...] = ()
    energy: MeasuredEnergy | None = None

    @property
    def latency_s(self) -> float | None:
        """Best known median latency; ``None`` when it never ran."""
        best = self.measurement or self.screening
        return None if best is None else best.latency_s

    @property
    def memory_bytes(self) -> float | None:
        """Resident peak of its process; ``None`` when it was not read."""
        best = self.measurement or self.screening
        return None if best is None else best.peak_memory_bytes


class FitStatus(StrEnum):
    """The answer to the user's question."""

    CERTIFIED = "certified"
    BEST_EFFORT = "best_effort"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What one stage of the search cost."""

    stage: str
    seconds: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWidth:
    """Units of one layer (channels, heads) before and after something was taken away; ``after`` is 0 where all of it went."""

    layer: str
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeStep:
    """One pass of the answer's recipe.

    Attributes:
        step: the pass with its parameters.
        seconds: that it took.
        size_bytes: of the model file that came out.
        loss: (epoch, training loss), where it trained.
        layers: where it took something away.
    """

    step: str
    seconds: float
    size_bytes: float
    loss: tuple[tuple[float, float], ...] = ()
    layers: tuple[LayerWidth, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """The answer of ``dovetail optimize``.

    Attributes:
        status: certified, best effort, or infeasible.
        headline: one sentence that answers the user.
        beats_baseline: false for "nothing beats the baseline".
        relaxation: the nearest limit that could be met, when infeasible.
        winner: recipe key of the answer; a baseline's when nothing beats it; empty when infeasible.
        best_baseline: recipe key of the fastest baseline, against which speed is claimed.
        default_baseline: recipe key of the original on ONNX Runtime with its defaults, the "before" of the table.
        candidates: every candidate with its fate, baselines included.
        front: recipe keys of the certified variants that the user may choose from.
        objective: ``latency``, ``throughput``, ``size`` or ``memory``.
        margin: permitted drop in the metric's unit; ``None`` when quality was not judged.
        artifact: folder that was written, empty when none was.
        runs_alone: the artifact has a ``run.py``, which needs nothing of Dovetail.
        sensitivity: layer → drop it causes alone when quantised, where that was measured.
        made: how the answer was made, pass by pass.
        energy_note: how energy was measured, or why it is not known.
    """

    status: FitStatus
    headline: str
    beats_baseline: bool
    winner: str
    best_baseline: str
    default_baseline: str
    candidates: tuple[CandidateRecord, ...]
    front: tuple[str, ...]
    objective: str
    metric: str
    max_drop: str
    model_name: str
    model_hash: str
    workload: Workload | None
    environment: Environment
    splits: Mapping[str, int]
    ledger: tuple[LedgerRow, ...]
    relaxation: str = ""
    margin: float | None = None
    artifact: str = ""
    runs_alone: bool = False
    warnings: tuple[str, ...] = ()
    sensitivity: Mapping[str, float] = field(default_factory=dict)
    command: str = ""
    seconds: float = 0.0
    energy_note: str = ""
    made: tuple[MadeStep, ...] = ()

    def record(self, key: str) -> CandidateRecord:
        """The candidate with this recipe key.

        Raises:
            KeyError: no such candidate.
        """
        for candidate in self.candidates:
            if candidate.recipe.key == key:
                return candidate
        raise KeyError(key)
