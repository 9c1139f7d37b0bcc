"""What pruning did, for people and for the report: ``pruned.json`` beside the model, and a phrase."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dovetail.compress.prune.coupling import Coupling, width

FILE = "pruned.json"


def widths(coupling: Coupling) -> dict[str, int]:
    """Output channels of every layer, as its weights are now."""
    return {layer.name: width(layer) for layer in coupling.layers}


def write(workdir: Path, what: str, importance: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Writes ``pruned.json``.

    Args:
        workdir: the pass's folder.
        what: ``channels``, ``heads``, ``blocks``, ``layers`` or ``weights``.
        importance: how units were ranked.
        rows: one for each layer (``layer``, ``before``, ``after``) or block.
        more: further facts about the whole.
    """
    text = json.dumps({"schema": 1, "what": what, "importance": importance, **more, "layers": list(rows)}, indent=1)
    (workdir / FILE).write_text(text + "\n", encoding="utf-8")


def rows(before: Mapping[str, int], after: Mapping[str, int]) -> list[dict[str, Any]]:
    """Channels of every layer before and after."""
    return [{"layer": name, "before": count, "after": after[name]} for name, count in before.items()]


def phrase(what: str, before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """``keeps 432 of 784 channels; 14 of 22 layers are narrower``."""
    narrower = sum(after[name] < count for name, count in before.items())
    return f"keeps {sum(after.values())} of {sum(before.values())} {what}; {narrower} of {len(before)} layers are narrower"
