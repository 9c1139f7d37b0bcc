"""Writes the probe networks in the forms that runtimes take.

As they are, quantised to 8 bits, and both lowered to LiteRT; with ranges found at each call where matrix products are large.

Wired here, beside ``worker.py`` and run by it: it needs networks of ``devices``, a quantiser of ``compress`` and ``lowering``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.core.errors import DovetailError
from dovetail.core.protocols import Model, PassContext

RANGE = (-3.0, 3.0)
"""Of every activation: no kernel's time depends on it."""
DYNAMIC_SHARE = 0.1
"""Least share of the weights in matrix products for which a network is quantised with ranges found at each call (assumed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFile:
    """One network in one form.

    Attributes:
        form: ``float``, ``int8`` or ``int8-dynamic``.
        format: ``onnx`` or ``litert``.
        path: empty where ``failure`` says why there is no such form.
    """

    network: str
    kind: str
    form: str
    format: str
    path: str = ""
    failure: str = ""


def write(folder: Path) -> tuple[ProbeFile, ...]:
    """All networks in all forms, as files of one folder."""
    from dovetail.devices.probe_networks import networks

    folder.mkdir(parents=True, exist_ok=True)
    return tuple(found for network in networks() for found in forms(network.name, network.kind, network.proto, folder))


def forms(name: str, kind: str, model: Any, folder: Path) -> Iterator[ProbeFile]:
    """One ``onnx.ModelProto`` as it is and in 8 bits, each for ONNX's runtimes and for LiteRT; dynamic 8 bits for ONNX's."""
    import onnx

    for form in ("float", "int8"):
        facts: Mapping[str, str] = {"network": name, "kind": kind, "form": form}
        path = folder / f"{name}-{form}.onnx"
        try:
            onnx.save(model if form == "float" else _quantised(model), str(path))
        except DovetailError as error:
            yield from (ProbeFile(**facts, format=name_of_format, failure=str(error)) for name_of_format in ("onnx", "litert"))
            continue
        yield ProbeFile(**facts, format="onnx", path=str(path))
        yield _lowered(path, facts)
    if _product_share(model) >= DYNAMIC_SHARE:
        yield _dynamic(folder / f"{name}-float.onnx", {"network": name, "kind": kind, "form": "int8-dynamic"})


def _product_share(model: Any) -> float:
    """Of a network's weights in matrix products."""
    sizes: dict[str, int] = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    products = {name for node in model.graph.node if node.op_type in ("MatMul", "Gemm") for name in node.input}
    return sum(size for name, size in sizes.items() if name in products) / max(1, sum(sizes.values()))


def _dynamic(path: Path, facts: Mapping[str, str]) -> ProbeFile:
    from dovetail.compress.quantize_dynamic import QuantizeDynamic
    from dovetail.devices.probe import environment

    folder = path.with_name(f"{facts['network']}-{facts['form']}")
    folder.mkdir(exist_ok=True)
    try:
        found = QuantizeDynamic().apply(Model(path=path), PassContext(workdir=folder, environment=environment()))
    except DovetailError as error:
        return ProbeFile(**facts, format="onnx", failure=str(error))
    return ProbeFile(**facts, format="onnx", path=str(found.path))


def _lowered(path: Path, facts: Mapping[str, str]) -> ProbeFile:
    from dovetail.lowering.lower import lower

    out = path.with_suffix(".tflite")
    try:
        lower(path, out, {})
    except DovetailError as error:
        return ProbeFile(**facts, format="litert", failure=str(error))
    return ProbeFile(**facts, format="litert", path=str(out))


def _quantised(proto: Any) -> Any:
    """As static quantisation leaves it with its defaults, but for the ranges.

    Raises:
        ModelError: nothing in it can be quantised.
    """
    from onnx import shape_inference

    from dovetail.compress import qdq
    from dovetail.compress.quantize_static import Config

    inferred = shape_inference.infer_shapes(proto)
    scope = qdq.scope(inferred, Config().scheme, (), (), ())
    ranges = dict.fromkeys(qdq.activations(inferred, scope), RANGE)
    return qdq.quantize(inferred, ranges, Config().grid(), scope)
