"""Weights as products of smaller ones: truncated SVD of matrices, Tucker-2, channel and spatial splits of convolutions.

All are best in the norm ``‖(W - W') C^½‖``, where ``C`` is the second moment of what the layer reads
(:mod:`dovetail.compress.moments`), or the plain Frobenius norm without it. For matrices that is the truncated SVD of ``W C^½``
(Eckart, Young, 1936; as a layer's least output error: Chen, Yu, Dhillon, Hsieh, "DRONE", NeurIPS 2021), with ``C^-½`` put back
into the right factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dovetail.core.protocols import Array

ITERATIONS = 10
"""Rounds of HOOI; it settles within a few."""
DAMPING = 1e-6
"""Least eigenvalue of a second moment, as a share of its greatest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A second moment's symmetric square root and that one's inverse, ``float64[features, features]`` each."""

    half: Array
    inverse: Array

    @classmethod
    def of(cls, moments: Array | None) -> Root | None:
        """The root of a moment; ``None`` without one, or of zeros."""
        if moments is None or not np.any(moments):
            return None
        values, vectors = np.linalg.eigh((moments + moments.T) / 2)
        values = np.sqrt(np.maximum(values, DAMPING * values[-1]))
        return cls(half=(vectors * values) @ vectors.T, inverse=(vectors / values) @ vectors.T)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """A matrix taken apart once, to be put together at any rank.

    Attributes:
        left: ``[rows, n]``, scaled so that rows of equal rank carry equal weight.
        right: ``[n, columns]``.
        energy: share of the squared norm that the first ``r`` terms keep, ``[n + 1]``, from 0 to 1.
    """

    left: Array
    right: Array
    energy: Array

    @classmethod
    def of(cls, matrix: Array, root: Root | None = None) -> Spectrum:
        """The spectrum of ``[rows, columns]``, columns weighted by a second moment's root."""
        weighted = matrix if root is None else matrix @ root.half
        u, s, vt = np.linalg.svd(weighted, full_matrices=False)
        scale = np.sqrt(s)
        right = scale[:, None] * vt
        return cls(left=u * scale, right=right if root is None else right @ root.inverse, energy=_shares(s))

    @property
    def full(self) -> int:
        """The greatest rank."""
        return len(self.right)

    def at(self, rank: int) -> tuple[Array, Array]:
        """Factors ``[rows, rank]`` and ``[rank, columns]``."""
        return self.left[:, :rank], self.right[:rank]


def _shares(singular: Array) -> Array:
    total = np.concatenate([[0.0], np.cumsum(singular**2)])
    return total / total[-1] if total[-1] > 0 else np.ones_like(total)


def least_rank(energy: Array, share: float) -> int:
    """The least rank, from 1, that keeps a share of the energy."""
    return max(1, int(np.searchsorted(energy, share - 1e-12)))


def spatial_matrix(weight: Array) -> Array:
    """``[out, in, rows, columns]`` as ``[out · columns, in · rows]``: one factor per axis of the kernel."""
    out, inputs, rows, columns = weight.shape
    return weight.transpose(0, 3, 1, 2).reshape(out * columns, inputs * rows)


def spatial_kernels(left: Array, right: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Kernels ``[rank, in, rows, 1]``, then ``[out, rank, 1, columns]`` (Jaderberg, Vedaldi, Zisserman, BMVC 2014)."""
    out, inputs, rows, columns = shape
    second = left.reshape(out, columns, -1).transpose(0, 2, 1)[:, :, None, :]
    return right.reshape(-1, inputs, rows, 1), np.ascontiguousarray(second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tucker:
    """``W ≈ core ×out U ×in V``, the channel modes only (Kim et al., ICLR 2016, arXiv:1511.06530).

    Attributes:
        out: ``[out, r_out]``.
        core: ``[r_out, r_in, *kernel]``.
        inputs: ``[in, r_in]``.
        energy: share of the squared norm kept.
    """

    out: Array
    core: Array
    inputs: Array
    energy: float


def tucker(weight: Array, ranks: tuple[int, int], root: Root | None = None) -> Tucker:
    """Tucker-2 by higher-order orthogonal iteration from the higher-order SVD (De Lathauwer, De Moor, Vandewalle, 2000).

    Args:
        weight: ``[out, in, *kernel]``.
        ranks: of the output and of the input channels.
        root: of the input channels' second moment.
    """
    r_out, r_in = ranks
    weighted = weight if root is None else mode_product(weight, root.half, 1)
    v = leading(unfolded(weighted, 1), r_in)
    u = leading(unfolded(weighted, 0), r_out)
    for _ in range(ITERATIONS if (r_out < weight.shape[0] or r_in < weight.shape[1]) else 0):
        u = leading(unfolded(mode_product(weighted, v.T, 1), 0), r_out)
        v = leading(unfolded(mode_product(weighted, u.T, 0), 1), r_in)
    core = mode_product(mode_product(weighted, u.T, 0), v.T, 1)
    whole = float(np.sum(weighted**2))
    kept = float(np.sum(core**2)) / whole if whole else 1.0
    return Tucker(out=u, core=core, inputs=v if root is None else root.inverse @ v, energy=min(kept, 1.0))


def tucker_energies(weight: Array, root: Root | None = None) -> tuple[Array, Array]:
    """Energy kept by the first ``r`` directions of the output and of the input channels alone, as in :class:`Spectrum`."""
    weighted = weight if root is None else mode_product(weight, root.half, 1)
    out, inputs = (np.linalg.svd(unfolded(weighted, mode), compute_uv=False) for mode in (0, 1))
    return _shares(out), _shares(inputs)


def unfolded(tensor: Array, mode: int) -> Array:
    """The tensor as a matrix with one axis as its rows."""
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def mode_product(tensor: Array, matrix: Array, mode: int) -> Array:
    """``matrix`` applied along one axis."""
    return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, mode)), 0, mode)


def leading(matrix: Array, rank: int) -> Array:
    """The first left singular vectors, ``[rows, rank]``, from the small Gram matrix."""
    _, vectors = np.linalg.eigh(matrix @ matrix.T)
    return vectors[:, ::-1][:, :rank]


def separable(weight: Array, multiplier: int = 1) -> tuple[Array, Array, float]:
    """A convolution as depthwise and pointwise ones, nearest to it in least squares.

    Each input channel's ``[kernel, out]`` slice becomes a sum of ``multiplier`` rank-one terms, its truncated SVD.

    Args:
        weight: ``[out, in, *kernel]``.
        multiplier: depthwise kernels per input channel.

    Returns:
        Depthwise ``[in · multiplier, 1, *kernel]``, pointwise ``[out, in · multiplier, 1, …]``, share of the squared norm kept.
    """
    out, inputs, kernel = weight.shape[0], weight.shape[1], weight.shape[2:]
    slices = np.moveaxis(weight, 1, 0).reshape(inputs, out, -1)
    u, s, vt = np.linalg.svd(slices, full_matrices=False)
    m = min(multiplier, s.shape[1])
    depth = (np.sqrt(s[:, :m, None]) * vt[:, :m]).reshape(inputs * m, 1, *kernel)
    point = (u[:, :, :m] * np.sqrt(s[:, None, :m])).transpose(1, 0, 2).reshape(out, inputs * m, *(1,) * len(kernel))
    whole = float(np.sum(s**2))
    return depth, point, float(np.sum(s[:, :m] ** 2)) / whole if whole else 1.0
