"""Structured pruning of channels and feed-forward neurons: the graph gets narrower, and needs no special runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dovetail.compress import settings
from dovetail.compress.graph.files import MAX_INLINE_BYTES
from dovetail.compress.prune import report
from dovetail.compress.prune.amount import Amount, Choice
from dovetail.compress.prune.coupling import Coupling, Kind
from dovetail.compress.prune.graph import finish, interface, prepare
from dovetail.compress.prune.reconstruct import Reconstruction
from dovetail.core.errors import DataError, ModelError
from dovetail.core.protocols import Array, Dataset, Model, Pass, PassContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Amount):
    """Parameters of channel pruning; see :class:`.amount.Amount`."""


class PruneChannels(Pass):
    """Removes the least important channels of convolutions and neurons of matrix products, with all that depends on them."""

    name: ClassVar[str] = "prune_channels"
    version: ClassVar[int] = 3
    needs_calibration: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx`` and ``pruned.json``; parameters as in :class:`Config`.

        Raises:
            InputError: a parameter is wrong, or would take every channel.
            ModelError: the model cannot be read or is quantised, nothing in it can be pruned, or not enough of it.
        """
        config = settings.read(Config, ctx.config, self.name)
        return prune(model, ctx, config, ("channels", "neurons"), self.name)


def prune(
    model: Model,
    ctx: PassContext,
    amount: Amount,
    kinds: tuple[Kind, ...],
    name: str,
    gradients: Mapping[str, Array] | None = None,
) -> Model:
    """Prunes units of some kinds.

    Args:
        model: a float model.
        ctx: the pass's context.
        amount: how much.
        kinds: of what.
        name: the pass, for messages.
        gradients: constant's name → gradient of the loss with respect to it; given, importance is |w · g|.

    Raises:
        InputError: as :meth:`PruneChannels.apply`.
        ModelError: likewise.
    """
    prepared = prepare(model, name)
    before = interface(prepared)
    coupling = Coupling(prepared.clone())
    ctx.progress(0.1, "ranking channels")
    units = Choice(prepared=prepared, coupling=coupling, amount=amount, kinds=kinds, ctx=ctx, gradients=gradients).units()
    full = report.widths(coupling)
    fits = amount.reconstruct and ctx.calibration is not None and _fits_twice(coupling, ctx)
    reconstruction = Reconstruction(coupling, units) if fits else None
    coupling.remove(units)
    if reconstruction is not None and ctx.calibration is not None:
        _fit(reconstruction, ctx.calibration, ctx)
    left = report.widths(coupling)
    importance = "taylor" if gradients is not None else amount.importance
    report.write(
        ctx.workdir, "channels", importance, report.rows(full, left),
        config=dataclasses.asdict(amount), held={g.name: g.reason for g in coupling.groups if g.reason is not None},
    )  # fmt: skip
    ctx.note(report.phrase("channels", full, left))
    ctx.progress(1.0, "pruned")
    return finish(coupling.model, before, ctx)


def _fits_twice(coupling: Coupling, ctx: PassContext) -> bool:
    """Whether the model can be run from memory beside its own copy, which fitting takes."""
    weights = (value.const_value for value in coupling.model.graph.initializers.values())
    small = sum(int(tensor.nbytes) for tensor in weights if tensor is not None) <= MAX_INLINE_BYTES
    if not small:
        ctx.note("what remains was not fitted: the model is too large to run from memory")
    return small


def _fit(reconstruction: Reconstruction, samples: Dataset, ctx: PassContext) -> None:
    """Fits what remains; pruning is worth something without it too, so that bad samples cost no more than a note."""
    try:
        reconstruction.fit(samples, lambda share, text: ctx.progress(0.8 + 0.2 * share, text))
    except (DataError, ModelError) as exc:
        ctx.note(f"what remains was not fitted: {exc.what}")
