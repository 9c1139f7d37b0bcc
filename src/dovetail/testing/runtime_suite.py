"""What every runtime promises. Subclass in a test module, set ``runtime``, and pytest runs all of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.measurement import Environment
from dovetail.core.protocols import Feeds, Model, Outputs, Runtime, Session
from dovetail.core.recipe import Scalar
from dovetail.testing.models import CASES, Case, conv_net, mlp, unknown_operator


def reference(proto: onnx.ModelProto, feeds: Feeds) -> Outputs:
    """What ONNX Runtime computes without any optimisation."""
    import onnxruntime

    config = onnxruntime.SessionOptions()
    config.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    config.intra_op_num_threads = 1
    outputs: Outputs = onnxruntime.InferenceSession(proto.SerializeToString(), config).run(None, dict(feeds))
    return outputs


class RuntimeConformance:
    """Mixin of tests.

    Attributes:
        runtime: the runtime under test.
        options: options that every session of the suite is built with.
        tolerance: permitted difference from the reference, relative to the greatest magnitude of the output.
        computes: false for a runtime that only pretends to.
    """

    runtime: ClassVar[Runtime]
    options: ClassVar[Mapping[str, Scalar]] = {}
    tolerance: ClassVar[float] = 1e-4
    computes: ClassVar[bool] = True

    @pytest.fixture(params=sorted(CASES))
    def case(self, request: pytest.FixtureRequest) -> Case:
        """Each graph of the suite in turn."""
        return CASES[request.param]()

    def save(self, case: Case, folder: Path) -> Model:
        """Writes a case; a runtime of another format writes the same graph with the same names and weights."""
        return case.save(folder)

    def save_unknown(self, folder: Path) -> Model:
        """Writes a model whose one operator, ``Frobnicate``, no runtime has."""
        model = mlp().save(folder)
        onnx.save(unknown_operator(), str(model.path))
        return model

    def session(self, case: Case, folder: Path, **options: Scalar) -> Session:
        """A session on a case, with the suite's options unless others are given."""
        return self.runtime.build(self.save(case, folder), {**self.options, **options})

    def close_enough(self, got: Outputs, expected: Outputs) -> None:
        """Asserts equal count, shapes and dtypes, and values within the tolerance."""
        assert [(g.shape, g.dtype) for g in got] == [(e.shape, e.dtype) for e in expected]
        if self.computes:
            for g, e in zip(got, expected, strict=True):
                assert np.abs(g - e).max() <= self.tolerance * max(1.0, float(np.abs(e).max()))

    def test_is_present(self) -> None:
        """Nothing is missing, else the suite could not run."""
        assert self.runtime.missing() is None

    def test_declares_the_models_interface(self, case: Case, tmp_path: Path) -> None:
        """Names in the model's order, with its dtypes and ranks."""
        session = self.session(case, tmp_path)
        assert [spec.name for spec in session.inputs] == [value.name for value in case.proto.graph.input]
        assert [spec.name for spec in session.outputs] == [value.name for value in case.proto.graph.output]
        for spec in session.inputs:
            assert spec.dtype == case.feeds[spec.name].dtype.name
            assert len(spec.shape) == case.feeds[spec.name].ndim
        session.close()

    def test_outputs_match_the_reference(self, case: Case, tmp_path: Path) -> None:
        """The same feeds give the same outputs as unoptimised ONNX Runtime."""
        session = self.session(case, tmp_path)
        self.close_enough(session.run(case.feeds), reference(case.proto, case.feeds))
        self.close_enough(session.run(case.others), reference(case.proto, case.others))
        session.close()

    def test_outputs_belong_to_the_caller(self, case: Case, tmp_path: Path) -> None:
        """Neither a later call, nor a changed feed, nor a changed result of another call alters a result."""
        session = self.session(case, tmp_path)
        feeds = {name: value.copy() for name, value in case.feeds.items()}
        first = session.run(feeds)
        kept = [output.copy() for output in first]
        session.run(case.others)
        for value in feeds.values():
            value[...] = 0
        for output, copy in zip(first, kept, strict=True):
            np.testing.assert_array_equal(output, copy)
            output[...] = 0
        for output, copy in zip(session.run(case.feeds), kept, strict=True):
            np.testing.assert_array_equal(output, copy)
        session.close()

    def test_batch_may_change_from_call_to_call(self, tmp_path: Path) -> None:
        """A symbolic size takes any value, and back."""
        case = mlp()
        session = self.session(case, tmp_path)
        for batch in (2, 5, 1, 2):
            feeds = {"x": np.random.default_rng(batch).normal(size=(batch, 32)).astype(np.float32)}
            self.close_enough(session.run(feeds), reference(case.proto, feeds))
        session.close()

    @pytest.mark.parametrize("fault", ["missing", "unknown", "dtype", "rank", "size"])
    @pytest.mark.parametrize("warm", [False, True])
    def test_wrong_feeds_are_named(self, fault: str, warm: bool, tmp_path: Path) -> None:
        """A wrong feed raises a DataError with its name, before and after good calls, and good calls still work."""
        case = conv_net()
        session = self.session(case, tmp_path)
        if warm:
            session.run(case.feeds)
        x = case.feeds["x"]
        bad: dict[str, Feeds] = {
            "missing": {},
            "unknown": {"x": x, "extra": x},
            "dtype": {"x": x.astype(np.float64)},
            "rank": {"x": x[0]},
            "size": {"x": x[:, :2]},
        }
        with pytest.raises(DataError, match="extra" if fault == "unknown" else "x"):
            session.run(bad[fault])
        self.close_enough(session.run(case.feeds), reference(case.proto, case.feeds))
        session.close()

    def test_awkward_memory_is_taken(self, tmp_path: Path) -> None:
        """Feeds that are read-only or not contiguous give the same outputs."""
        case = conv_net()
        session = self.session(case, tmp_path)
        expected = reference(case.proto, case.feeds)
        frozen = case.feeds["x"].copy()
        frozen.flags.writeable = False
        strided = np.asfortranarray(case.feeds["x"])
        self.close_enough(session.run({"x": frozen}), expected)
        self.close_enough(session.run({"x": strided}), expected)
        session.close()

    def test_closing_twice_is_harmless(self, tmp_path: Path) -> None:
        """And a closed session refuses to run."""
        case = mlp()
        session = self.session(case, tmp_path)
        session.close()
        session.close()
        with pytest.raises(InputError):
            session.run(case.feeds)

    def test_every_choice_of_every_knob_works(self, tmp_path: Path) -> None:
        """Knobs offer their default; lossless ones change no output."""
        here = Environment(fingerprint="", cpu="", cores=2, isa=(), memory_bytes=1e9, os="", python="")
        case = conv_net()
        for knob in self.runtime.knobs(here):
            assert knob.default in knob.choices
            for choice in knob.choices:
                session = self.session(case, tmp_path, **{knob.name: choice})
                got = session.run(case.feeds)
                if knob.lossless:
                    self.close_enough(got, reference(case.proto, case.feeds))
                session.close()

    def test_unknown_options_are_refused(self, tmp_path: Path) -> None:
        """With the key in the message."""
        model = self.save(mlp(), tmp_path)
        with pytest.raises(InputError, match="no_such_option"):
            self.runtime.build(model, {"no_such_option": 1})

    def test_files_that_are_no_model_are_refused(self, tmp_path: Path) -> None:
        """A missing file and a file of noise."""
        model = self.save(mlp(), tmp_path)
        model.path.write_bytes(b"\x07not a model" * 20)
        with pytest.raises(ModelError):
            self.runtime.build(model, self.options)
        model.path.unlink()
        with pytest.raises(ModelError):
            self.runtime.build(model, self.options)

    def test_unknown_operators_are_named(self, tmp_path: Path) -> None:
        """When the session is built, not when it runs."""
        if not self.computes:
            pytest.skip("computes nothing, so it takes any operator")
        model = self.save_unknown(tmp_path)
        with pytest.raises(ModelError, match="Frobnicate"):
            self.runtime.build(model, self.options)

    def test_profile_adds_up(self, tmp_path: Path) -> None:
        """Times are positive and kernels are named; a runtime that cannot tell returns ``None``."""
        case = conv_net()
        session = self.session(case, tmp_path)
        profile = session.profile(case.feeds, repeats=10)
        session.close()
        if profile is None:
            return
        assert profile.runtime == self.runtime.name
        assert profile.call_s > 0 and profile.threads >= 1
        assert profile.kernels and all(kernel.name and kernel.kind and kernel.time_s >= 0 for kernel in profile.kernels)

    def test_run_source_stands_alone(self, tmp_path: Path) -> None:
        """A deployable runtime's source defines a Session that needs nothing of ours and computes the same."""
        case = conv_net()
        try:
            source = self.runtime.run_source(self.options)
        except NotImplementedError:
            pytest.skip("cannot be deployed as a script")
        assert "dovetail" not in source
        namespace: dict[str, object] = {"__name__": "standalone"}
        exec(compile(source, "run.py", "exec"), namespace)
        session = namespace["Session"](str(self.save(case, tmp_path).path))  # type: ignore[operator]
        assert [tuple(entry)[0] for entry in session.inputs] == ["x"]
        self.close_enough(session.run(case.feeds), reference(case.proto, case.feeds))
