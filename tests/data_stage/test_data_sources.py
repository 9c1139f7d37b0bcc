from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import request_for, spec

from dovetail.core.errors import DataError, InputError, MissingDependency
from dovetail.data.intake import Intake
from dovetail.data.preprocess import Preprocess
from dovetail.data.request import DataRequest, InputPlan
from dovetail.data.sources import open_source

IMAGE = spec("input", "N", 3, 8, 8)
VECTOR = spec("x", "N", 4)


def read(data: Any, request: DataRequest) -> list[tuple[Any, int, Any]]:
    return list(Intake(open_source(data, request), request))


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


# -- what is taken -------------------------------------------------------------------------------------------------------


def test_npz_under_the_inputs_name_or_the_only_other_key(tmp_path: Path) -> None:
    x, y = np.random.rand(5, 4).astype(np.float32), np.arange(5)
    for key in ("x", "features"):
        path = save(tmp_path / f"{key}.npz", **{key: x}, y=y, classes=np.array(["a", "b"]))
        samples = read(path, request_for(VECTOR))
        assert [label for *_, label in samples] == [0, 1, 2, 3, 4]
        assert np.array_equal(np.concatenate([feeds["x"] for feeds, *_ in samples]), x)
        assert [unit for _, unit, _ in samples] == [0, 1, 2, 3, 4]


def test_groups_scalars_and_several_inputs(tmp_path: Path) -> None:
    specs = (spec("a", "N", 2), spec("rate", dtype="int64"))
    path = save(tmp_path / "d.npz", a=np.zeros((4, 2), np.float32), rate=np.int64(16000), groups=np.array(list("zzaa")))
    samples = read(path, request_for(*specs))
    assert [unit for _, unit, _ in samples] == [0, 0, 1, 1]
    assert samples[0][0]["rate"].shape == () and samples[0][2] is None


def test_folder_of_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 4), np.float32))
    np.save(tmp_path / "labels.npy", np.array([2, 1, 0]))
    assert [label for *_, label in read(tmp_path, request_for(VECTOR))] == [2, 1, 0]


def test_csv_vector_and_named_columns(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("a,b,c,d,label\n1,2,3,4,cat\n5,6.5,7,8,dog\n")
    samples = read(str(tmp_path / "v.csv"), request_for(VECTOR, classes=("dog", "cat")))
    assert samples[1][0]["x"].tolist() == [[5, 6.5, 7, 8]] and [label for *_, label in samples] == [1, 0]
    (tmp_path / "n.tsv").write_text('ids\tscore\tsay\n3\t0\t"it\n4\t3.6\tis"\n')
    named = read(tmp_path / "n.tsv", request_for(spec("ids", "N", 1, dtype="int64"), labels="score"))
    assert named[1][0]["ids"].tolist() == [[4]] and [label for *_, label in named] == [0.0, 3.6]


def test_sentence_pairs_of_stsb_as_groups(shared_data: Path) -> None:
    import csv

    def pairs():
        with (shared_data / "text" / "stsb_test.tsv").open(newline="") as file:
            for number, row in enumerate(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)):
                for sentence in (row["sentence1"], row["sentence2"]):
                    yield {"ids": np.array([[ord(c) for c in sentence]])}, number, float(row["score"])

    samples = read(pairs, request_for(spec("ids", "N", "T", dtype="int64")))
    assert len(samples) == 2 * 879 and samples[-1][1] == 878
    assert {len(feeds["ids"]) for feeds, *_ in samples} == {1}


def test_functions_and_files(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def samples():\n"
        "    for i in range(3):\n"
        "        yield {'x': np.full(4, i, 'float32')}, i\n"
        "def bad():\n"
        "    yield {'x': np.zeros(4, 'float32')}, 0\n"
        "    raise KeyError('gone')\n"
    )
    assert [label for *_, label in read(f"{tmp_path}/mine.py:samples", request_for(VECTOR))] == [0, 1, 2]
    with pytest.raises(DataError, match="fails after 1 items: KeyError: 'gone'"):
        read(f"{tmp_path}/mine.py:bad", request_for(VECTOR))
    with pytest.raises(InputError, match="no function 'nope'"):
        read(f"{tmp_path}/mine.py:nope", request_for(VECTOR))
    with pytest.raises(InputError, match="importing it fails: ModuleNotFoundError"):
        read("no_such_module_here:samples", request_for(VECTOR))


def test_objects_in_memory() -> None:
    x, y = np.ones((6, 4), np.float32), np.arange(6)
    loader = [(x[:4], y[:4]), (x[4:], y[4:])]
    for data in ((x, y), {"x": x, "y": y}, loader, [(a, b) for a, b in zip(x, y, strict=True)], ({"x": x}, y)):
        assert [label for *_, label in read(data, request_for(VECTOR))] == [0, 1, 2, 3, 4, 5]
    assert len(read([x[:4], x[4:]], request_for(VECTOR))) == 6


@pytest.mark.torch
def test_a_torch_loader() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.ones(5, 4, requires_grad=True).detach(), torch.arange(5))
    samples = read(torch.utils.data.DataLoader(data, batch_size=2), request_for(VECTOR))
    assert [int(label) for *_, label in samples] == [0, 1, 2, 3, 4]
    assert [int(label) for *_, label in read(data, request_for(VECTOR))] == [0, 1, 2, 3, 4]


def _write_images(folder: Path) -> None:
    from PIL import Image

    for name, value in (("cat", 10), ("dog", 200)):
        (folder / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (12, 10), (value, i, 0)).save(folder / name / f"{i}.png")


def test_images_by_class_folder(tmp_path: Path) -> None:
    _write_images(tmp_path)
    plan = InputPlan(spec=IMAGE, preprocess=Preprocess(resize=(8, 8), layout="NHWC->NCHW", scale=1 / 255))
    samples = read(tmp_path, DataRequest(inputs=(plan,)))
    assert [label for *_, label in samples] == [0, 0, 1, 1]
    assert samples[3][0]["input"][0, :, 4, 4] == pytest.approx([200 / 255, 1 / 255, 0])
    flat = read(tmp_path / "cat", DataRequest(inputs=(plan,)))
    assert [label for *_, label in flat] == [None, None]


def test_photos_of_several_sizes(shared_data: Path) -> None:
    preprocess = Preprocess(resize=(32, 48), layout="NHWC->NCHW", scale=1 / 255)
    gray = InputPlan(spec=spec("input", 1, 1, 32, 48), preprocess=preprocess)
    samples = read(shared_data / "photos", DataRequest(inputs=(gray,)))
    assert len(samples) == 6 and all(0 <= feeds["input"].min() and feeds["input"].max() <= 1 for feeds, *_ in samples)


# -- what is refused -----------------------------------------------------------------------------------------------------


def test_uint8_nhwc_for_a_float_nchw_model_is_told_how_to_convert(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x=np.zeros((3, 8, 8, 3), np.uint8), y=np.zeros(3))
    with pytest.raises(DataError) as error:
        read(path, request_for(IMAGE))
    assert "takes float32 [N, 3, 8, 8]; the data hold uint8 [8, 8, 3] per sample" in str(error.value)
    assert error.value.hint is not None
    lines = "\n".join(error.value.hint.splitlines()[1:])
    job = tmp_path / "fit.yaml"
    job.write_text(lines)
    from dovetail.data.job import load_job

    feeds, *_ = read(path, load_job(job).request((IMAGE,)))[0]
    assert feeds["input"].shape == (1, 3, 8, 8) and feeds["input"].dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "model", "lines"),
    [
        ((28, 28), (1, 28, 28), ["layout: NHW->NCHW"]),
        ((28, 28, 3), (3, 32, 32), ["resize: [32, 32]", "layout: NHWC->NCHW"]),
        ((3, 8, 8), (8, 8, 3), ["layout: NCHW->NHWC"]),
        ((40, 30, 3), (32, 32, 3), ["resize: [32, 32]", "layout: NHWC->NHWC"]),
    ],
)
def test_hints_for_other_layouts(shape: tuple[int, ...], model: tuple[int, ...], lines: list[str]) -> None:
    with pytest.raises(DataError) as error:
        read({"input": np.zeros((2, *shape), np.uint8)}, request_for(spec("input", "N", *model)))
    assert all(line in str(error.value.hint) for line in lines)


def test_raw_pixels_into_a_float_input_warn() -> None:
    request = request_for(VECTOR)
    intake = Intake(open_source({"x": np.zeros((3, 4), np.uint8)}, request), request)
    assert len(list(intake)) == 3
    assert len(intake.warnings) == 1 and "uint8 values are fed as float32 without scaling" in intake.warnings[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((3, 4)), "y": np.zeros(2)}, "differ in length: 'x' has 3 rows, 'y' has 2 rows"),
        ({"x": np.zeros((0, 4)), "y": np.zeros(0)}, "empty: 0 samples"),
        ({"x": np.zeros((3, 5))}, r"sample 0: input 'x' takes float32 \[N, 4\]; the data hold float64 \[5\]"),
        ({"x": np.array([[1, 2, 3, 4], [1, np.nan, 3, 4.0]])}, r"sample 1: input 'x' holds NaN \(1 of 4"),
        ({"x": np.array([[1, np.inf, 3, 4.0]])}, "sample 0: input 'x' holds infinity"),
        ({"x": np.full((1, 4), 1e300)}, "out of its range"),
        ({"x": np.array([["a"] * 4])}, "takes numbers; the data hold <U1 values"),
        ({"a": np.zeros((3, 4)), "b": np.zeros((3, 4))}, "several keys could feed input 'x': a, b"),
        ({"y": np.zeros(3)}, "there is no 'x' in the data"),
    ],
)
def test_bad_arrays(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(save(tmp_path / "d.npz", **arrays), request_for(VECTOR))


def test_missing_and_misspelt_keys(tmp_path: Path) -> None:
    request = request_for(spec("input_ids", "N", 4, dtype="int64"), spec("attention_mask", "N", 4, dtype="int64"))
    ids = np.zeros((2, 4), np.int64)
    with pytest.raises(DataError, match="no 'attention_mask' .* did you mean 'attention_masks'"):
        read(save(tmp_path / "d.npz", input_ids=ids, attention_masks=ids), request)
    with pytest.raises(DataError, match="no 'target_y' in the data"):
        read({"x": np.zeros((2, 4))}, request_for(VECTOR, labels="target_y"))


def test_integers_are_not_made_of_fractions_nor_wrapped() -> None:
    ids = spec("ids", "N", 2, dtype="int8")
    with pytest.raises(DataError, match="takes int8; the data hold float64"):
        read({"ids": np.zeros((1, 2))}, request_for(ids))
    with pytest.raises(DataError, match="values 3..300 of int64 are out of its range"):
        read({"ids": np.array([[3, 300]])}, request_for(ids))
    assert read({"ids": np.array([[3, 100]])}, request_for(ids))[0][0]["ids"].dtype == np.int8


def test_axes_of_one_name_agree() -> None:
    request = request_for(spec("a", "N", "T"), spec("b", "N", "T"))
    with pytest.raises(DataError, match="share the axis 'T', but their sizes are 3 and 4"):
        read({"a": np.zeros((2, 3)), "b": np.zeros((2, 4))}, request)


def test_files_that_are_not_what_they_seem(tmp_path: Path) -> None:
    request = request_for(VECTOR)
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "absent.npz", request)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(DataError, match="not a readable .npz"):
        read(tmp_path / "text.npz", request)
    save(tmp_path / "objects.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="Python objects.*unpickled"):
        read(tmp_path / "objects.npz", request)
    (tmp_path / "model.pkl").write_bytes(b"")
    with pytest.raises(DataError, match="pickles are refused"):
        read(tmp_path / "model.pkl", request)
    with pytest.raises(DataError, match="a int is no data"):
        read(3, request)


@pytest.mark.parametrize("cut", [10, 0.5, 0.99])
def test_truncated_npz(tmp_path: Path, cut: float) -> None:
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x=np.random.rand(50, 4), y=np.arange(50))
    data = path.read_bytes()
    path.write_bytes(data[: int(cut if cut > 1 else cut * len(data))])
    with pytest.raises(DataError, match=str(path)):
        read(path, request_for(VECTOR))


def test_flipped_bits_in_an_npz_never_escape(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x=rng.random((20, 4)), y=np.arange(20))
    good = path.read_bytes()
    for _ in range(150):
        bad = bytearray(good)
        bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(bad))
        try:
            read(path, request_for(VECTOR))
        except DataError:
            pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c,d\n", "0 samples below the header"),
        ("1,2,3,4\n5,6,7,8\n", "the first row holds numbers"),
        ("a,b,c,d\n1,2,3\n", "line 2 has 3 cells; the header has 4"),
        ("a,b,c,d\n1,2,x,4\n", "line 2, column 'c': 'x' is not a number"),
        ("a,b,c,d,y\n1,2,3,4,\n", "line 2 has an empty label"),
        ("a,a,c,d\n1,2,3,4\n", "two columns have the same name"),
        ("a,b,c,d\n1,2,nan,4\n", "sample 0: input 'x' holds NaN"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "t.csv", request_for(VECTOR))


def test_bad_image_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_for(IMAGE)
    with pytest.raises(DataError, match="no image"):
        read(tmp_path, request)
    _write_images(tmp_path)
    with pytest.raises(DataError, match=r"resize: \[8, 8\]"):
        read(tmp_path, request)
    (tmp_path / "cat" / "0.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DataError, match="0.png: not a readable image"):
        read(tmp_path, request)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependency, match=r"pip install 'dovetail\[images\]'"):
        read(tmp_path, request)


def test_labels_that_are_no_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sample 1: label 'cow' is not one of the declared classes"):
        read({"x": np.zeros((2, 4)), "y": np.array(["cat", "cow"])}, request_for(VECTOR, classes=("cat", "dog")))
