"""Packed models come back byte for byte, and damaged ones are refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dovetail.compress import packed
from dovetail.compress.packed import codes, file, rans, tensors, wire
from dovetail.core.errors import ModelError, StorageError
from dovetail.core.protocols import Array
from dovetail.testing.models import CASES, wide_mlp

KINDS = ["float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"]


def model_of(*arrays: Array) -> bytes:
    """A model that holds these arrays and uses none."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(array, f"w{i}") for i, array in enumerate(arrays)],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def sparse_book(kind: str, n: int, values: int, zeros: float, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    book = (rng.normal(size=values) * 100).astype(kind)
    array = book[rng.integers(0, values, n)]
    array[rng.random(n) < zeros] = 0
    return array


# -- symbols -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 3000), st.floats(0.0, 4.0), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_rans_gives_symbols_back(alphabet: int, n: int, skew: float, seed: int) -> None:
    share = np.arange(1, alphabet + 1) ** -skew
    symbols = np.random.default_rng(seed).choice(alphabet, n, p=share / share.sum()).astype(np.uint16)
    scaled = rans.frequencies(np.bincount(symbols, minlength=alphabet))
    assert scaled.sum() == 1 << rans.precision(alphabet)
    code = rans.encode(symbols, scaled)
    np.testing.assert_array_equal(rans.decode(code, n, scaled), symbols)


def test_rans_comes_close_to_the_entropy() -> None:
    share = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02])
    symbols = np.random.default_rng(0).choice(7, 200_000, p=share).astype(np.uint8)
    counts = np.bincount(symbols)
    entropy_bits = -float(np.sum(counts * np.log2(counts / counts.sum())))
    scaled = rans.frequencies(counts)
    size = len(rans.encode(symbols, scaled))
    assert entropy_bits / 8 <= size <= 1.015 * entropy_bits / 8
    assert size == pytest.approx(rans.code_bytes(counts, scaled), rel=0.005)


@pytest.mark.parametrize("alphabet", [1, 2, 3, 16, 200, 256, 257, 4096])
@pytest.mark.parametrize("pattern", ["random", "constant", "periodic"])
def test_the_smallest_code_is_taken_and_read(alphabet: int, pattern: str) -> None:
    n = 6000
    symbols = {
        "random": np.random.default_rng(0).integers(0, alphabet, n),
        "constant": np.full(n, alphabet - 1),
        "periodic": np.arange(n) % min(alphabet, 50),
    }[pattern]
    kind, table, code = codes.encode(symbols, alphabet)
    assert len(code) + len(table) <= -(-n * (alphabet - 1).bit_length() // 8)
    np.testing.assert_array_equal(codes.decode(kind, table, memoryview(code), n, alphabet), symbols)


def test_a_general_compressor_may_not_make_more_than_was_stated() -> None:
    for kind in (codes.Code.ZLIB, codes.Code.LZMA):
        code = codes._compressed(kind, bytes(10_000_000))
        assert len(code) < 20_000
        assert codes.inflate(kind, code, 10_000_000) == bytes(10_000_000)
        for stated in (0, 100, 9_999_999, 10_000_001):
            with pytest.raises(ValueError, match="size"):
                codes.inflate(kind, code, stated)


# -- tensors -------------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(KINDS),
    st.integers(1, 3000),
    st.integers(1, 5000),
    st.sampled_from([0.0, 0.3, 0.95, 1.0]),
    st.integers(0, 5),
)
@settings(deadline=None, max_examples=80)
def test_tensors_of_every_kind_come_back(kind: str, n: int, values: int, zeros: float, seed: int) -> None:
    array = sparse_book(kind, n, values, zeros, seed)
    data = array.tobytes()
    assert tensors.decode(tensors.encode(data, array.itemsize), len(data), array.itemsize) == data


def test_bits_are_kept_that_comparison_does_not_see() -> None:
    array = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45], np.float32)
    odd = np.frombuffer(struct.pack("<I", 0x7FC12345), np.float32)
    data = np.tile(np.concatenate([array, odd]), 300).tobytes()
    assert tensors.decode(tensors.encode(data, 4), len(data), 4) == data


def test_forms_fit_what_the_tensor_holds() -> None:
    def form(array: Array) -> int:
        return tensors.encode(array.tobytes(), array.itemsize).form

    rng = np.random.default_rng(0)
    dense = rng.normal(size=20_000).astype(np.float32)
    assert form(dense) == tensors.Form.PLANES
    assert form(np.where(rng.random(20_000) < 0.8, 0, dense).astype(np.float32)) == tensors.Form.SPARSE
    assert form(sparse_book("float32", 20_000, 15, 0.5, 0)) == tensors.Form.BOOK


# -- files ---------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2000), st.integers(1, 40)), max_size=4), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_models_come_back_byte_for_byte(shapes: list[tuple[str, int, int]], seed: int) -> None:
    data = model_of(*(sparse_book(kind, n, values, 0.2, seed) for kind, n, values in shapes))
    assert packed.unpack_bytes(packed.pack_bytes(data)) == data


@pytest.mark.parametrize("name", CASES)
def test_small_graphs_come_back(name: str, tmp_path: Path) -> None:
    model = CASES[name]().save(tmp_path)
    packed.pack(model.path, tmp_path / "m.dtvw")
    assert packed.unpack(tmp_path / "m.dtvw", tmp_path / "again.onnx").read_bytes() == model.path.read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "mlperf_tiny/ad_toycar_autoencoder_int8_qdq.onnx",
        "mlperf_tiny/resnet8_cifar10_int8_qdq.onnx",
        "mlperf_tiny/resnet8_cifar10.onnx",
        "onnx_models/silero_vad_16k_op15.onnx",
        "onnx_models/super_resolution_x3_espcn.onnx",
    ],
)
def test_published_models_come_back_smaller(shared_data: Path, name: str, tmp_path: Path) -> None:
    made = packed.pack(shared_data / name, tmp_path / "m.dtvw")
    assert made.size_bytes == (tmp_path / "m.dtvw").stat().st_size < (shared_data / name).stat().st_size
    assert packed.unpack(tmp_path / "m.dtvw", tmp_path / "m.onnx").read_bytes() == (shared_data / name).read_bytes()


def test_numbers_in_typed_fields_and_in_subgraphs_are_coded_too() -> None:
    array = sparse_book("float32", 4000, 16, 0.0, 0)
    typed = helper.make_tensor("w", TensorProto.FLOAT, [4000], array.tolist())
    inner = helper.make_graph([], "body", [], [], [numpy_helper.from_array(array, "v")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(array))
    graph = helper.make_graph([node, constant], "g", [], [])
    graph.initializer.append(typed)
    data = helper.make_model(graph).SerializeToString()
    assert len(wire.spans(data, 1024)) == 4
    assert len(packed.pack_bytes(data)) < len(data) / 5


def test_weights_beside_the_file_are_taken_into_it(tmp_path: Path) -> None:
    onnx.save(wide_mlp().proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    packed.pack(tmp_path / "m.onnx", tmp_path / "m.dtvw")
    (tmp_path / "alone").mkdir()
    again = onnx.load(packed.unpack(tmp_path / "m.dtvw", tmp_path / "alone" / "m.onnx"))
    for before, after in zip(wide_mlp().proto.graph.initializer, again.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))


def test_weights_beside_the_file_are_found_in_bodies_and_attributes(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.arange(400, dtype=np.float32).tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[400], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    inner = helper.make_graph([helper.make_node("Constant", [], ["k"], value=tensor)], "body", [], [])
    graph = helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)], "g", [], [])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    packed.pack(tmp_path / "m.onnx", tmp_path / "m.dtvw")
    again = onnx.load(packed.unpack(tmp_path / "m.dtvw", tmp_path / "again.onnx"), load_external_data=False)
    for attribute in again.graph.node[0].attribute:
        np.testing.assert_array_equal(numpy_helper.to_array(attribute.g.node[0].attribute[0].t), np.arange(400))


# -- damage --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample() -> tuple[bytes, bytes]:
    """A model with every form of tensor, and its packed form."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=600).astype(np.float32)
    sparse = np.where(rng.random(3000) < 0.8, 0, rng.normal(size=3000)).astype(np.float32)
    data = model_of(dense, sparse, sparse_book("float32", 3000, 16, 0.1, 0), sparse_book("int8", 2000, 50, 0.0, 0))
    return data, packed.pack_bytes(data)


def resealed(data: bytes) -> bytes:
    """The file with its size and check sum put right, as somebody who means harm would."""
    head = bytearray(data[: file._HEADER.size])
    head[8:16] = struct.pack("<Q", len(data))
    body = data[file._HEADER.size + 4 :]
    return bytes(head) + struct.pack("<I", zlib.crc32(body, zlib.crc32(head))) + body


def test_a_truncated_file_is_refused_at_every_length(sample: tuple[bytes, bytes]) -> None:
    for length in [*range(0, 200), *range(200, len(sample[1]), 97)]:
        with pytest.raises(ModelError):
            packed.unpack_bytes(sample[1][:length], where="m.dtvw")


def test_any_flipped_bit_is_refused(sample: tuple[bytes, bytes]) -> None:
    rng = np.random.default_rng(0)
    for place in [*range(76), *rng.integers(76, len(sample[1]), 300)]:
        broken = bytearray(sample[1])
        broken[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ModelError):
            packed.unpack_bytes(bytes(broken), where="m.dtvw")


def test_damage_under_a_right_check_sum_is_one_clear_error(sample: tuple[bytes, bytes]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(sample[1])
        for place in rng.integers(6, len(broken), int(rng.integers(1, 4))):
            broken[place] = int(rng.integers(256))
        if rng.random() < 0.3:
            broken = broken[: int(rng.integers(80, len(broken)))]
        try:
            again = packed.unpack_bytes(resealed(bytes(broken)), where="m.dtvw")
        except ModelError as exc:
            assert str(exc).startswith("m.dtvw: ")
        else:
            assert again == sample[0]


def test_damage_in_the_head_is_one_clear_error(sample: tuple[bytes, bytes]) -> None:
    _, _, kind, _, onnx_bytes, digest, head_bytes, stored = file._HEADER.unpack_from(sample[1])
    head = codes.inflate(kind, sample[1][76 : 76 + stored], head_bytes)
    rng = np.random.default_rng(2)
    for _ in range(120):
        broken = bytearray(head)
        for place in rng.integers(0, 300, int(rng.integers(1, 4))):
            broken[place] = int(rng.choice([0, 1, 127, 255, int(rng.integers(256))]))
        code = codes._compressed(kind, bytes(broken))
        header = file._HEADER.pack(b"DTVW", 1, kind, 0, onnx_bytes, digest, len(broken), len(code))
        try:
            again = packed.unpack_bytes(resealed(header + b"1234" + code + sample[1][76 + stored :]), where="m.dtvw")
        except ModelError as exc:
            assert str(exc).startswith("m.dtvw: ")
        else:
            assert again == sample[0]


def test_sizes_are_bounded_before_anything_is_made(sample: tuple[bytes, bytes]) -> None:
    data = bytearray(sample[1])
    data[16:24] = struct.pack("<Q", 1 << 40)
    with pytest.raises(ModelError, match="limit"):
        packed.unpack_bytes(resealed(bytes(data)))
    with pytest.raises(ModelError, match="limit"):
        packed.unpack_bytes(sample[1], max_bytes=1000)


def test_what_is_no_packed_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file|No such file"):
        packed.unpack(tmp_path / "absent.dtvw", tmp_path / "m.onnx")
    (tmp_path / "text.dtvw").write_text("something else")
    with pytest.raises(ModelError, match="not a packed model"):
        packed.unpack(tmp_path / "text.dtvw", tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="not an ONNX model|cannot be read as ONNX"):
        packed.pack(tmp_path / "text.dtvw", tmp_path / "m.dtvw")
    newer = packed.pack_bytes(model_of())
    with pytest.raises(ModelError, match="version 2"):
        packed.unpack_bytes(newer[:4] + b"\x02\x00" + newer[6:])
    (tmp_path / "good.dtvw").write_bytes(newer)
    with pytest.raises(StorageError):
        packed.unpack(tmp_path / "good.dtvw", tmp_path / "nowhere" / "m.onnx")
    for place in (tmp_path / "text.dtvw" / "m.onnx", tmp_path / ("m" * 300), Path()):
        with pytest.raises(StorageError):
            packed.unpack(tmp_path / "good.dtvw", place)
    assert not packed.is_packed(tmp_path / "text.dtvw") and packed.is_packed(tmp_path / "good.dtvw")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.dtvw", "text.dtvw"]
