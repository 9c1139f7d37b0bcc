"""Reading ONNX files: what is taken, and how everything else is refused."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Model
from dovetail.workloads.load import content_hash, gather, load_onnx, proto_hash, signature, weight_files


def small_model(opset: int = 17, **changes: object) -> onnx.ModelProto:
    """``y = relu(x @ w)`` with x[N,4], w[4,3]."""
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"], "mm"), helper.make_node("Relu", ["h"], ["y"], "act")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **changes)


def save_external(folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(small_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def relocate(path: Path, **fields: str) -> None:
    """Rewrites the external-data entries of a saved model."""
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = fields.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())


def test_a_model_is_read_and_described(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(small_model(), path)
    inputs, outputs = signature(load_onnx(path))
    assert [(s.name, s.dtype, s.shape) for s in inputs] == [("x", "float32", ("N", 4))]
    assert [(s.name, s.dtype, s.shape) for s in outputs] == [("y", "float32", ("N", 3))]


def test_initialisers_listed_as_inputs_are_no_inputs() -> None:
    model = small_model()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3]))
    assert [spec.name for spec in signature(model)[0]] == ["x"]


def test_hash_is_the_same_inside_and_outside_and_changes_with_a_weight(tmp_path: Path) -> None:
    model, inline = small_model(), tmp_path / "m.onnx"
    onnx.save(model, inline)
    outside = save_external(tmp_path)
    assert content_hash(inline) == content_hash(outside) == proto_hash(model)
    assert len(content_hash(inline)) == 16
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "w.bin").write_bytes(data)
    assert content_hash(outside) != content_hash(inline)


def test_external_data_are_read(tmp_path: Path) -> None:
    model = load_onnx(save_external(tmp_path))
    assert numpy_helper.to_array(model.graph.initializer[0])[3, 2] == 11


def save_scattered(folder: Path) -> Path:
    """``y = x @ w + b + c``: w in one file, b and c the same bytes in the middle of another in a folder of its own."""
    add = [helper.make_node("Add", [a, b], [c]) for a, b, c in (("h", "b", "i"), ("i", "c", "y"))]
    model = small_model()
    model.graph.node[1].CopyFrom(add[0])
    model.graph.node.append(add[1])
    model.graph.initializer.extend(numpy_helper.from_array(np.float32([5, 6, 7]), name) for name in "bc")
    (folder / "parts").mkdir()
    (folder / "w.bin").write_bytes(model.graph.initializer[0].raw_data)
    (folder / "parts" / "b.bin").write_bytes(b"\0" * 64 + model.graph.initializer[1].raw_data + b"\0" * 9)
    for tensor in model.graph.initializer:
        location, offset = ("w.bin", 0) if tensor.name == "w" else ("parts/b.bin", 64)
        set_external_data(tensor, location, offset, len(tensor.raw_data))
        tensor.ClearField("raw_data")
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "net.onnx"


def test_weights_of_several_files_are_gathered_in_one(tmp_path: Path) -> None:
    path, copy = save_scattered(tmp_path), tmp_path / "copy" / "net.onnx"
    assert weight_files(path) == (tmp_path / "w.bin", tmp_path / "parts" / "b.bin")
    copy.parent.mkdir()
    gather(path, copy)
    assert weight_files(copy) == (copy.parent / "net.onnx.data",)
    assert content_hash(copy) == content_hash(path)
    feeds = {"x": np.float32([[1, -2, 3, 4]])}
    expected, found = (onnxruntime.InferenceSession(str(p)).run(None, feeds)[0] for p in (path, copy))
    np.testing.assert_array_equal(found, expected)
    whole = Model(path=copy).size_bytes() - copy.stat().st_size
    assert whole == 4096 + (tmp_path / "parts" / "b.bin").stat().st_size


def test_a_model_that_holds_its_weights_is_gathered_alone(tmp_path: Path) -> None:
    onnx.save(small_model(), tmp_path / "m.onnx")
    gather(tmp_path / "m.onnx", tmp_path / "copy.onnx")
    assert weight_files(tmp_path / "copy.onnx") == ()
    assert Model(path=tmp_path / "copy.onnx").files() == [tmp_path / "copy.onnx"]


@pytest.mark.parametrize("location", ["/etc/passwd", "../w.bin", "a/../../w.bin", "C:\\w.bin", "..\\w.bin", ""])
def test_external_data_may_not_leave_the_folder(tmp_path: Path, location: str) -> None:
    path = save_external(tmp_path)
    relocate(path, location=location)
    for read in (load_onnx, content_hash):
        with pytest.raises(ModelError, match=r"leaves the model's folder|names no file"):
            read(path)


def test_external_data_may_not_leave_through_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = save_external(folder)
    (folder / "w.bin").rename(tmp_path / "outside.bin")
    (folder / "w.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match="through a link"):
        load_onnx(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"length": "44"}, "its shape needs 48"),
        ({"length": "-1"}, "not a number"),
        ({"offset": "9" * 18}, "truncated"),
        ({"location": "nothing.bin"}, "missing"),
    ],
)
def test_external_data_that_do_not_fit(tmp_path: Path, fields: dict[str, str], message: str) -> None:
    path = save_external(tmp_path)
    relocate(path, **fields)
    with pytest.raises(ModelError, match=message):
        load_onnx(path, weights=False)


def test_truncated_external_data(tmp_path: Path) -> None:
    path = save_external(tmp_path)
    (tmp_path / "w.bin").write_bytes(b"\0" * 40)
    with pytest.raises(ModelError, match="has 40 bytes, this tensor needs 48"):
        load_onnx(path, weights=False)


def torch_checkpoint() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'false'\ntR.")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (torch_checkpoint(), "torch checkpoint"),
        (b"\x80\x04\x95" + b"a" * 80, "pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"\x1c\0\0\0TFL3" + bytes(64), "TensorFlow Lite"),
        (b"GGUF" + bytes(64), "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html><html>", "web page"),
        (random.Random(0).randbytes(4096), "truncated or damaged"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "truncated or damaged"),
        (small_model().SerializeToString()[:-7], "truncated or damaged"),
    ],
)
def test_files_that_are_not_onnx(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message) as caught:
        load_onnx(path)
    assert str(path) in str(caught.value) and caught.value.hint


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_onnx(tmp_path / "nothing.onnx")
    with pytest.raises(ModelError, match="it is a folder"):
        load_onnx(tmp_path)


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def _undeclared(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "h"


def _no_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "z"


def _domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "my.company"


def _operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "MatMuI"


def _old(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 6


def _new(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def _short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 5


def _negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -4


def _type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cycle, "cycle"),
        (_undeclared, "which no input, initialiser or node provides"),
        (_twice, "two nodes produce 'h'"),
        (_no_output, "nothing produces the output 'z'"),
        (_domain, "no runtime knows operators of the domain 'my.company'"),
        (_operator, "has no operator 'MatMuI'"),
        (_old, "opset 6"),
        (_new, "opset 999"),
        (_short, "needs 60"),
        (_negative, "negative"),
        (_type, "element type 99"),
    ],
)
def test_graphs_that_are_not_valid(tmp_path: Path, damage: Callable[[onnx.ModelProto], None], message: str) -> None:
    model = small_model()
    damage(model)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        load_onnx(path)


def test_a_long_unsorted_graph_is_taken_quickly(tmp_path: Path) -> None:
    n = 3000
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], f"n{i}") for i in range(n)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes[::-1], "g", [value("v0", TensorProto.FLOAT, [1])], [value(f"v{n}", TensorProto.FLOAT, [1])])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    assert len(load_onnx(path).graph.node) == n


def test_truncated_and_bit_flipped_files_raise_nothing_but_model_errors(tmp_path: Path) -> None:
    draw = random.Random(7)
    model = small_model(functions=[helper.make_function("local", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [
        helper.make_opsetid("", 17)])])  # fmt: skip
    data, path, refused = model.SerializeToString(), tmp_path / "m.onnx", 0
    for case in range(150):
        damaged = bytearray(data[: draw.randrange(1, len(data))] if case % 3 == 0 else data)
        for _ in range(0 if case % 3 == 0 else draw.choice([1, 2, 8])):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            signature(load_onnx(path))
            content_hash(path)
        except ModelError:
            refused += 1
    assert refused > 50


def test_fuzzed_real_models(tmp_path: Path, shared_data: Path) -> None:
    draw = random.Random(11)
    data, path = (shared_data / "onnx_models/silero_vad_16k_op15.onnx").read_bytes(), tmp_path / "m.onnx"
    header = 60_000
    for _ in range(30):
        damaged = bytearray(data)
        for _ in range(40):
            damaged[draw.randrange(header)] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            signature(load_onnx(path))
        except ModelError:
            continue
