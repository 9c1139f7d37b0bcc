"""The suites themselves: an honest pass gets through, a dishonest one is caught, and a replay answers as recorded."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dovetail.core.errors import InputError, ModelError
from dovetail.core.measurement import Measurement
from dovetail.core.outcome import Infeasible
from dovetail.core.protocols import Model, Pass, PassContext
from dovetail.core.recipe import Recipe
from dovetail.testing.models import conv_net, mlp, unknown_operator
from dovetail.testing.pass_suite import PassConformance
from dovetail.testing.replay import RecordingBench, ReplayBench


class Rename(Pass):
    """Writes the model anew under another graph name."""

    name: ClassVar[str] = "rename"
    lossless: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        proto = onnx.load(str(model.path))
        if any(node.op_type == "Frobnicate" for node in proto.graph.node):
            raise ModelError("Frobnicate cannot be renamed", where=str(model.path))
        proto.graph.name = "renamed"
        onnx.save(proto, str(ctx.workdir / "model.onnx"))
        return Model(path=ctx.workdir / "model.onnx")


class Drift(Rename):
    """Promises equal outputs and does not keep it."""

    name: ClassVar[str] = "drift"
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        proto = onnx.load(str(model.path))
        for tensor in proto.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))
        proto.graph.output[0].name = "other"
        proto.graph.node[-1].output[0] = "other"
        onnx.save(proto, str(ctx.workdir / "model.onnx"))
        return Model(path=ctx.workdir / "model.onnx")


class TestRename(PassConformance):
    compression_pass: ClassVar[Pass] = Rename()
    refuses = [unknown_operator]


class Drifting(PassConformance):
    compression_pass: ClassVar[Pass] = Drift()


@pytest.mark.parametrize("promise", ["test_keeps_the_interface", "test_outputs_are_finite_and_close_where_promised"])
def test_broken_promises_are_caught(promise: str, tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    original = conv_net().save(tmp_path / "original")
    with pytest.raises(AssertionError):
        getattr(Drifting(), promise)(original, tmp_path)


def test_a_file_that_did_not_shrink_is_caught(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Drifting().test_shrinks_where_promised(tmp_path)


def test_a_replay_answers_as_recorded(tmp_path: Path) -> None:
    fast, broken, unseen = (Recipe(runtime="null", options=(("threads", n),)) for n in (1, 2, 3))
    answers = {
        fast: Measurement(block_medians_s=((1e-3, 1.1e-3), (1.2e-3,)), calls=30, quantiles_s={"0.5": 1.1e-3}),
        broken: Infeasible(stage="build", reason="no such operator"),
    }

    class Fixed:
        def measure(self, recipe: Recipe, model: Model) -> Measurement | Infeasible:
            return answers[recipe]

    model = mlp().save(tmp_path)
    recording = RecordingBench(Fixed(), tmp_path / "bench.jsonl")
    for recipe in answers:
        recording.measure(recipe, model)
    replay = ReplayBench(tmp_path / "bench.jsonl")
    assert {recipe: replay.measure(recipe, model) for recipe in answers} == answers
    with pytest.raises(InputError, match="no measurement is recorded"):
        replay.measure(unseen, model)
