"""Options of ``dovetail predict`` that do not go together: honoured or refused, never ignored."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--device", "A100 SXM 80GB", "--runtime", "openvino"), "--runtime"),
        (("--runtime", "openvino", "--shape", "input=1,64"), "--shape"),
        (("--device", "A100 SXM 80GB", "--threads", "2"), "--threads"),
        (("--eager",), "--eager"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(dovetail, digits, options, word):
    run = dovetail("predict", digits / "digits.onnx", *options)
    assert run.returncode == 2 and word in run.stderr and "Traceback" not in run.stderr


@pytest.mark.slow
def test_threads_of_a_processor_count(dovetail, digits):
    seconds = {}
    for threads in (1, 8):
        run = dovetail("predict", digits / "digits.onnx", "--device", "EPYC 9654", "--threads", threads, "--json")
        assert run.returncode == 0, run.stderr
        seconds[threads] = json.loads(run.stdout)["device"]["latency_s"]["value"]
    assert seconds[1] >= seconds[8]
