"""Which weights of a model share their values, and the model with other values in the same places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dovetail.core.errors import ModelError
from dovetail.core.protocols import Array, Model

MAX_VALUES = 4096
LEAST_SHARERS = 4
"""Elements per value from which on a tensor counts as shared."""
FLOAT, FLOAT16 = 1, 10
"""``TensorProto.DataType``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """A tensor whose elements share few values.

    The gradient of a value is the sum of its members' gradients (Han, Mao, Dally, "Deep Compression", ICLR 2016,
    arXiv:1510.00149, section 3.3), see :meth:`summed`.

    Attributes:
        codebook: the values, ``[k]``, ascending.
        indices: place in the codebook of every element, ``int64`` of the tensor's shape.
    """

    codebook: Array
    indices: Array

    @property
    def tensor(self) -> Array:
        """The whole tensor."""
        values: Array = self.codebook[self.indices]
        return values

    def summed(self, gradient: Array) -> Array:
        """Gradient with respect to the codebook, ``float64[k]``, from that with respect to the tensor."""
        return np.bincount(self.indices.ravel(), gradient.ravel().astype(np.float64), len(self.codebook))


def clusters(model: Model | Any, *, max_values: int = MAX_VALUES) -> dict[str, Shared]:
    """Initialisers of a model whose elements share values, by name.

    Args:
        model: an ONNX file, or an ``onnx.ModelProto`` with its weights in it.
        max_values: most values that a tensor may have to count as shared.

    Returns:
        Float tensors of two dimensions or more, with at least :data:`LEAST_SHARERS` elements per value, in the graph's order.

    Raises:
        ModelError: the file cannot be read.
    """
    from onnx import numpy_helper

    found = {}
    for tensor in _tensors(_proto(model)):
        if tensor.data_type not in (FLOAT, FLOAT16) or len(tensor.dims) < 2:
            continue
        array = numpy_helper.to_array(tensor)
        few = min(max_values, array.size // LEAST_SHARERS)
        if len(np.unique(array.ravel()[: 4 * few + 4096])) > few:
            continue
        codebook, indices = np.unique(array, return_inverse=True)
        if len(codebook) <= few:
            found[str(tensor.name)] = Shared(codebook=codebook, indices=indices.reshape(array.shape))
    return found


def with_values(model: Model | Any, shared: Mapping[str, Shared]) -> Any:
    """A copy of the model, ``onnx.ModelProto``, in which these initialisers hold these values.

    Raises:
        ModelError: the file cannot be read, or has no such initialiser of that shape.
    """
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(_proto(model))
    known = {tensor.name: tensor for tensor in _tensors(copy)}
    for name, value in shared.items():
        tensor = known.get(name)
        if tensor is None or tuple(tensor.dims) != value.indices.shape:
            raise ModelError(f"it has no initialiser {name!r} of the shape {list(value.indices.shape)}", where="with_values")
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        tensor.CopyFrom(numpy_helper.from_array(value.tensor.astype(kind), name))
    return copy


def _proto(model: Model | Any) -> Any:
    if not isinstance(model, Model):
        return model
    import onnx

    try:
        return onnx.load(model.path)
    except Exception as exc:  # protobuf, onnx and the file system raise unrelated types
        raise ModelError(f"cannot be read as ONNX: {exc}", where=str(model.path)) from exc


def _tensors(proto: Any) -> Iterable[Any]:
    tensors: Iterable[Any] = proto.graph.initializer
    return tensors
