"""Every verb of the command line: help, JSON, and what it writes."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import openvino
import pytest

from dovetail.cli import main
from dovetail.core.protocols import Model
from dovetail.core.recipe import Recipe
from dovetail.data.job import load_job
from dovetail.export.artifact import Entry, read_manifest, write_artifact
from dovetail.runtimes.litert import LiteRt

VERBS = ("optimize", "analyze", "bench", "explain", "verify", "export", "init", "doctor")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOVETAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    return call


@pytest.fixture
def artifact(fitted, tmp_path) -> Path:
    return Path(shutil.copytree(fitted / "fit", tmp_path / "fit"))


# -- help ----------------------------------------------------------------------------------------------------------------


def test_help_lists_every_verb(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_verb_shows_examples(run, verb, flag):
    code, out, _ = run(verb, flag)
    assert code == 0
    assert "Examples:" in out
    assert len(re.findall(rf"^\s*dovetail {verb}", out, re.MULTILINE)) >= 2


def test_version(run):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run("--version")[1])


def test_no_arguments_show_help(run):
    code, out, err = run()
    assert code == 2
    assert "optimize" in out + err


# -- analyze, init, doctor -----------------------------------------------------------------------------------------------


def test_analyze(run, digits):
    code, out, _ = run("analyze", digits / "digits.onnx", "--shape", "image=4,1,16,16", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["workload"]["input_shapes"] == {"image": [4, 1, 16, 16]}
    assert sum(op["flop"] or 0 for op in found["workload"]["ops"]) == pytest.approx(4 * 76e6, rel=0.05)
    code, out, _ = run("analyze", digits / "digits.onnx", "--per-op")
    assert code == 0
    assert "Conv" in out


def test_init_writes_a_job_file_that_loads(run, digits, tmp_path):
    code, out, _ = run("init", digits / "digits.onnx")
    assert code == 0
    assert "dovetail optimize --job fit.yaml" in out
    assert load_job(tmp_path / "fit.yaml").model == str(digits / "digits.onnx")
    assert "#" in (tmp_path / "fit.yaml").read_text()
    assert run("init", digits / "digits.onnx", "--force")[0] == 0


def test_doctor(run):
    code, out, _ = run("doctor")
    assert code == 0
    assert "onnxruntime" in out
    code, out, _ = run("doctor", "--json")
    assert code == 0
    assert {"name", "status", "detail"} <= json.loads(out)[0].keys()


# -- bench, explain ------------------------------------------------------------------------------------------------------


def test_bench(run, digits):
    model = digits / "digits.onnx"
    code, out, err = run("bench", f"{model}@null", f"{model}@null:delay_s=0.002", "--rounds", "2", "--json", "--quiet")
    assert code == 0, err
    found = json.loads(out)
    assert found["rounds"] == 2
    assert [timed["label"].rpartition("@")[2] for timed in found["runs"]] == ["null", "null:delay_s=0.002"]
    assert not any(timed["infeasible"] for timed in found["runs"])
    assert found["runs"][0]["speedup"] is None
    assert found["runs"][1]["speedup"]["high"] < 1


def test_explain(run, digits):
    model = digits / "digits.onnx"
    code, out, err = run("explain", f"{model}@onnxruntime:threads=1", f"{model}@onnxruntime:threads=2", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["summary"]
    assert "convolution" in {group["group"] for group in found["groups"]}


def test_explain_says_when_a_runtime_cannot_tell(run, digits):
    model = digits / "digits.onnx"
    code, _, err = run("explain", f"{model}@null", f"{model}@onnxruntime")
    assert code == 2
    assert "null cannot tell where its time goes" in err


@pytest.fixture
def network(digits, tmp_path) -> Path:
    """The digits network in OpenVINO's own format."""
    path = tmp_path / "network" / "model.xml"
    openvino.save_model(openvino.Core().read_model(digits / "digits.onnx"), path, compress_to_fp16=False)
    return path


def test_bench_and_explain_a_network_of_openvino(run, network, digits):
    code, out, err = run("bench", network, f"{network}@openvino:threads=1", "--rounds", "1", "--json", "--quiet")
    assert code == 0, err
    assert not any(timed["infeasible"] for timed in json.loads(out)["runs"])
    code, out, err = run("bench", network, "--rounds", "1", "--data", digits / "digits.npz", "--json", "--quiet")
    assert code == 0, err
    assert [timed["label"] for timed in json.loads(out)["runs"]] == [str(network)]
    code, out, err = run("explain", network, digits / "digits.onnx", "--json")
    assert code == 0, err
    assert "convolution" in {group["group"] for group in json.loads(out)["groups"]}


@pytest.mark.slow
def test_bench_and_explain_an_artifact_whose_answer_is_a_network_of_openvino(run, network, digits, fitted, tmp_path):
    def entry(name: str, runtime: str, model: Model) -> Entry:
        return Entry(name=name, model=model, recipe=Recipe(runtime=runtime), certificates=(), session_source=None)

    answer = entry("answer", "openvino", Model(path=network, format="openvino"))
    original = entry("original", "onnxruntime", Model(path=digits / "digits.onnx"))
    write_artifact(tmp_path / "fit", read_manifest(fitted / "fit"), [answer, original], [], {})
    code, out, err = run("bench", "fit/", "fit/@original", "--rounds", "1", "--json", "--quiet")
    assert code == 0, err
    assert [timed["infeasible"] for timed in json.loads(out)["runs"]] == [None, None]
    for runs in (("fit/", "fit/@original"), ("fit/@original", "fit/")):
        code, out, err = run("explain", *runs, "--json")
        assert code == 0, err
        assert json.loads(out)["summary"]


def test_a_damaged_network_of_openvino_is_one_message(run, tmp_path):
    (tmp_path / "model.xml").write_text("<net/>")
    code, out, err = run("bench", "model.xml")
    assert (code, out) == (2, "")
    assert "model.xml" in err and "Traceback" not in err


# -- verify --------------------------------------------------------------------------------------------------------------


def test_verify_an_artifact_as_it_was_written(run, artifact, digits, tmp_path):
    data = ["--data", digits / "digits.npz", "--rounds", "1", "--quiet", "--json"]
    code, out, err = run("verify", artifact, *data, "--junit", tmp_path / "verify.xml")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert checks["files"]["status"] == checks["machine"]["status"] == "ok"
    assert checks["quality"]["status"] in ("ok", "warning")
    assert code == (1 if any(check["status"] == "failed" for check in checks.values()) else 0), err
    suite = ElementTree.parse(tmp_path / "verify.xml").getroot()
    assert {case.get("name") for case in suite.iter("testcase")} == checks.keys()


def test_verify_finds_a_changed_file_and_fails(run, artifact, tmp_path):
    (artifact / "report.html").write_text("another")
    code, out, _ = run("verify", artifact, "--junit", tmp_path / "verify.xml")
    assert code == 1
    assert "report.html changed" in " ".join(out.split())
    suite = ElementTree.parse(tmp_path / "verify.xml").getroot()
    assert len(list(suite.iter("failure"))) == 1


def test_verify_another_artifact_that_is_damaged(run, artifact, tmp_path):
    other = Path(shutil.copytree(artifact, tmp_path / "other"))
    (other / "manifest.json").write_text("{}")
    code, _, err = run("verify", artifact, "--against", other)
    assert code == 2
    assert "other" in err


# -- optimize ------------------------------------------------------------------------------------------------------------


def test_optimize_says_what_it_does_on_standard_error_alone(fitted):
    said = (fitted / "progress").read_text()
    assert all(stage in said for stage in ("describe", "original", "search", "certify", "write"))
    assert json.loads((fitted / "result.json").read_text())["artifact"] == "fit"


# -- export --------------------------------------------------------------------------------------------------------------


def test_export_writes_a_litert_file_that_runs(run, digits, tmp_path):
    code, out, err = run("export", digits / "digits.onnx", "--to", "litert", "--out", "app.tflite")
    assert (code, err) == (0, "")
    assert "agree with ONNX Runtime" in out
    session = LiteRt().build(Model(path=tmp_path / "app.tflite", format="litert"), {})
    assert [spec.name for spec in session.inputs] == ["image"]
    assert not list(tmp_path.glob("*.part"))


def test_export_keeps_a_file_that_is_there_unless_told(run, digits, tmp_path):
    (tmp_path / "digits.tflite").write_text("mine")
    code, _, err = run("export", digits / "digits.onnx")
    assert code == 2 and "--force" in err
    assert (tmp_path / "digits.tflite").read_text() == "mine"
    assert run("export", digits / "digits.onnx", "--force")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["nowhere.onnx"], "nowhere.onnx"),
        (["{digits}", "--to", "tensorrt"], "no format 'tensorrt'"),
        (["{digits}", "--size", "image"], "name=size"),
        (["noise.tflite"], "noise.tflite"),
    ],
)
def test_export_refuses_what_it_cannot_do_and_writes_nothing(run, digits, tmp_path, arguments, what):
    (tmp_path / "noise.tflite").write_bytes(b"noise" * 50)
    code, _, err = run("export", *(a.format(digits=digits / "digits.onnx") for a in arguments), "--out", "out.tflite")
    assert code == 2 and what in err and "Traceback" not in err
    assert not (tmp_path / "out.tflite").exists()
