"""Lowers a model, runs it in LiteRT and in ONNX Runtime, and compares what comes out.

LiteRT runs in a child process: a model that it aborts on fails one comparison and not the whole session.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

Arrays = Mapping[str, np.ndarray]
TOLERANCE = 1e-4
"""Of reals, relative to the greatest one."""


class Failed(Exception):
    """LiteRT refused a model or did not survive it."""


class LiteRT:
    """A child process that runs models, started anew after one that it does not survive."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, model: bytes, feeds: Arrays, delegate: bool = True) -> dict[str, np.ndarray]:
        """Outputs of a model.

        Raises:
            Failed: the runtime reports an error, or its process ends.
        """
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        child = self._child
        assert child.stdin is not None and child.stdout is not None
        try:
            pickle.dump((model, dict(feeds), delegate), child.stdin)
            child.stdin.flush()
            done, result = pickle.load(child.stdout)
        except (EOFError, BrokenPipeError) as exc:
            status = child.wait()
            self.close()
            raise Failed(f"the process ended with {status}") from exc
        if not done:
            raise Failed(result)
        return result

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            with self._child as child:  # closes its pipes, and waits for it
                child.stdin.close()  # type: ignore[union-attr]
            self._child = None


class Rejected(Exception):
    """ONNX Runtime does not run a model."""


@contextmanager
def litert() -> Iterator[LiteRT]:
    """A runtime for the length of a block."""
    runtime = LiteRT()
    try:
        yield runtime
    finally:
        runtime.close()


def lower(model: onnx.ModelProto, folder: Path) -> bytes:
    """The LiteRT file of a model.

    Raises:
        ModelError: it is not covered.
    """
    from dovetail.lowering.lower import lower as lower_file

    source, out = folder / "model.onnx", folder / "model.tflite"
    source.write_bytes(model.SerializeToString())
    lower_file(source, out)
    assert not too_low(out)
    return out.read_bytes()


def versions(path: Path) -> list[tuple[str, int]]:
    """Operators of a LiteRT file with the version that it asks for, in order of execution."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    graph, found = model.Subgraphs(0), []
    for index in range(graph.OperatorsLength()):
        code = model.OperatorCodes(graph.Operators(index).OpcodeIndex())
        found.append((names[code.BuiltinCode()], code.Version()))
    return found


def too_low(path: Path) -> list[str]:
    """Operators of a LiteRT file whose version is below what their types, shapes and options ask for."""
    from dovetail.lowering import litert_file
    from dovetail.lowering.versions import version

    pairs = zip(litert_file.read(path).operators, versions(path), strict=True)
    return [f"{name} {number}" for op, (name, number) in pairs if number < version(op)]  # type: ignore[arg-type]


def reference(model: onnx.ModelProto, feeds: Arrays) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes, without rewriting the graph.

    Raises:
        Rejected: it cannot.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as exc:  # its errors share no base class
        raise Rejected(str(exc)[:200]) from exc


def difference(want: np.ndarray, got: np.ndarray, steps: int = 0, smallest: float = 0.0) -> str | None:
    """How two arrays differ; ``None`` where they agree.

    Reals agree within ``TOLERANCE`` of the greatest one, those of half precision within a step of it; integers within
    ``steps``.
    A greatest one below ``smallest`` counts as that: what is left there is what did not cancel.
    """
    want, got = np.asarray(want), np.asarray(got)
    if want.shape != got.shape or want.dtype != got.dtype:
        return f"{got.dtype}{list(got.shape)} instead of {want.dtype}{list(want.shape)}"
    if want.dtype.kind in "biu":
        worst = int(np.abs(want.astype(object) - got.astype(object)).max(initial=0)) if want.size else 0
        return f"off by {worst}" if worst > steps else None
    step = 0.0 if want.dtype in (np.float32, np.float64) else float(ml_dtypes.finfo(want.dtype).eps)
    a, b = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return "not finite in other places"
    worst, greatest = (float(np.abs(v).max(initial=0.0)) for v in (a[finite] - b[finite], a[finite]))
    limit = max(TOLERANCE, step) * max(greatest, smallest)
    return f"off by {worst:.3g} of {greatest:.3g}" if worst > limit else None


def bound(model: onnx.ModelProto, values: Arrays) -> onnx.ModelProto:
    """The model with some inputs made constants."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    kept = [value for value in new.graph.input if value.name not in values]
    del new.graph.input[:]
    new.graph.input.extend(kept)
    new.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in values.items())
    return new


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    while True:
        try:
            model, feeds, delegate = pickle.load(source)
        except EOFError:
            return
        kind = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        answer: tuple[bool, Any]
        try:
            interpreter = Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=kind)
            run = interpreter.get_signature_runner("serving_default")
            answer = (True, {name: np.array(value) for name, value in run(**feeds).items()})
        except Exception as exc:  # whatever the runtime says is the answer
            answer = (False, str(exc).strip()[:300])
        pickle.dump(answer, sink)
        sink.flush()


if __name__ == "__main__":
    import os

    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native code prints must not mix with the answers
    _serve(sys.stdin.buffer, results)
