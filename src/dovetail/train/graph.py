"""An ONNX model as a torch module that can be trained, and the same model back with the weights it then has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor, nn

from dovetail.core.errors import DataError, InputError, ModelError
from dovetail.core.protocols import Array
from dovetail.train import integers, optimizers, roles, scales
from dovetail.train.assemble import assemble, require_kernels
from dovetail.train.ops.node import Mode, NodeView
from dovetail.train.ops.types import FLOATS, TORCH_TYPES, from_array, from_proto, torch_type
from dovetail.train.plan import Plan, execute, plan
from dovetail.train.source import WITHOUT_TRAINING, Item, Source, expanded
from dovetail.train.steps import Step


class TrainableGraph(nn.Module):  # type: ignore[misc]
    """A model whose stored weights are parameters.

    Parameters are what :mod:`.roles` calls weights; integer weights that are dequantised are parameters with their real values,
    put on their grid at each call. Running statistics are buffers of the state; other constants are buffers outside it.
    QuantizeLinear and DequantizeLinear quantise as ONNX Runtime does, with a gradient that passes straight through.

    In training mode batch normalisation takes the statistics of the batch and updates the running ones (see
    :meth:`freeze_statistics`), dropout drops, and outputs of an integer type come as floats, so that a loss can follow them.

    Args:
        proto: the model, weights loaded; it is copied.
        learn_scales: also trains the scales of quantisation; scales of int32 biases follow those of their layer.
        values: initial weights by name of the tensor in the file; real values for integer weights.
        memory_format: ``torch.channels_last`` keeps images and convolutions in that order.
        frozen: nothing is trained (a teacher): all stored tensors are constants, and training mode changes nothing.

    Raises:
        ModelError: operators without a kernel, control flow, or no weight to train.
        InputError: ``values`` names what is not a weight, or has another shape.
    """

    def __init__(
        self,
        proto: ModelProto,
        *,
        learn_scales: bool = False,
        values: Mapping[str, Array] | None = None,
        memory_format: torch.memory_format | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        source = self._source = Source(proto)
        self._format, self._frozen, self._mode = memory_format, frozen, Mode(statistics=not frozen)
        require_kernels(source.items)
        items, same = scales.tie(source.items, source.stored)
        every = list(expanded(items))
        self._weights = [] if frozen else roles.trainable(every, source.stored)
        if not self._weights and not frozen:
            raise ModelError("the model has no weights to train", hint=WITHOUT_TRAINING)
        integer = [name for name in self._weights if source.stored[name].data_type not in FLOATS]
        self._spans = {name: integers.span(source.stored[name]) for name in integer}
        self._scales = scales.relate(items, source.stored, same, learn_scales and not frozen)
        self._keys: dict[str, str] = {}  # tensor of the file → key in the module's state
        self._readers = {item.inputs[0]: item for item in every if item.kind == "DequantizeLinear"}
        self._statistics = roles.statistics(every, source.stored)
        self._register(values or {})
        self._steps = self._assembled(items)
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._plan(())
        self.train(not frozen)

    # -- making -------------------------------------------------------------------------------------------------------

    def _register(self, values: Mapping[str, Array]) -> None:
        stored = self._source.stored
        names = [*self._weights, *(name for name in self._scales.learned if name not in self._weights)]
        unknown = sorted(set(values) - set(names))
        if unknown and not self._frozen:
            raise InputError(f"{unknown[0]!r} is not among the model's weights", hint="names are those of initialisers")
        for index, name in enumerate(names):
            start = self._real(name) if name not in values else from_array(values[name]).to(self._real_type(name))
            if tuple(start.shape) != tuple(stored[name].dims):
                raise InputError(f"{name!r} has shape {list(stored[name].dims)}, the given values {list(start.shape)}")
            self._keys[name] = _key("weight", index, name)
            parameter = nn.Parameter(self._laid_out(start))
            if name in self._scales.learned:
                optimizers.set_unit(parameter)
            self.register_parameter(self._keys[name], parameter)
        for index, name in enumerate(sorted(self._statistics)):
            self._keys[name] = _key("statistic", index, name)
            self.register_buffer(self._keys[name], from_proto(stored[name]))

    def _real(self, name: str) -> Tensor:
        """Values of a stored tensor, dequantised where it holds integers."""
        tensor = self._source.stored[name]
        if tensor.data_type in FLOATS:
            return from_proto(tensor)
        scale, zero = self._grid(name)
        return integers.dequantized(tensor, self._readers[name], from_proto(self._source.stored[scale]), zero)

    def _real_type(self, name: str) -> torch.dtype:
        kind = self._source.stored[name].data_type
        return torch_type(kind if kind in FLOATS else self._source.stored[self._grid(name)[0]].data_type)

    def _grid(self, name: str) -> tuple[str, TensorProto | None]:
        """Name of the scale of an integer weight, and its zero point."""
        inputs = self._readers[name].inputs
        return inputs[1], self._source.stored[inputs[2]] if len(inputs) > 2 and inputs[2] else None

    def _laid_out(self, tensor: Tensor) -> Tensor:
        if self._format is None or tensor.dim() != 4 or not tensor.is_floating_point():
            return tensor
        return tensor.contiguous(memory_format=self._format)

    def _assembled(self, items: Sequence[Item]) -> list[Step]:
        """The steps; what they read that never changes becomes buffers."""
        source, changing = self._source, {*self._keys, *self._scales.products}
        known = {name: from_proto(tensor) for name, tensor in source.stored.items() if name not in changing}
        prologue, used = self._scale_steps()
        items = [_renamed(item, used) for item in items]
        steps = [*prologue, *assemble(items, source.stored, known, self._spans, self._mode)]
        available = {*source.inputs, *known, *self._keys, *(name for step in steps for name in step.writes)}
        lost = [name for name in source.outputs if name not in available]
        if lost:
            raise ModelError(f"nothing makes the output {lost[0]!r}")
        read = {name for step in steps for name in step.reads} | set(source.outputs)
        kept = {name: value for name, value in known.items() if name in read}
        for index, (name, value) in enumerate(kept.items()):
            self.register_buffer(_key("constant", index, name), self._laid_out(value), persistent=False)
            self._keys[name] = _key("constant", index, name)
        return steps

    def _scale_steps(self) -> tuple[list[Step], dict[str, str]]:
        """Steps that make the scales in use from the trained ones, and scale → name of the one in use."""
        used = {name: f"{name}|in use" for name in (*self._scales.learned, *self._scales.products)}
        blank = NodeView(name="", kind="scale", opset=0)
        steps = [
            Step(kernel=scales.positive, reads=(name,), writes=(used[name],), view=blank) for name in self._scales.learned
        ]
        for name, pair in self._scales.products.items():
            reads = tuple(used[factor] for factor in pair)
            steps.append(Step(kernel=scales.product, reads=reads, writes=(used[name],), view=blank))
        return steps, used

    # -- running ------------------------------------------------------------------------------------------------------

    def forward(self, feeds: Mapping[str, Tensor], taps: Sequence[str] = ()) -> dict[str, Tensor]:
        """All outputs by name, and the inner tensors named in ``taps``.

        Raises:
            DataError: a feed is missing.
            InputError: there is no tensor of that name.
            ModelError: an operator cannot take these shapes.
        """
        found = self._plans.get(tuple(taps)) or self._plan(tuple(taps))
        values: list[Any] = [None] * found.size
        for name, slot in found.sources:
            values[slot] = self._stored(name) if name in self._keys else self._fed(feeds, name)
        execute(found, values)
        names = [*self._source.outputs, *taps]
        return {name: self._handed_out(name, values[slot]) for name, slot in zip(names, found.results, strict=True)}

    def _plan(self, taps: tuple[str, ...]) -> Plan:
        made = {name for step in self._steps for name in step.writes}
        lost = [name for name in taps if name not in made and name not in self._keys and name not in self._source.inputs]
        if lost:
            raise InputError(f"the model has no tensor {lost[0]!r} that depends on its inputs")
        self._plans[taps] = plan(self._steps, [*self._source.outputs, *taps])
        return self._plans[taps]

    def _stored(self, name: str) -> Tensor:
        key = self._keys[name]
        value = self._parameters.get(key)
        found: Tensor = self._buffers[key] if value is None else value
        return found

    def _fed(self, feeds: Mapping[str, Tensor], name: str) -> Tensor:
        if name not in feeds:
            raise DataError(f"the input {name!r} is missing", hint=f"the model takes {', '.join(self._source.inputs)}")
        return self._laid_out(feeds[name])

    def _handed_out(self, name: str, value: Tensor) -> Tensor:
        """Levels leave as integers, except in training."""
        wanted = TORCH_TYPES.get(self._source.outputs.get(name, 0))
        levels = wanted is not None and not wanted.is_floating_point and value.is_floating_point()
        return value.to(wanted) if levels and not self.training else value

    def train(self, mode: bool = True) -> TrainableGraph:
        """Switches between training and evaluation; a frozen graph stays in evaluation."""
        super().train(mode and not self._frozen)
        self._mode.training = self.training
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainableGraph:
        """A graph of its own with the same values; kernels are made anew, since they look at their graph's mode."""
        copy = TrainableGraph(
            self._source.proto, learn_scales=bool(self._scales.learned), memory_format=self._format, frozen=self._frozen
        )
        copy.load_state_dict(self.state_dict())
        copy.freeze_statistics(not self._mode.statistics)
        memo[id(self)] = copy.train(self.training)
        return copy

    def freeze_statistics(self, frozen: bool = True) -> None:
        """Lets batch normalisation use the running statistics, and leave them as they are, in training mode too."""
        self._mode.statistics = not frozen

    @property
    def input_names(self) -> list[str]:
        """Names of what has to be fed, in the model's order."""
        return list(self._source.inputs)

    @property
    def output_names(self) -> list[str]:
        """Names of the model's outputs, in its order."""
        return list(self._source.outputs)

    def trainable_names(self) -> list[str]:
        """Names, in the file, of the tensors that are parameters, in the order of ``parameters()``."""
        return [name for name, key in self._keys.items() if key in self._parameters]

    def parameter(self, name: str) -> nn.Parameter:
        """The parameter of a tensor of the file.

        Raises:
            KeyError: it is none.
        """
        found: nn.Parameter = self._parameters[self._keys[name]]
        return found

    # -- back to ONNX -------------------------------------------------------------------------------------------------

    def to_proto(self) -> ModelProto:
        """The model it was made from, with the current values of weights, statistics and scales.

        Integer weights are round(w / scale) + zero point, saturated. Tensors that did not change keep their very bytes. Only
        where an exporter had merged equal tensors of several layers does the model have more of them (:mod:`.unshare`).
        """
        with torch.no_grad():
            for name, array in self._current().items():
                tensor = self._source.stored[name]
                before = numpy_helper.to_array(tensor)
                if before.tobytes() != array.tobytes():
                    replacement = numpy_helper.from_array(array.astype(before.dtype, copy=False), tensor.name)
                    replacement.doc_string = tensor.doc_string
                    tensor.CopyFrom(replacement)
        result = ModelProto()
        result.CopyFrom(self._source.proto)
        return result

    def _current(self) -> dict[str, Array]:
        """Arrays of all tensors that may have changed, in the type of the file where that is a float."""
        stored, links = self._source.stored, self._scales
        result = {name: _array(self._stored(name)) for name in self._statistics}
        moved = {name: scale for name in links.learned for scale in [scales.positive(self._stored(name))]}
        moved = {name: scale for name, scale in moved.items() if not torch.equal(scale, from_proto(stored[name]))}
        for name, pair in links.products.items():
            if moved.keys() & set(pair):
                moved[name] = scales.product(*(moved[f] if f in moved else from_proto(stored[f]) for f in pair))
        result |= {name: _array(scale) for name, scale in moved.items()}
        repeats = {name: source for name, source in links.same.items() if source in moved}
        result |= {name: scales.repeated(result[source], stored[name].dims) for name, source in repeats.items()}
        for name in self._weights:
            value = self._stored(name)
            if stored[name].data_type in FLOATS:
                result[name] = _array(value)
                continue
            scale, zero = self._grid(name)
            before = from_proto(stored[scale])
            scale_now = moved.get(scale, before)
            grid = (scale_now, before, zero, self._spans[name])
            result[name] = integers.quantized(value.detach(), stored[name], self._readers[name], *grid)
        return result


def _key(role: str, index: int, name: str) -> str:
    """A key of the module's state; torch forbids dots in it, and the number keeps it unique."""
    return f"{role}{index}_{name.replace('.', '_')}"


def _renamed(item: Item, used: Mapping[str, str]) -> Item:
    """The node with the scale in use instead of the stored one."""
    if item.kind not in ("QuantizeLinear", "DequantizeLinear") or item.inputs[1] not in used:
        return item
    return replace(item, inputs=(item.inputs[0], used[item.inputs[1]], *item.inputs[2:]))


def _array(tensor: Tensor) -> Array:
    """Contiguous values; bfloat16 in the type that numpy has for it."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        found: Array = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return found
    array: Array = tensor.numpy()
    return array
