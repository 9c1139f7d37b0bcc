"""Our runtimes pass the suite that third parties' runtimes pass."""

import importlib.util
from typing import ClassVar

import pytest

from dovetail.core.protocols import Runtime
from dovetail.runtimes.null import NullRuntime
from dovetail.runtimes.onnxruntime import OnnxRuntime
from dovetail.runtimes.openvino import OpenVino
from dovetail.runtimes.torch import TorchRuntime
from dovetail.testing.runtime_suite import RuntimeConformance


class TestOnnxRuntime(RuntimeConformance):
    runtime: ClassVar[Runtime] = OnnxRuntime()
    options = {"threads": 1}


class TestOnnxRuntimeBound(RuntimeConformance):
    runtime: ClassVar[Runtime] = OnnxRuntime()
    options = {"threads": 1, "io_binding": True}


class TestOpenVino(RuntimeConformance):
    runtime: ClassVar[Runtime] = OpenVino()
    options = {"threads": 1}


class TestOpenVinoStatic(RuntimeConformance):
    runtime: ClassVar[Runtime] = OpenVino()
    options = {"threads": 1, "static": True}


class TestNull(RuntimeConformance):
    runtime: ClassVar[Runtime] = NullRuntime()
    computes = False


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the torch extra")
class TestTorch(RuntimeConformance):
    runtime: ClassVar[Runtime] = TorchRuntime()
    options = {"threads": 1}
