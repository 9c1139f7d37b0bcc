"""One fit, fully described: the model, its data, what is wanted, and this machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dovetail.core.constraint import Constraint, MaxDrop
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Metric, Model, TensorSpec
from dovetail.core.recipe import digest
from dovetail.core.sizes import Shapes
from dovetail.core.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user asks for beside model and data.

    Attributes:
        max_drop: permitted loss of quality against the original.
        constraints: limits on latency, throughput, memory, size.
        objectives: of ``latency``, ``throughput``, ``size`` and ``memory``, the one that decides first.
        budget_s: time for the whole command, training apart.
        train_budget_s: time for training.
        runtimes: registry names to try.
        variants: how many variants to certify; 0 lets the amount of data decide.
    """

    max_drop: MaxDrop
    constraints: tuple[Constraint, ...] = ()
    objectives: tuple[str, ...] = ("latency",)
    budget_s: float = 600.0
    train_budget_s: float = 0.0
    runtimes: tuple[str, ...] = ()
    variants: int = 0
    batch: int = 1
    seed: int = 0

    @property
    def objective(self) -> str:
        """The one that decides."""
        return self.objectives[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One split on disk; ``units`` counts independent sources, ``samples`` what the model is run on."""

    folder: Path
    samples: int
    units: int
    content_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that the stages need to know of one fit.

    Attributes:
        name: of the model, for people.
        original: the model as the user gave it, in ONNX form; weights in several files are gathered in one.
        native: the file itself where it is not ONNX but runs as it is in a runtime of its own.
        source: its normalised form, from which passes start.
        splits: ``calibration``, ``selection``, ``certification`` where there are data, ``training`` where some may be
            trained on, and always ``timing``.
        timing_indices: samples of the ``timing`` split that one block goes through.
        call_shapes: shapes of the calls that are timed, equal ones once.
        values: input → the declared value that every call feeds to it, as plain numbers and lists.
        metric_spec: how the metric was named; ``None`` without data.
        metric_hash: of the file that holds the user's own metric; empty for those of Dovetail.
        metric: the metric itself.
        state: recurrent input → output that carries it.
        free_dims: symbolic dimension → its size in every call; empty where sizes vary or nobody tells them.
    """

    name: str
    original: Model
    source: Model
    model_hash: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    workload: Workload | None
    environment: Environment
    wish: Wish
    splits: Mapping[str, Split]
    timing_indices: tuple[int, ...]
    call_shapes: tuple[Shapes, ...]
    metric_spec: object = None
    metric_hash: str = ""
    metric: Metric | None = None
    state: Mapping[str, str] = field(default_factory=dict)
    free_dims: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, object] = field(default_factory=dict)
    native: Model | None = None
    warnings: tuple[str, ...] = ()

    def unchanged(self, formats: Collection[str]) -> Model:
        """The model as a runtime of these formats runs it without passes."""
        return self.native if self.native is not None and self.native.format in formats else self.original

    @property
    def judged(self) -> bool:
        """Whether quality can be judged at all."""
        return self.metric is not None and "selection" in self.splits

    @property
    def trained(self) -> bool:
        """Whether weights may be trained."""
        return self.judged and "training" in self.splits

    @property
    def fixed_sizes(self) -> bool:
        """Whether every call has the same input shapes, by the model, the data or what the job declares."""
        return bool(self.free_dims) or all(isinstance(size, int) for spec in self.inputs for size in spec.shape)

    @property
    def data_hashes(self) -> dict[str, str]:
        """Split name → content hash."""
        return {name: split.content_hash for name, split in self.splits.items()}

    @property
    def judgement(self) -> dict[str, object]:
        """What decides the quality of a model on given samples."""
        return {"metric": str(self.metric_spec), "source": self.metric_hash, "state": dict(self.state)}

    @property
    def digest(self) -> str:
        """Hash over everything that makes measurements of this fit comparable; names its journal."""
        wish = self.wish
        return digest(
            {
                "model": self.model_hash,
                "data": self.data_hashes,
                "judgement": self.judgement,
                "machine": self.environment.fingerprint,
                "versions": dict(self.environment.versions),
                "wish": [str(wish.max_drop), *wish.objectives, wish.batch, wish.seed, wish.variants, *wish.runtimes],
                "limits": [str(c) for c in wish.constraints],
            }
        )
