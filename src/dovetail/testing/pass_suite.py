"""What every pass promises. Subclass in a test module, set ``compression_pass``, and pytest runs all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from dovetail.core.errors import ModelError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Feeds, Model, Outputs, Pass, PassContext
from dovetail.testing.models import Case, conv_net, wide_mlp
from dovetail.testing.samples import MemoryDataset

LOSSLESS = 1e-3
"""Relative difference that a pass may cause when it promises equal outputs."""


class PassConformance:
    """Mixin of tests.

    Attributes:
        compression_pass: the pass under test.
        config: its parameters.
        case: makes a graph that it takes.
        bulky: makes a graph that it takes and that is all weights.
        refuses: make models that it cannot take.
        isa: instruction sets of the machine it is told to work for.
    """

    compression_pass: ClassVar[Pass]
    config: ClassVar[Mapping[str, Any]] = {}
    case: ClassVar[Callable[[], Case]] = staticmethod(conv_net)
    bulky: ClassVar[Callable[[], Case]] = staticmethod(wide_mlp)
    refuses: ClassVar[Sequence[Callable[[], onnx.ModelProto]]] = ()
    isa: ClassVar[tuple[str, ...]] = ("avx2", "avx512f", "avx512_vnni")

    @pytest.fixture
    def original(self, tmp_path: Path) -> Model:
        """The graph of :attr:`case` on disk."""
        folder = tmp_path / "original"
        folder.mkdir()
        return type(self).case().save(folder)

    def apply(self, model: Model, folder: Path, case: Case | None = None) -> Model:
        """The pass's result in an empty folder of its own, calibrated on the case's feeds."""
        folder.mkdir()
        case = case or type(self).case()
        here = Environment(fingerprint="", cpu="", cores=1, isa=self.isa, memory_bytes=1e9, os="", python="")
        samples = MemoryDataset([case.feeds, case.others] * 4)
        return self.compression_pass.apply(
            model, PassContext(workdir=folder, environment=here, config=self.config, calibration=samples)
        )

    def test_has_a_name_and_a_version(self) -> None:
        """Both are part of a recipe."""
        assert self.compression_pass.name and self.compression_pass.version >= 1

    def test_writes_into_its_own_folder_only(self, original: Model, tmp_path: Path) -> None:
        """The result lies in the working folder, and the original is as it was."""
        before = _digest(original)
        result = self.apply(original, tmp_path / "result")
        assert all(path.is_file() and path.is_relative_to(tmp_path / "result") for path in result.files())
        assert _digest(original) == before

    def test_keeps_the_interface(self, original: Model, tmp_path: Path) -> None:
        """Names, dtypes and ranks of inputs and outputs, in their order."""
        assert interface(self.apply(original, tmp_path / "result")) == interface(original)

    def test_outputs_are_finite_and_close_where_promised(self, original: Model, tmp_path: Path) -> None:
        """Lossless means equal within a thousandth of the greatest output."""
        feeds = type(self).case().feeds
        expected, got = compute(original, feeds), compute(self.apply(original, tmp_path / "result"), feeds)
        for e, g in zip(expected, got, strict=True):
            assert g.shape == e.shape and np.isfinite(g).all()
            if self.compression_pass.lossless:
                assert np.abs(g - e).max() <= LOSSLESS * max(1e-6, float(np.abs(e).max()))

    def test_is_deterministic(self, original: Model, tmp_path: Path) -> None:
        """The same model and parameters give the same file, or at least the same outputs to the last bit."""
        first, second = self.apply(original, tmp_path / "first"), self.apply(original, tmp_path / "second")
        if _digest(first) != _digest(second):
            feeds = type(self).case().feeds
            for a, b in zip(compute(first, feeds), compute(second, feeds), strict=True):
                np.testing.assert_array_equal(a, b)

    def test_shrinks_where_promised(self, tmp_path: Path) -> None:
        """A pass that promises a smaller file delivers one."""
        if not self.compression_pass.shrinks:
            pytest.skip("promises no smaller file")
        case = type(self).bulky()
        (tmp_path / "bulky").mkdir()
        original = case.save(tmp_path / "bulky")
        assert self.apply(original, tmp_path / "result", case).size_bytes() < original.size_bytes()

    def test_refuses_what_it_cannot_take(self, original: Model, tmp_path: Path) -> None:
        """With a ModelError, which becomes the reason why a candidate is infeasible."""
        for index, make in enumerate(self.refuses):
            onnx.save(make(), str(original.path))
            with pytest.raises(ModelError):
                self.apply(original, tmp_path / f"refused_{index}")


def _digest(model: Model) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in model.files())).hexdigest()


def compute(model: Model, feeds: Feeds) -> Outputs:
    """Outputs by ONNX Runtime, or by OpenVINO or LiteRT for their own formats, in float32 on one thread."""
    if model.format == "onnx":
        import onnxruntime

        config = onnxruntime.SessionOptions()
        config.intra_op_num_threads = 1
        outputs: Outputs = onnxruntime.InferenceSession(str(model.path), config).run(None, dict(feeds))
        return outputs
    if model.format == "litert":
        run = _litert(model)
        results = run(**{name: feeds[name] for name in run.get_input_details()})
        return [results[name] for name, _, _ in interface(model)[len(feeds) :]]
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return list(openvino.Core().compile_model(model.path, "CPU", settings)(dict(feeds)).values())


def interface(model: Model) -> list[tuple[str, str, int]]:
    """Name, dtype and rank of the inputs and then the outputs."""
    if model.format == "onnx":
        graph = onnx.load(str(model.path), load_external_data=False).graph
        constants = {tensor.name for tensor in graph.initializer}
        values = [value for value in (*graph.input, *graph.output) if value.name not in constants]
        return [(v.name, _dtype(v.type.tensor_type.elem_type), len(v.type.tensor_type.shape.dim)) for v in values]
    if model.format == "litert":
        run = _litert(model)
        ports = [*run.get_input_details().items(), *run.get_output_details().items()]
        return [(name, np.dtype(port["dtype"]).name, len(port["shape"])) for name, port in ports]
    import openvino

    network = openvino.Core().read_model(model.path)
    return [
        (port.get_any_name(), np.dtype(port.element_type.to_dtype()).name, port.partial_shape.rank.get_length())
        for port in (*network.inputs, *network.outputs)
    ]


def _litert(model: Model) -> Any:
    """The one signature of a LiteRT file, which has the names of the model it was made from."""
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(model.path), num_threads=1).get_signature_runner()


def _dtype(element: int) -> str:
    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element)).name)
