"""The registry of metrics: a name, with its parameters, becomes a metric; one family per module."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from dovetail.core.errors import InputError
from dovetail.data.functions import is_function_name
from dovetail.data.metrics.agreement import Agreement
from dovetail.data.metrics.base import Binding, RowMetric
from dovetail.data.metrics.classification import F1, Accuracy, Auc, HitRate, TopK
from dovetail.data.metrics.correlation import Pearson, Spearman
from dovetail.data.metrics.detection import DetectionMap
from dovetail.data.metrics.function import FunctionMetric
from dovetail.data.metrics.regression import Mae, Psnr, Rmse
from dovetail.data.metrics.segmentation import Iou
from dovetail.data.metrics.sequence import Perplexity, Wer

__all__ = ["Binding", "RowMetric", "get_metric", "metric_names"]

_METRICS: dict[str, type[RowMetric]] = {
    "accuracy": Accuracy,
    "agreement": Agreement,
    "auc": Auc,
    "f1": F1,
    "hit-rate": HitRate,
    "iou": Iou,
    "mae": Mae,
    "map": DetectionMap,
    "pearson": Pearson,
    "perplexity": Perplexity,
    "psnr": Psnr,
    "rmse": Rmse,
    "spearman": Spearman,
    "top": TopK,
    "wer": Wer,
}
# ``f1:binary`` is short for ``{name: f1, average: binary}``.
_VARIANT = {"f1": "average", "spearman": "prediction", "pearson": "prediction", "agreement": "kind"}
_COUNTED = re.compile(r"(top|hit-rate)[-@_]?(\d+)")


def metric_names() -> tuple[str, ...]:
    """Names a user may write, without parameters."""
    shown = {"top": "top5", "hit-rate": "hit-rate@10"}
    return tuple(shown.get(name, name) for name in _METRICS)


def get_metric(spec: str | Mapping[str, Any] | Callable[..., Any]) -> RowMetric:
    """Builds a metric.

    Args:
        spec: ``accuracy``, ``top5``, ``hit-rate@10``, ``f1:binary``, ``spearman:cosine``, ``module:function``,
            ``file.py:function``; a mapping with ``name`` and parameters; or a function.

    Raises:
        InputError: unknown metric or parameter, with the nearest names.
    """
    if isinstance(spec, Mapping):
        params = dict(spec)
        name = params.pop("name", None)
        if not isinstance(name, str):
            raise InputError("a metric with parameters needs a `name`", where="metric")
        return _built(name, {str(k): v for k, v in params.items()})
    if not isinstance(spec, str):
        return FunctionMetric(spec, getattr(spec, "__qualname__", "metric"))
    return _built(spec, {})


def _built(text: str, params: dict[str, Any]) -> RowMetric:
    name, _, variant = text.strip().lower().replace("_", "-").partition(":")
    counted = _COUNTED.fullmatch(name)
    if counted is not None and int(counted[2]) >= 1:
        name, params = counted[1], {"k": int(counted[2]), **params}
    if name in _METRICS:
        if variant:
            if name not in _VARIANT:
                raise InputError(f"{name} has no variant {variant!r}", where="metric")
            params = {_VARIANT[name]: variant, **params}
        return _constructed(_METRICS[name], name, params)
    if is_function_name(text) and not params:
        return FunctionMetric.from_name(text)
    near = difflib.get_close_matches(name, metric_names(), n=3, cutoff=0.5)
    raise InputError(
        f"there is no metric {text!r}" + (f"; did you mean {', '.join(near)}?" if near else ""),
        where="metric",
        hint=f"known: {', '.join(metric_names())}; or your own module:function",
    )


def _constructed(kind: type[RowMetric], name: str, params: dict[str, Any]) -> RowMetric:
    known = {p.name: p.default for p in inspect.signature(kind).parameters.values()}
    for key, value in params.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"{name} has no parameter {key!r}{meant}", where="metric", hint=f"it has: {', '.join(known) or 'none'}"
            )
        default = known[key]
        wanted = (int, float) if isinstance(default, float) else int if default is None else type(default)
        if not isinstance(value, wanted) or isinstance(value, bool):
            kind_name = "number" if default is None else type(default).__name__
            raise InputError(f"{name}: {key} is {value!r}, which is not a {kind_name}", where="metric")
    return kind(**params)
