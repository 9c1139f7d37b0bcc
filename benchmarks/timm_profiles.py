"""Traces what timm's networks are made of: ``python benchmarks/timm_profiles.py``. Needs torch, timm, torchvision.

Each network runs once on the meta device, where shapes are computed and numbers are not, at the image sizes that timm trains
and tests it at and those of the published rows; that takes half an hour. Every operator that PyTorch would launch is counted,
fused attention as one; views are not. Writes ``benchmarks/published/timm_profiles.csv.gz``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from published.vision_profiles import FILE
from torch.utils._python_dispatch import TorchDispatchMode

from dovetail.predict.nets.quantities import QUANTITIES, Counted, summed

SHARED = Path(os.environ.get("DOVETAIL_SHARED", Path(__file__).resolve().parents[2] / "shared"))

_FREE = frozenset(
    "view _unsafe_view reshape permute transpose t expand unsqueeze squeeze slice select split split_with_sizes unbind chunk "
    "detach alias as_strided unfold narrow _reshape_alias view_as expand_as lift_fresh movedim swapaxes empty empty_like "
    "new_empty zeros arange ones full scalar_tensor new_zeros new_ones zeros_like ones_like full_like linspace native_dropout "
    "dropout flatten empty_strided new_empty_strided _local_scalar_dense set_ meshgrid unflatten".split()
)
_COPIES = frozenset(
    "clone cat copy_ roll index gather stack constant_pad_nd _to_copy index_put index_put_ repeat pixel_shuffle "
    "pixel_unshuffle im2col col2im flip index_select scatter masked_fill masked_fill_ reflection_pad2d channel_shuffle tril "
    "triu select_scatter grid_sampler_2d replication_pad2d native_channel_shuffle _upsample_bicubic2d_aa "
    "_upsample_bilinear2d_aa".split()
)
_NORMS = frozenset("native_layer_norm native_group_norm rms_norm _fused_rms_norm".split())
_REDUCES = frozenset(
    "mean sum amax _softmax _log_softmax var var_mean std linalg_vector_norm norm max_pool2d_with_indices avg_pool2d "
    "_adaptive_avg_pool2d adaptive_max_pool2d max min argmax std_mean topk sort cumsum logsumexp prod _safe_softmax".split()
)
_RENAMED = {
    "densenet121d": "densenet121", "densenet264": "densenet201", "densenet264d_iabn": "densenet201",
    "gluon_xception65": "xception65", "regnety_040s_gn": "regnety_040",
}  # fmt: skip
"""Networks of the published rows that timm has no more: the nearest that it has."""


class Count(TorchDispatchMode):
    """Collects the operators that run inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Counted] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator, and counts it unless it only looks at its operand in another way."""
        result = function(*args, **(kwargs or {}))
        name = function._schema.name.partition("::")[2]
        if name not in _FREE:
            self.found.append(_counted(name, args, result))
        return result

    def attention(self, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> Any:
        """Stands for ``scaled_dot_product_attention``."""
        rows = q.numel() // q.shape[-1]
        flop = 2 * k.shape[-2] * (q.numel() + rows * v.shape[-1])
        read = q.numel() + k.numel() + v.numel()
        self.found.append(Counted(kind="sdpa", flop=flop, read=read, written=rows * v.shape[-1]))
        return q.new_empty(*q.shape[:-1], v.shape[-1])


def _counted(name: str, args: Any, result: Any) -> Counted:
    written, read = _elements(result), _elements(args)
    if name == "convolution":
        return _convolution(args[0], args[1], args[8], written)
    if name in ("mm", "addmm", "bmm", "baddbmm"):
        a, b = args[-2:] if name in ("mm", "bmm") else args[1:3]
        flop = 2 * a.numel() * b.shape[-1]
        if name.endswith("bmm"):
            return Counted(kind="bmm", flop=flop, read=a.numel() + b.numel(), written=written)
        return Counted(kind="mm", flop=flop, read=a.numel(), written=written, channels=tuple(b.shape))
    if name in _COPIES or name.startswith("upsample"):
        return Counted(kind="copy", read=min(read, written), written=written)
    if name in _REDUCES:
        return Counted(kind="red", read=read, written=written)
    if name in _NORMS or "batch_norm" in name:
        each = args[0].numel()
        return Counted(kind="bn" if "batch_norm" in name else "ln", read=each, written=each)
    return Counted(kind="ew", read=read, written=written)


def _convolution(x: Any, weight: Any, groups: int, written: int) -> Counted:
    inner, size = weight.shape[1], weight[0, 0].numel()
    kind = "dw" if groups == x.shape[1] > 1 else "grp" if groups > 1 else "pw" if size == 1 else "conv"
    channels = (inner, weight.shape[0] // groups)
    return Counted(kind=kind, flop=2 * written * inner * size, read=x.numel(), written=written, channels=channels)


def _elements(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel()
    return sum(map(_elements, value)) if isinstance(value, list | tuple) else 0


def trace(tag: str, size: int) -> list[float]:
    """Quantities of one network at one image size, in the order of :data:`QUANTITIES`."""
    import timm

    with torch.device("meta"):
        try:
            model = timm.create_model(tag, img_size=size)
        except TypeError:  # most networks take any size and have no such argument
            model = timm.create_model(tag)
    channels = model.pretrained_cfg.get("input_size", (3,))[0]
    count, attention = Count(), torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = count.attention
    try:
        with torch.no_grad(), count:
            model.eval()(torch.empty(1, channels, size, size, device="meta"))
    finally:
        torch.nn.functional.scaled_dot_product_attention = attention
    params = sum(parameter.numel() for parameter in model.parameters())
    return [float(value) for value in summed(count.found, params)]


def wanted(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Name, timm's name and image size of everything to trace."""
    import timm
    from timm.models import _registry

    published: dict[str, set[int]] = {}
    with (folder / "vision_timm_bench.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            published.setdefault(line["model"], set()).add(int(line["img_size"]))
    old = {name: tag for name, tag in _registry._deprecated_models.items() if isinstance(tag, str)}
    for name in sorted({*timm.list_models(), *old, *_RENAMED}):
        tag = _RENAMED.get(name) or old.get(name) or name
        config = timm.get_pretrained_cfg(tag)
        sizes = {config.input_size[-1], (config.test_input_size or config.input_size)[-1]} if config else set()
        for size in sorted(sizes | published.get(name, set())):
            yield name, tag, size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED / "validation", help="folder of the published rows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with gzip.open(FILE, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "size", *QUANTITIES])
        for name, tag, size in wanted(options.data):
            try:
                writer.writerow([name, size, *(f"{value:.5g}" for value in trace(tag, size))])
            except Exception as error:  # networks that need packages or operators which the meta device lacks
                print(f"{name} at {size}: {type(error).__name__}: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
