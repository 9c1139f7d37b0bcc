"""Structured pruning of attention: whole heads go from the query, key, value and output projections at once.

Heads are found by the walk, not by patterns: where a reshape splits features into heads and the rest, the features of a head
become one unit, and the products of attention join the heads of query, key and value (:func:`.follow.reshape.reshape`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dovetail.compress import settings
from dovetail.compress.prune.amount import Amount
from dovetail.compress.prune.channels import prune
from dovetail.core.protocols import Model, Pass, PassContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Amount):
    """Parameters of head pruning; see :class:`.amount.Amount`.

    Attributes:
        neurons: takes neurons of the feed-forward layers too, at the same measure.
        reconstruct: off, since few tokens are fitted here to many features and it was not measured to help.
    """

    neurons: bool = False
    reconstruct: bool = False


class PruneHeads(Pass):
    """Removes the least important attention heads of every layer, or of all."""

    name: ClassVar[str] = "prune_heads"
    version: ClassVar[int] = 3
    needs_calibration: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True

    def apply(self, model: Model, ctx: PassContext) -> Model:
        """Writes ``model.onnx`` and ``pruned.json``; parameters as in :class:`Config`.

        Raises:
            InputError: a parameter is wrong, or would take every head.
            ModelError: the model cannot be read or is quantised, it has no heads that can be pruned, or not enough.
        """
        config = settings.read(Config, ctx.config, self.name)
        return prune(model, ctx, config, ("heads", "neurons") if config.neurons else ("heads",), self.name)
