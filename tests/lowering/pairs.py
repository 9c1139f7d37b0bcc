"""Models with pairs of quantisation, written out node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from written import node

MIDDLE = {"int8": 0, "uint8": 128, "int16": 0, "uint16": 32768}


def pair(source: str, name: str, scale: float, dtype: str, constants: dict[str, Any], zero: int | None = None) -> list[Any]:
    """A value rounded to integers, and read back as reals under ``name``."""
    zero = MIDDLE[dtype] if zero is None else zero
    constants.update({f"{name}/s": np.float32(scale), f"{name}/z": np.array(zero, dtype)})
    parameters = f"{name}/s {name}/z"
    return [
        node("QuantizeLinear", f"{source} {parameters}", f"{name}/q"), node("DequantizeLinear", f"{name}/q {parameters}", name),
    ]  # fmt: skip


def weights(w: np.ndarray, axis: int, constants: dict[str, Any], kind: str = "channels") -> onnx.NodeProto:
    """Weights ``w`` of 8 bits: a scale for each slice of an axis (``channels``), one (``tensor``), or one off the middle
    (``asymmetric``); or of half precision (``half``)."""
    if kind == "half":
        constants["w/h"] = w.astype(np.float16)
        return node("Cast", "w/h", "w", to=onnx.TensorProto.FLOAT)
    other = tuple(a for a in range(w.ndim) if a != axis)
    if kind == "channels":
        scale = (np.abs(w).max(axis=other) / 127).astype(np.float32)
        spread = scale.reshape([-1 if a == axis else 1 for a in range(w.ndim)])
    else:
        scale = spread = np.float32(np.abs(w).max() / 120)
    zero = np.full(scale.shape, 131 if kind == "asymmetric" else 0, np.uint8 if kind == "asymmetric" else np.int8)
    limits = (0, 255) if kind == "asymmetric" else (-127, 127)
    moved = np.rint(w / spread) + (131 if kind == "asymmetric" else 0)
    constants.update({"w/q": np.clip(moved, *limits).astype(zero.dtype), "w/s": scale, "w/z": zero})
    return node("DequantizeLinear", "w/q w/s w/z", "w", **({"axis": axis} if kind == "channels" else {}))
