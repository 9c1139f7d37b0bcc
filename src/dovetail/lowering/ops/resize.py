"""Resize: the runtime's own operator where it puts samples where the model does, else gathered samples and their weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array
from dovetail.lowering.emitter import Emitter
from dovetail.lowering.ops.convolution import finish_image, image_input, image_result
from dovetail.lowering.ops.maths import Maths
from dovetail.lowering.ops.types import bind, carried
from dovetail.lowering.source import Node
from dovetail.lowering.tensors import Tensor, View

_TYPES = frozenset({"float32", "int8", "uint8", "int32", "int64", "int16", "bool"})
_FLAGS = ((False, False), (True, False), (False, True))
"""Of the runtime's operators: align_corners, half_pixel_centers."""
_CLOSE = 1e-5
_SHARES = 1024
"""Parts of one in which the integer kernel of RESIZE_BILINEAR counts; of 16 bits, what is no whole number of them shows."""
Matrix = Array
"""``[outputs, inputs]``: what each output takes from each input along one axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis that changes its size.

    Attributes:
        scale: outputs for each input, as the model says.
    """

    axis: int
    inputs: int
    outputs: int
    scale: float


def resize(em: Emitter, node: Node) -> None:
    """Resize, in each mode whose samples are known in advance.

    Raises:
        ModelError: sizes computed at run time, a crop, or filters against aliasing.
    """
    x = em.view(node.inputs[0])
    mode = node.get("mode", "nearest")
    crops = node.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if crops or node.get("antialias", 0) or (mode == "linear" and node.get("exclude_outside", 0)):
        raise ModelError(f"Resize {node.output!r} crops, smooths or leaves samples out, which is not lowered")
    allowed = _TYPES if mode == "nearest" else frozenset({"float32"})
    if x.quant is None or not x.quant.per_tensor or mode == "cubic":
        (x,) = carried(em, node, [em.real(x)], allowed)
    axes = _axes(em, node, x.shape)
    matrices = {axis.axis: _matrix(node, axis) for axis in axes}
    if mode == "linear" and x.quant is not None:
        in_shares = x.dtype != "int16" or all(map(_in_shares, matrices.values()))
        x = x if in_shares and node.output in em.targets else em.real(x)  # new numbers are rounded where the model rounds them
    if not _own(em, node, x, matrices):
        _gathered(em, node, x, matrices)


def _axes(em: Emitter, node: Node, shape: tuple[int, ...]) -> list[Axis]:
    """The axes that change their size or place their samples anew."""
    new = em.source.shape(node.output)
    chosen = [axis % len(shape) for axis in node.get("axes") or range(len(shape))]
    scales = em.array(node, 2, "scales").reshape(-1) if node.has(2) else np.zeros(0, np.float32)
    found = []
    for index, axis in enumerate(chosen):
        inputs, outputs = shape[axis], new[axis]
        # Where the model gives sizes, an axis that keeps to a common scale goes by that and not by its rounded size.
        scale = float(scales[index]) if scales.size else _common_scale(em, node, shape, chosen, index)
        if inputs != outputs or scale != 1.0:
            found.append(Axis(axis=axis, inputs=inputs, outputs=outputs, scale=scale))
    return found


def _common_scale(em: Emitter, node: Node, shape: tuple[int, ...], chosen: list[int], index: int) -> float:
    wanted = [float(n) for n in em.array(node, 3, "sizes").reshape(-1)]
    scales = [size / shape[axis] for size, axis in zip(wanted, chosen, strict=True)]
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return scales[index]
    return min(scales) if policy == "not_larger" else max(scales)


# -- where samples lie ---------------------------------------------------------------------------------------------------


def _places(node: Node, axis: Axis) -> Array:
    """Coordinate of each output along the input, by the standard's formulas, in double precision."""
    kind, out = node.get("coordinate_transformation_mode", "half_pixel"), np.arange(axis.outputs, dtype=np.float64)
    if kind == "asymmetric":
        return out / axis.scale
    if kind == "align_corners":
        last = axis.scale * axis.inputs - 1
        return out * (axis.inputs - 1) / last if last > 0 else np.zeros(axis.outputs)
    if kind == "half_pixel" or (kind == "pytorch_half_pixel" and axis.outputs > 1):
        return (out + 0.5) / axis.scale - 0.5
    if kind == "pytorch_half_pixel":
        return np.zeros(axis.outputs)
    if kind == "half_pixel_symmetric":
        share = axis.outputs / (axis.scale * axis.inputs)
        return axis.inputs / 2 * (1 - share) + (out + 0.5) / axis.scale - 0.5
    raise ModelError(f"Resize {node.output!r} has the coordinates {kind!r}, which are not lowered")


def _matrix(node: Node, axis: Axis) -> Matrix:
    """What each output takes from each input along an axis."""
    places, mode = _places(node, axis), node.get("mode", "nearest")
    matrix = np.zeros((axis.outputs, axis.inputs))
    rows = np.arange(axis.outputs)
    taps = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}[mode]
    for index, weight in taps(node, places, axis.inputs):
        np.add.at(matrix, (rows, np.clip(index, 0, axis.inputs - 1).astype(np.int64)), weight)
    return matrix


def _nearest(node: Node, places: Array, inputs: int) -> list[tuple[Array, Array]]:
    kind = node.get("nearest_mode", "round_prefer_floor")
    if kind == "round_prefer_floor":
        index = np.ceil(places - 0.5)
    elif kind == "round_prefer_ceil":
        index = np.floor(places + 0.5)
    else:
        index = np.floor(places) if kind == "floor" else np.ceil(places)
    return [(index, np.ones(len(places)))]


def _linear(node: Node, places: Array, inputs: int) -> list[tuple[Array, Array]]:
    low = np.floor(places)
    return [(low, 1 - (places - low)), (low + 1, places - low)]


def _cubic(node: Node, places: Array, inputs: int) -> list[tuple[Array, Array]]:
    """Keys' kernel over four samples (R. Keys, 1981, equation 4)."""
    a, low = node.get("cubic_coeff_a", -0.75), np.floor(places)
    taps = []
    for step in range(-1, 3):
        d = np.abs(places - low - step)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
        taps.append((low + step, np.where(d <= 1, near, far)))
    if node.get("exclude_outside", 0):
        inside = [((i >= 0) & (i < inputs)) * w for i, w in taps]
        total = np.sum(inside, axis=0)
        return [(i, w / total) for (i, _), w in zip(taps, inside, strict=True)]
    return taps


# -- the runtime's own operators -----------------------------------------------------------------------------------------


def _runtime_matrix(mode: str, inputs: int, outputs: int, align: bool, half: bool) -> Matrix:
    """The same for an operator of the runtime, by its formulas, in single precision as there."""
    one = np.float32
    scale = one(inputs - 1) / one(outputs - 1) if align and outputs > 1 else one(inputs) / one(outputs)
    out = np.arange(outputs, dtype=one)
    matrix, rows = np.zeros((outputs, inputs)), np.arange(outputs)
    if mode == "nearest":
        places = (out + one(0.5)) * scale if half else out * scale
        index = np.floor(places + one(0.5)) if align else np.floor(places)
        matrix[rows, np.clip(index, 0, inputs - 1).astype(np.int64)] = 1
        return matrix
    places = (out + one(0.5)) * scale - one(0.5) if half else out * scale
    low = np.maximum(np.floor(places), 0).astype(np.int64)
    high = np.minimum(np.ceil(places), inputs - 1).astype(np.int64)
    np.add.at(matrix, (rows, low), 1 - (places - low))
    np.add.at(matrix, (rows, high), places - low)
    return matrix


def _own(em: Emitter, node: Node, x: View, matrices: dict[int, Matrix]) -> bool:
    """Emits the runtime's operator where it takes the same samples with the same weights."""
    mode = node.get("mode", "nearest")
    flags = next((f for f in _FLAGS if _fits(mode, x.shape, matrices, *f)), None)
    if x.rank not in (3, 4) or mode == "cubic" or not set(matrices) <= {2, 3} or flags is None or x.dtype not in _OWN[mode]:
        return False
    _, image = image_input(em, node, x)
    out = image_result(em, node, x.quant)
    out.dtype = image.dtype
    code, table = ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions") if mode == "nearest" else _BILINEAR
    sizes = em.integers(out.shape[1:3], f"{node.output}/size")
    em.emit(code, [image, sizes], [out], table, alignCorners=flags[0], halfPixelCenters=flags[1])
    finish_image(em, node, out)
    return True


_OWN = {"nearest": frozenset({"float32", "int8", "uint8", "int16"}), "linear": frozenset({"float32", "int8", "int16"})}
_BILINEAR = ("RESIZE_BILINEAR", "ResizeBilinearOptions")


def _in_shares(matrix: Matrix) -> bool:
    """Whether all weights are ones that the integer kernel has."""
    return bool((matrix * _SHARES % 1 == 0).all())


def _fits(mode: str, shape: tuple[int, ...], matrices: dict[int, Matrix], align: bool, half: bool) -> bool:
    for matrix in matrices.values():
        outputs, inputs = matrix.shape
        if np.abs(_runtime_matrix(mode, inputs, outputs, align, half) - matrix).max() > _CLOSE:
            return False
    return bool(matrices)


def _gathered(em: Emitter, node: Node, x: View, matrices: dict[int, Matrix]) -> None:
    """Axis by axis: samples are gathered, weighed and added."""
    quantised = node.get("mode", "nearest") == "nearest"
    if not quantised and x.quant is not None:
        x = em.real(x)
    m, current = Maths(em, node.output), x.tensor
    for axis, matrix in matrices.items():
        current = _mixed(m, current, matrix, x.place(axis))
    if x.quant is None:
        bind(em, node.output, current, x.order)
    else:
        em.bind(node.output, View(current, x.order))


def _mixed(m: Maths, x: Tensor, matrix: Matrix, place: int) -> Tensor:
    rank = len(x.shape)
    taps = int((matrix != 0).sum(axis=1).max())
    strongest = np.argsort(-np.abs(matrix), axis=1, kind="stable")[:, :taps]
    weights = np.take_along_axis(matrix, strongest, axis=1)
    total = None
    for tap in range(taps):
        part = m.gather(x, m.constant(strongest[:, tap].astype(np.int32)), place)
        if not (weights[:, tap] == 1).all():
            shape = [-1 if axis == place else 1 for axis in range(rank)]
            part = m.mul(part, m.constant(weights[:, tap].astype(np.float32).reshape(shape)))
        total = part if total is None else m.add(total, part)
    assert total is not None, "each output takes from some input"
    return total


TABLE = {"Resize": resize}
