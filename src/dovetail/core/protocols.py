"""The signatures the product rests on. Stages implement them; ``pipeline.py`` and ``worker.py`` wire them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from numpy.typing import NDArray

from dovetail.core.energy import EnergyReading
from dovetail.core.measurement import Environment, Measurement
from dovetail.core.outcome import Infeasible
from dovetail.core.profile import Kernel, Profile
from dovetail.core.recipe import Recipe, Scalar
from dovetail.core.workload import Workload

if TYPE_CHECKING:
    from dovetail.core.training import Objective, Schedule, Trained

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Outputs = Sequence[Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: the model's own name for it.
        dtype: numpy name (``float32``).
        shape: sizes; a string is a symbolic dimension, ``None`` an unknown one.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model file on disk.

    Attributes:
        path: the main file (``model.onnx``, ``model.xml``). Weights that it does not hold lie in one file beside it:
            ``model.onnx.data``, ``model.bin``.
        format: ``onnx``, ``openvino`` or ``litert``.
    """

    path: Path
    format: str = "onnx"

    def files(self) -> list[Path]:
        """The main file, then the weights beside it: all that belongs to the model."""
        if self.format == "openvino":
            return [self.path, self.path.with_suffix(".bin")]
        weights = self.path.with_name(f"{self.path.name}.data")
        return [self.path, weights] if weights.exists() else [self.path]

    def size_bytes(self) -> int:
        """Bytes on disk of all its files."""
        return sum(p.stat().st_size for p in self.files() if p.exists())


class Session(ABC):
    """A model ready to run in one runtime. Not thread-safe; close it when done."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @abstractmethod
    def run(self, feeds: Feeds) -> Outputs:
        """Runs one call; the result has the order of :attr:`outputs` and belongs to the caller.

        Raises:
            DataError: a feed is missing or has another dtype or rank than the model declares.
        """

    def profile(self, feeds: Feeds, repeats: int = 30) -> Profile | None:
        """Kernel times of a call, or ``None`` where the runtime cannot tell."""
        del feeds, repeats
        return None

    def kernels(self, feeds: Feeds) -> tuple[Kernel, ...] | None:
        """What a call with such feeds executes, in order, or ``None`` where the runtime cannot tell. Takes one call at most."""
        del feeds
        return None

    def close(self) -> None:
        """Frees threads and memory; calling it twice is harmless."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One option of a runtime.

    Attributes:
        name: option key in a recipe.
        default: what the runtime does when it is absent.
        choices: values worth trying on the machine at hand, the default included, in the order of promise.
        lossless: false when it can change outputs beyond rounding (a lower precision).
    """

    name: str
    default: Scalar
    choices: tuple[Scalar, ...]
    lossless: bool = True
    help: str = ""


class Runtime(ABC):
    """A way to run model files. Built-in and third-party runtimes register under ``dovetail.runtimes``."""

    name: ClassVar[str]
    formats: ClassVar[frozenset[str]]
    requirement: ClassVar[str] = ""
    """pip requirement that brings it, for the message when it is missing."""
    integer_forms: ClassVar[frozenset[str]] = frozenset({"int8", "int8-dynamic"})
    """Quantised forms of a model that it multiplies in integers. The others it computes in float, which gains nothing."""

    @abstractmethod
    def missing(self) -> str | None:
        """``None`` when it can run here, else one line that says what is missing."""

    @abstractmethod
    def knobs(self, environment: Environment) -> tuple[Knob, ...]:
        """Its options on this machine."""

    @abstractmethod
    def build(self, model: Model, options: Mapping[str, Scalar]) -> Session:
        """Loads and compiles.

        Raises:
            ModelError: the runtime cannot take this model; names the operator where it can.
        """

    def run_source(self, options: Mapping[str, Scalar]) -> str:
        """Python source for an artifact's ``run.py``: defines ``class Session`` with numpy and this one runtime alone.

        ``Session(path)`` has ``inputs`` and ``outputs`` (name, dtype, shape) and ``run(feeds) -> list of arrays``.
        """
        raise NotImplementedError(f"{self.name} cannot be deployed as a script")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample: feeds with their batch axis, and its label (``None`` without labels)."""

    feeds: Feeds
    label: Any = None


@runtime_checkable
class Dataset(Protocol):
    """Samples of one split, readable in any process."""

    @property
    def name(self) -> str:
        """``calibration``, ``selection``, ``certification``, or what the writer chose."""
        ...

    @property
    def content_hash(self) -> str:
        """Sixteen hex digits over feeds, labels and groups."""
        ...

    @property
    def labels(self) -> Array | None:
        """Labels by sample, ``None`` without."""
        ...

    @property
    def groups(self) -> Array:
        """``[n]`` integers, the independent unit of each sample."""
        ...

    def __len__(self) -> int: ...

    def sample(self, index: int) -> Sample:
        """One sample; every feed has a leading batch axis of 1 where the model has one."""
        ...

    def batch(self, indices: Sequence[int]) -> Feeds | None:
        """Several samples stacked along the batch axis; ``None`` when their shapes differ."""
        ...


class Metric(Protocol):
    """Judges outputs. Each independent unit is reduced to a row; ``value`` turns rows into the metric.

    Attributes:
        name: registry name.
        higher_is_better: direction.
        binary: rows are 0/1 correctness of one column, so a paired score interval applies.
        needs_reference: compares with the original's outputs instead of labels.
    """

    name: str
    higher_is_better: bool
    binary: bool
    needs_reference: bool

    def value(self, rows: Array) -> float:
        """The metric of some units; ``rows`` is ``[n, k]``, one row per independent unit."""
        ...


class Trainer(Protocol):
    """Trains the weights of a model file; structure, names and interface stay."""

    def fit(
        self,
        model: Model,
        *,
        out: Path,
        objective: Objective,
        schedule: Schedule,
        teacher: Model | None = None,
        progress: Callable[[float, str], None] | None = None,
    ) -> Trained:
        """Writes the trained model to ``out`` and returns it. A killed call, made again, goes on where it was.

        Args:
            model: an ONNX file.
            out: file to write.
            objective: what is minimised.
            schedule: how.
            teacher: what distillation terms compare with; takes the same inputs.
            progress: called with (fraction 0..1, text).

        Raises:
            InputError: a setting that does not suit the data, or a budget too short for one epoch.
            DataError: no training data, or labels that the loss cannot use.
            ModelError: the graph cannot be trained, or the loss became NaN before anything good came of it.
        """
        ...


class Pass(ABC):
    """One change of a model, made in a child process. Registered under ``dovetail.passes``."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    needs_calibration: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    """Changes weights by training, so it needs ``PassContext.trainer``."""
    lossless: ClassVar[bool] = False
    """Promises outputs equal to the original's within rounding (checked by the framework at 1e-3 relative)."""
    shrinks: ClassVar[bool] = False
    """Promises a smaller file (checked by the framework)."""

    @abstractmethod
    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes the changed model under ``ctx.workdir`` and returns it.

        Raises:
            ModelError: it does not apply to this model; the message names why.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class PassContext:
    """What a pass may need without importing it.

    Attributes:
        workdir: an empty folder of its own.
        environment: the machine; its instruction set decides settings.
        calibration: calibration samples, ``None`` without data.
        config: parameters of the pass, from the recipe.
        seed: for every random choice.
        progress: called with (fraction 0..1, text).
        note: called with a phrase that users should see beside the result.
        score: drop of a model file on a slice of the selection split, for passes that look at quality.
        cost: seconds per call of a model file as quickly measured or estimated; ``None`` without.
        trainer: trains model files; ``None`` where nothing can be trained.
        training: training samples, ``None`` without; they neither select nor certify.
        original: the model that everything started from, for passes that learn from it.
    """

    workdir: Path
    environment: Environment
    config: Mapping[str, Any] = field(default_factory=dict)
    calibration: Dataset | None = None
    workload: Workload | None = None
    seed: int = 0
    progress: Callable[[float, str], None] = lambda fraction, text: None
    note: Callable[[str], None] = lambda text: None
    score: Callable[[Model], float] | None = None
    cost: Callable[[Model], float] | None = None
    trainer: Trainer | None = None
    training: Dataset | None = None
    original: Model | None = None


class Meter(ABC):
    """Sees the energy that is drawn between two moments. Registered under ``dovetail.meters``."""

    name: ClassVar[str]
    preference: ClassVar[int] = 50
    """Of several that can be read the one with the lowest number is taken."""

    @abstractmethod
    def missing(self) -> str | None:
        """``None`` when it can be read here, else one line that says why not."""

    @property
    @abstractmethod
    def scope(self) -> str:
        """What it sees: ``package-0``, ``VDD_IN``."""

    @abstractmethod
    def start(self) -> None:
        """Begins."""

    @abstractmethod
    def stop(self) -> EnergyReading | None:
        """Ends; ``None`` when what was drawn since the start cannot be told."""


class Bench(Protocol):
    """Measures candidates on the machine."""

    def measure(self, recipe: Recipe, model: Model) -> Measurement | Infeasible:
        """Measures one candidate, or says why it cannot run."""
        ...
