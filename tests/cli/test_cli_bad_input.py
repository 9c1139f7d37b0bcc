"""Every bad input is one clear message and exit code 2: no traceback, and nothing half-written."""

import resource
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dovetail.cli import main
from dovetail.testing.models import unknown_operator
from processes import dovetail_command, without_privileges

SAMPLES = 30


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def here(tmp_path, cache, monkeypatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DOVETAIL_CACHE", str(cache))
    return folder


@pytest.fixture
def refused(here, capsys):
    """Runs a command that must fail; returns its message."""

    def run(*arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        assert stop.value.code == 2
        assert said.out == ""
        assert "Traceback" not in said.err
        assert said.err.count("error: ") <= 1
        assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before, "something was left behind"
        return said.err

    return run


def external(location: str) -> bytes:
    """A network whose weights lie in another file."""
    value = helper.make_tensor_value_info
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4], [1, 2, 3, 4])
    node = helper.make_node("Add", ["x", "w"], ["y"])
    x, y = value("x", TensorProto.FLOAT, [1, 4]), value("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([node], "g", [x], [y], [weights])
    stored = graph.initializer[0]
    stored.ClearField("float_data")
    stored.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", "0"), ("length", "16")):
        entry = stored.external_data.add()
        entry.key, entry.value = key, text
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


# -- models --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["optimize", "analyze", "init", "bench", "verify"])
def test_a_missing_file(refused, verb):
    assert "nothere" in refused(verb, "nothere.onnx")


@pytest.mark.parametrize("verb", ["optimize", "analyze", "init", "bench"])
def test_a_truncated_file(refused, here, digits, verb):
    whole = (digits / "digits.onnx").read_bytes()
    (here / "half.onnx").write_bytes(whole[: len(whole) // 2])
    assert "truncated or damaged" in refused(verb, "half.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"I am no model at all.\n" * 20, "not an ONNX model"), (b"\x80\x04\x95" + b"\0" * 99, "")],
)
def test_a_file_that_is_no_model(refused, here, content, message):
    (here / "model.onnx").write_bytes(content)
    assert message in refused("optimize", "model.onnx")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret"])
def test_external_data_outside_the_models_folder(refused, here, location):
    (here.parent / "secret").write_bytes(b"0123456789abcdef")
    (here / "model.onnx").write_bytes(external(location))
    assert "leaves the model's folder" in refused("optimize", "model.onnx")


def test_external_data_that_are_missing(refused, here):
    (here / "model.onnx").write_bytes(external("model.bin"))
    assert "model.bin" in refused("optimize", "model.onnx")


def test_an_operator_that_no_runtime_knows(refused, here):
    onnx.save(unknown_operator(), here / "model.onnx")
    message = refused("optimize", "model.onnx")
    assert "Frobnicate" in message


# -- data ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def arrays(digits):
    with np.load(digits / "digits.npz") as data:
        return {"image": data["image"][:SAMPLES], "label": data["label"][:SAMPLES]}


def with_nan(images):
    images = images.copy()
    images[3, 0, 2, 2] = np.nan
    return images


BAD_DATA = {
    "names": (lambda a: {"picture": a["image"], "photo": a["image"], "label": a["label"]}, "image"),
    "shapes": (lambda a: {**a, "image": a["image"][:, :, :8]}, "takes float32 [N, 1, 16, 16]"),
    "dtypes": (lambda a: {**a, "image": a["image"].astype("U8")}, "takes numbers"),
    "nan": (lambda a: {**a, "image": with_nan(a["image"])}, "sample 3: input 'image' holds NaN"),
    "length": (lambda a: {**a, "label": a["label"][:-5]}, f"'image' has {SAMPLES} rows, 'label' has {SAMPLES - 5} rows"),
    "empty": (lambda a: {name: value[:0] for name, value in a.items()}, "the data are empty"),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_data_that_do_not_fit(refused, here, digits, arrays, kind):
    change, message = BAD_DATA[kind]
    np.savez(here / "data.npz", **change(arrays))
    said = refused("optimize", digits / "digits.onnx", "--data", "data.npz", "--metric", "accuracy")
    assert "data.npz" in said
    assert message in said


def test_data_that_are_not_there_or_no_data(refused, here, digits):
    assert "there is no such file" in refused("optimize", digits / "digits.onnx", "--data", "gone.npz")
    (here / "data.npz").write_bytes(b"PK\x03\x04 cut off")
    assert "data.npz" in refused("optimize", digits / "digits.onnx", "--data", "data.npz")


def test_pickled_data_are_not_read(refused, here, digits):
    np.savez(here / "data.npz", image=np.array([{"a": 1}], dtype=object), label=np.array([1]))
    assert "data.npz" in refused("optimize", digits / "digits.onnx", "--data", "data.npz")


# -- wishes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--metric", "nosuch", "--data", "DATA"], "there is no metric 'nosuch'"),
        (["--metric", "accuracy"], "a metric needs data"),
        (["--metric", "gone.py:f", "--data", "DATA"], "there is no such file"),
        (["--max-drop", "-1pp"], "zero or more"),
        (["--max-drop", "much"], "max_drop"),
        (["--limit", "latency=-5ms"], "no model can meet it"),
        (["--limit", "latency=0"], "no model can meet it"),
        (["--limit", "memory=nan"], "memory"),
        (["--limit", "speed=5"], "there is no limit 'speed'"),
        (["--limit", "latency"], "is not NAME=VALUE"),
        (["--budget", "0"], "no time to work in"),
        (["--budget", "soon"], "is not a time"),
        (["--objective", "beauty"], "there is no objective 'beauty'"),
        (["--runtime", "nosuch"], "there is no runtime named 'nosuch'"),
        (["--target-isa", "z80"], "there is no target 'z80'"),
        (["--batch", "0"], "batch"),
        (["--data", "DATA", "--certify", "DATA"], "give either --data"),
        (["--job", "gone.yaml"], "gone.yaml"),
        (["--nosuch-flag"], "No such option"),
    ],
)
def test_wishes_that_cannot_be_met(refused, digits, flags, message):
    filled = [str(digits / "digits.npz") if flag == "DATA" else flag for flag in flags]
    assert message in refused("optimize", digits / "digits.onnx", *filled)


def test_no_model_at_all(refused):
    assert "no model is given" in refused("optimize")


@pytest.mark.parametrize("content", ["model: [unclosed", "modle: typo.onnx", "- a\n- list", "budget: {}", "limits: 7"])
def test_a_job_file_that_is_none(refused, here, content):
    (here / "fit.yaml").write_text(content)
    assert "fit.yaml" in refused("optimize", "--job", "fit.yaml")


# -- places --------------------------------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_written(refused, here, digits):
    (here / "taken").write_text("a file")
    for out in ("taken", "taken/fit", "/proc/fit"):
        message = refused("optimize", digits / "digits.onnx", "--out", out)
        assert "cannot write there" in message
        assert "choose another --out" in message


def test_an_output_folder_that_holds_other_files_is_left_alone(refused, here, digits):
    (here / "models").mkdir()
    (here / "models" / "net.onnx").write_bytes((digits / "digits.onnx").read_bytes())
    (here / "run.py").write_text("mine")
    for out in (".", "models"):
        assert "the folder is not empty" in refused("optimize", "models/net.onnx", "--runtime", "null", "--out", out)


@pytest.mark.parametrize("verb", ["optimize", "analyze"])
def test_a_cache_without_permission(tmp_path, digits, environment, verb):
    (tmp_path / "cache").mkdir(mode=0o500)
    done = subprocess.run(
        dovetail_command([verb, digits / "digits.onnx"]),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=without_privileges,
    )
    assert done.returncode == 2
    assert f"{tmp_path}/cache" in done.stderr and "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert not (tmp_path / "digits.fit").exists()


def test_a_cache_that_cannot_be_written(refused, digits, monkeypatch):
    monkeypatch.setenv("DOVETAIL_CACHE", "/proc/cache")
    assert "/proc/cache" in refused("optimize", digits / "digits.onnx")


def test_no_space_left(tmp_path, digits, environment):
    """A limit on file sizes stands in for a full disk: writing fails in the middle of a file."""
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        dovetail_command(["optimize", digits / "digits.onnx"]),
        cwd=tmp_path / "here",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "here").iterdir())


# -- other verbs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["analyze", "MODEL", "--shape", "image"], "is not NAME=SIZE"),
        (["analyze", "MODEL", "--shape", "nosuch=1,2"], "nosuch"),
        (["bench", "MODEL@nosuch"], "there is no runtime named 'nosuch'"),
        (["bench", "MODEL@null:threads"], "is not OPTION=VALUE"),
        (["explain", "gone.onnx", "MODEL"], "there is no such model file or artifact"),
        (["verify", "."], "it has no manifest.json"),
        (["init", "MODEL", "--out", "gone/fit.yaml"], "cannot be written"),
        (["nosuch"], "No such command"),
    ],
)
def test_other_verbs(refused, digits, arguments, message):
    model = str(digits / "digits.onnx")
    assert message in refused(*(a.replace("MODEL", model) for a in arguments))


def test_init_replaces_nothing(refused, here, digits):
    (here / "fit.yaml").write_text("mine")
    assert "the file is there already" in refused("init", digits / "digits.onnx")
    assert (here / "fit.yaml").read_text() == "mine"
