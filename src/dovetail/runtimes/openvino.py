"""OpenVINO on the processor."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dovetail.core.errors import ModelError
from dovetail.core.measurement import Environment
from dovetail.core.profile import Kernel, KernelTime, Profile
from dovetail.core.protocols import Feeds, Knob, Model, Runtime, Session
from dovetail.core.recipe import Scalar
from dovetail.runtimes.options import Option, flag, resolve, thread_counts
from dovetail.runtimes.timing import call_times, median
from dovetail.runtimes.wrapped import WrappedSession, source_with

if TYPE_CHECKING:
    from dovetail.runtimes.standalone import openvino_session

_OPERATORS = re.compile(r"Conversion is failed for: (.+)|does not support the following ONNX operations: (.+)")
_NO_KERNEL = frozenset({"Const", "Input", "Output"})


class OpenVino(Runtime):
    """OpenVINO's CPU plug-in. It computes in float32 unless a recipe says otherwise; its own default may be bfloat16."""

    name: ClassVar[str] = "openvino"
    formats: ClassVar[frozenset[str]] = frozenset({"onnx", "openvino"})
    integer_forms: ClassVar[frozenset[str]] = frozenset({"int8"})
    requirement: ClassVar[str] = "openvino"

    def missing(self) -> str | None:
        """One line when the package is absent."""
        return None if importlib.util.find_spec("openvino") else "openvino is not installed: pip install openvino"

    def knobs(self, environment: Environment) -> tuple[Knob, ...]:
        """Low precisions are offered only where the processor computes in them."""
        return tuple(option.knob() for option in _options(environment.cores, environment.isa))

    def build(self, model: Model, options: Mapping[str, Scalar]) -> Session:
        """Reads and compiles the model; with ``static`` it compiles at the first call.

        Raises:
            ModelError: not a valid model, or an operator that OpenVINO lacks.
            InputError: an option it does not have.
        """
        return _OpenVinoSession(model.path, resolve(self.name, _options(1), options))

    def run_source(self, options: Mapping[str, Scalar]) -> str:
        """The session's own source file with these options written in."""
        from dovetail.runtimes.standalone import openvino_session

        return source_with(openvino_session, resolve(self.name, _options(1), options))


def _options(cores: int, isa: tuple[str, ...] = ()) -> tuple[Option, ...]:
    low = []
    if {"avx512_bf16", "amx_bf16", "bf16"} & set(isa):
        low.append("bf16")
    if {"avx512_fp16", "amx_fp16", "asimdhp"} & set(isa):
        low.append("f16")
    return (
        Option(name="threads", default=None, tries=thread_counts(cores), help="threads inside an operator"),
        Option(
            name="precision",
            default="f32",
            values=("f32", "bf16", "f16", "default"),
            tries=tuple(low),
            lossless=False,
            help="numeric type of floating-point operators",
        ),
        flag("static", False, "compile for the shapes of the first call", tries=(True,)),
        Option(name="mode", default="latency", values=("latency", "throughput"), help="what the plug-in optimises for"),
        Option(name="streams", default=None, help="calls in flight that it prepares for"),
        Option(name="pinning", default=None, values=(None, True, False), help="bind threads to cores"),
        Option(name="hyper_threading", default=None, values=(None, True, False), help="use both threads of a core"),
        Option(
            name="dynamic_quantization",
            default=None,
            values=(None, 0, 32, 64, 128),
            lossless=False,
            help="group size in which activations of weight-compressed layers are quantised; 0 for never",
        ),
    )


class _OpenVinoSession(WrappedSession["openvino_session.Session"]):
    vendor: ClassVar[str] = "OpenVINO"

    def __init__(self, path: Path, options: Mapping[str, Scalar]) -> None:
        super().__init__(path, _load(path, options))
        self._options = options

    def _reason(self, error: Exception) -> str:
        return _reason(error)

    def profile(self, feeds: Feeds, repeats: int = 30) -> Profile:
        self.run(feeds)
        call_s = median(call_times(self._call, feeds, repeats))
        counted = _load(self._path, self._options, {"PERF_COUNT": True})
        counted.run(feeds)
        first = _execution(counted)
        for _ in range(repeats):
            counted.run(feeds)
        kernels = _kernels(first, _execution(counted), repeats)
        threads = counted.compiled.get_property("INFERENCE_NUM_THREADS")
        return Profile(runtime=OpenVino.name, call_s=call_s, kernels=kernels, threads=threads)


    def kernels(self, feeds: Feeds) -> tuple[Kernel, ...]:
        """Sizes that may vary are those of the feeds: such a model is compiled once more for them."""
        fixed = _load(self._path, {**self._options, "static": True}, {"PERF_COUNT": True})
        fixed.run(feeds)
        return tuple(Kernel(**_facts(name, node)) for name, node in _execution(fixed).items() if _computes(node))


def _execution(session: openvino_session.Session) -> dict[str, dict[str, Any]]:
    """Facts of each executed node, in the order of execution."""
    nodes: dict[str, dict[str, Any]] = {}
    for op in session.compiled.get_runtime_model().get_ordered_ops():
        facts = {key: value.astype(str) for key, value in op.get_rt_info().items()}
        sources = [port.get_source_output().get_node().friendly_name for port in op.inputs()]
        nodes[op.friendly_name] = {
            **facts,
            "inputs": _shapes(op.inputs()),
            "outputs": _shapes(op.outputs()),
            "stored": facts["layerType"] == "Const" or bool(sources) and all(nodes[name]["stored"] for name in sources),
        }
    return dict(sorted(nodes.items(), key=lambda item: int(item[1]["execOrder"])))


def _shapes(ports: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    """Sizes of tensors; none at all where one of them may vary."""
    shapes = [port.get_partial_shape() for port in ports]
    if any(shape.is_dynamic for shape in shapes):
        return ()
    return tuple(tuple(shape.to_shape()) for shape in shapes)


def _kernels(
    first: Mapping[str, Mapping[str, Any]], last: Mapping[str, Mapping[str, Any]], repeats: int
) -> tuple[KernelTime, ...]:
    """OpenVINO averages over all calls, the slow first one too: it is taken out again. Its clock counts whole microseconds."""
    kernels = []
    for name, node in last.items():
        if _computes(node):
            mean_s = (_micros(node) * (repeats + 1) - _micros(first[name])) / repeats * 1e-6
            kernels.append(KernelTime(**_facts(name, node), time_s=max(0.0, mean_s)))
    return tuple(kernels)


def _computes(node: Mapping[str, Any]) -> bool:
    """Whether a call executed it: views did not run, and what comes of constants alone ran when the model was compiled.

    The time of the latter, as of weights that are converted to another type, is stated as if it were that of every call.
    """
    return node["layerType"] not in _NO_KERNEL and node["execTimeMcs"] != "not_executed" and not node["stored"]


def _facts(name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "kind": node["layerType"],
        "implementation": node["primitiveType"],
        "dtype": node["runtimePrecision"],
        "sources": tuple(node["originalLayersNames"].split(",")) if node["originalLayersNames"] else (),
        "inputs": node["inputs"],
        "outputs": node["outputs"],
    }


def _micros(node: Mapping[str, Any]) -> float:
    """A node may run in later calls and not in the first."""
    text = node["execTimeMcs"]
    return 0.0 if text == "not_executed" else float(text)


def _load(path: Path, options: Mapping[str, Scalar], properties: dict[str, Any] | None = None) -> openvino_session.Session:
    from dovetail.runtimes.standalone import openvino_session

    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    try:
        return openvino_session.Session(str(path), options, properties)
    except Exception as error:
        found = _OPERATORS.search(str(error))
        if found:
            what = f"OpenVINO cannot take these operators of the model: {found[1] or found[2]}"
            raise ModelError(what, where=str(path)) from error
        raise ModelError(f"OpenVINO cannot load the model: {_reason(error)}", where=str(path)) from error


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's chain of messages that says something; all its errors are plain RuntimeErrors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check ", "Summary"))]
    return (told or lines or [type(error).__name__])[-1][:300]
