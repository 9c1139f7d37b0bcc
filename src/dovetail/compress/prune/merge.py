"""Residual blocks of convolutions become one convolution each, which starts as near to the block as one can be.

A block ``x + f(x)`` costs two or three convolutions and a sum. One convolution can hold the shortcut, as the identity in the
middle of its kernel (Ding et al., "RepVGG", CVPR 2021), and what of ``f`` is linear. So it keeps more of the block than leaving
it out does, at about half of its cost.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from dovetail.compress.calibration import sweep
from dovetail.compress.graph.edit import constant, dims, new_constant, new_node, replace
from dovetail.compress.prune.blocks import Config, PruneBlocks, Remover, samples_of
from dovetail.compress.prune.residual import Block, inner_nodes, residual_blocks
from dovetail.core.protocols import Array, PassContext

CHEAPER = 0.6
"""Most weights of the one convolution, as a share of the block's: with more it is hardly faster."""
SAMPLES = 64
"""Calibration samples that kernels are fitted to."""
ROWS = 24
"""Places that are looked at per feature of the kernel; each place gives one equation for every output."""
ROUNDS = 8
"""Of the fit where a ReLU follows; it settles within a few."""
DAMPING = 1e-3
"""Of the least squares, as a share of the mean second moment, towards the identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A convolution that stands for a block.

    Attributes:
        weight: ``[channels, channels, k, k]``.
        bias: ``[channels]``.
        mean: of each output without the bias, on the samples.
        variance: likewise.
    """

    weight: Array
    bias: Array
    mean: Array
    variance: Array


class MergeBlocks(PruneBlocks):
    """Puts one convolution in the place of a residual block; parameters as for ``prune_blocks``."""

    name: ClassVar[str] = "merge_blocks"
    what: ClassVar[str] = "residual blocks of convolutions"

    def find(self, graph: ir.Graph) -> list[Block]:
        """Blocks that one convolution can stand for and that get cheaper by it, in execution order."""
        return [block for block in residual_blocks(graph) if kernel_size(block)]

    def remover(self, prepared: ir.Model, config: Config, ctx: PassContext) -> Remover:
        """Puts the convolutions in; each is fitted once, when it is first wanted."""
        samples = samples_of(ctx, self.name)
        source, blocks, known = ir.to_proto(prepared), self.find(prepared.graph), dict[int, Kernel]()

        def remove(graph: ir.Graph, gone: Collection[int]) -> None:
            found = self.find(graph)
            for index in sorted(gone, reverse=True):
                if index not in known:
                    block = blocks[index]
                    names = [str(block.entry.name), str(total(block).name)]
                    pairs = [(v[names[0]], v[names[1]]) for v in sweep(source, names, samples, SAMPLES)]
                    known[index] = fitted(pairs, kernel_size(block), rectified=followed_by_relu(block))
                put(found[index], known[index])

        return remove


def total(block: Block) -> ir.Value:
    """The sum of shortcut and branch."""
    node = block.exit.producer()
    assert node is not None
    if node.op_type == "Add":
        return block.exit
    assert node.inputs[0] is not None
    return node.inputs[0]


def followed_by_relu(block: Block) -> bool:
    """Whether all that reads the sum is a ReLU, so that its negative part does not matter."""
    uses = [node for node, _ in total(block).uses()]
    return bool(uses) and all(node.op_type == "Relu" for node in uses)


def kernel_size(block: Block) -> int:
    """Side of the largest square kernel that is cheap enough; 0 for a block that a convolution cannot stand for."""
    shape = dims(block.entry)
    if shape is None or len(shape) != 4 or not isinstance(shape[1], int):
        return 0
    sides, weights = [1], 0
    for node in inner_nodes(block):
        if node.op_type not in ("Conv", "BatchNormalization", "Relu", "Clip", "Add", "HardSwish", "LeakyRelu"):
            return 0
        if node.op_type == "Conv":
            weight = constant(node.inputs[1])
            if weight is None or weight.dtype != np.float32 or weight.ndim != 4:
                return 0
            sides.append(min(weight.shape[2:]))
            weights += weight.size
    fits = (side for side in range(max(sides) | 1, 0, -2) if shape[1] ** 2 * side**2 <= CHEAPER * weights)
    return next(fits, 0)


def fitted(pairs: Sequence[tuple[Array, Array]], side: int, *, rectified: bool) -> Kernel:
    """The convolution whose outputs are nearest to the sums that a block makes of its inputs.

    Least squares over places of the samples, damped towards the identity, which stands for the block left out. Where a ReLU
    follows, places at which block and convolution are both negative count as equal; each round fits the places that differ
    (alternating minimisation of ``‖relu(Wx) - relu(y)‖²`` over ``W`` and what lies below zero).

    Args:
        pairs: inputs and sums, ``[N, C, H, W]`` each, of some samples.
        side: of the kernel, odd.
        rectified: a ReLU follows.
    """
    channels = pairs[0][0].shape[1]
    features = channels * side * side
    per_sample = max(1, math.ceil(ROWS * features / len(pairs)))
    found = [_equations(x, y, side, per_sample) for x, y in pairs]
    a, y = np.concatenate([rows for rows, _ in found]), np.concatenate([sums for _, sums in found])
    a = np.concatenate([a, np.ones((len(a), 1))], axis=1)
    identity = np.zeros((features + 1, channels))
    middle = np.arange(channels) * side * side + side * side // 2
    identity[middle, np.arange(channels)] = 1.0
    gram = a.T @ a
    gram[np.diag_indices(len(gram))] += (damping := DAMPING * np.trace(gram) / len(gram))
    inverse = np.linalg.inv(gram)
    solution = inverse @ (a.T @ y + damping * identity)
    for _ in range(ROUNDS if rectified else 0):
        wanted = np.where(y > 0, y, np.minimum(a @ solution, 0.0))
        solution = inverse @ (a.T @ wanted + damping * identity)
    outputs = a[:, :-1] @ solution[:-1]
    weight = np.ascontiguousarray(solution[:-1].T.reshape(channels, channels, side, side))
    kind = np.float32
    return Kernel(
        weight=weight.astype(kind),
        bias=solution[-1].astype(kind),
        mean=outputs.mean(axis=0).astype(kind),
        variance=outputs.var(axis=0).astype(kind),
    )


def _equations(x: Array, y: Array, side: int, most: int) -> tuple[Array, Array]:
    """What a kernel reads and the sums at some places, ``[places, features]`` and ``[places, channels]``."""
    edge = side // 2
    padded = np.pad(np.asarray(x, np.float64), [(0, 0), (0, 0), (edge, edge), (edge, edge)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (2, 3)).transpose(0, 2, 3, 1, 4, 5)
    n, h, w = windows.shape[:3]
    chosen = np.unique(np.linspace(0, n * h * w - 1, min(most, n * h * w)).astype(int))
    places = np.unravel_index(chosen, (n, h, w))
    sums = np.asarray(y, np.float64).transpose(0, 2, 3, 1)
    return windows[places].reshape(len(chosen), -1), sums[places]


def put(block: Block, kernel: Kernel) -> None:
    """Puts a convolution in the place of a block, with a normalisation behind it where the block has one.

    The normalisation takes its statistics and scales from the samples, so that it changes nothing; training needs it.
    """
    out = total(block)
    node = out.producer()
    assert node is not None
    normalised = any(inner.op_type == "BatchNormalization" for inner in inner_nodes(block))
    edge = kernel.weight.shape[2] // 2
    name = f"{node.name or out.name}.merged"
    arrays = {"weight": kernel.weight} if normalised else {"weight": kernel.weight, "bias": kernel.bias}
    inputs = [block.entry, *(new_constant(node, array, f"{name}.{part}") for part, array in arrays.items())]
    convolution = new_node("Conv", inputs, {"kernel_shape": list(kernel.weight.shape[2:]), "pads": [edge] * 4}, like=out)
    convolution.name = name
    nodes = [convolution]
    if normalised:
        epsilon = 1e-5
        scale = np.sqrt(kernel.variance + epsilon)
        parts = {"scale": scale, "bias": kernel.bias + kernel.mean, "mean": kernel.mean, "variance": kernel.variance}
        vectors = [new_constant(node, v.astype(np.float32), f"{name}.norm.{part}") for part, v in parts.items()]
        normal = new_node("BatchNormalization", [convolution.outputs[0], *vectors], {"epsilon": epsilon}, like=out)
        normal.name = f"{name}.norm"
        nodes.append(normal)
    replace(node, *nodes)
