"""Nothing heavy is loaded before it is used."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "onnxruntime", "openvino", "nncf", "onnx", "scipy", "ai_edge_litert")


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys; sys.stdout.write('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()) & set(HEAVY)


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import dovetail") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["optimize", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"from dovetail.cli import main\ntry:\n    main({arguments})\nexcept SystemExit as stop:\n    assert not stop.code"
    assert loaded_by(code) == set()


def test_a_measured_process_loads_no_statistics():
    """scipy costs every child a second and tens of megabytes."""
    assert loaded_by("import dovetail.worker, dovetail.measure.timing") == set()
