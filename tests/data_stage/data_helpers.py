"""A session over ONNX Runtime and small models, for the tests of the data stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dovetail.core.protocols import Array, Feeds, Outputs, Session, TensorSpec
from dovetail.data.request import DataRequest, InputPlan

_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int8)": "int8"}


class OrtSession(Session):
    """A plain CPU session."""

    def __init__(self, model: Path) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(
            TensorSpec(name=i.name, dtype=_DTYPES[i.type], shape=tuple(i.shape)) for i in self._session.get_inputs()
        )
        self.outputs = tuple(
            TensorSpec(name=o.name, dtype=_DTYPES[o.type], shape=tuple(o.shape)) for o in self._session.get_outputs()
        )
        self.calls = 0

    def run(self, feeds: Feeds) -> Outputs:
        self.calls += 1
        outputs: list[Array] = self._session.run(None, dict(feeds))
        return outputs


class NumpySession(Session):
    """A session that computes with a function."""

    def __init__(
        self, function: Callable[[Feeds], list[Array]], inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        self._function, self.inputs, self.outputs, self.calls = function, inputs, outputs, 0

    def run(self, feeds: Feeds) -> Outputs:
        self.calls += 1
        return self._function(feeds)


def spec(name: str, *shape: int | str | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def request_for(*specs: TensorSpec, **kwargs: object) -> DataRequest:
    return DataRequest(inputs=tuple(InputPlan(spec=s) for s in specs), **kwargs)  # type: ignore[arg-type]
