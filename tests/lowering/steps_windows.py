"""Operators with windows, for random graphs."""

from __future__ import annotations

from graphs import Graph, Step, Value


def _window(g: Graph, x: Value, kernel: list[int], dilations: list[int]) -> tuple[dict[str, object], list[int]] | None:
    """Strides and padding of windows, and how many there are along each axis; ``None`` where none fits."""
    strides = [g.number(1, 3) for _ in kernel]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    attributes: dict[str, object] = {"strides": strides}
    auto = g.pick(("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"))
    small = max(dilations) == 1 and all(t <= k for t, k in zip(strides, kernel, strict=True))
    if auto in ("SAME_UPPER", "SAME_LOWER") and small:
        return {**attributes, "auto_pad": auto}, [-(-s // t) for s, t in zip(x.shape[2:], strides, strict=True)]
    pads = [0] * (2 * len(kernel))
    if auto == "VALID":
        attributes["auto_pad"] = auto
    else:
        pads = [g.number(0, k - 1) for k in (*kernel, *kernel)]
        attributes["pads"] = pads
    sizes = [s + b + e for s, b, e in zip(x.shape[2:], pads[: len(kernel)], pads[len(kernel) :], strict=True)]
    if any(s < r for s, r in zip(sizes, reach, strict=True)):
        return None
    return attributes, [(s - r) // t + 1 for s, r, t in zip(sizes, reach, strides, strict=True)]


def conv(g: Graph, x: Value) -> Value | None:
    if x.rank not in (3, 4, 5):
        return None
    spatial, inputs = x.rank - 2, x.shape[1]
    kernel, dilations = ([g.number(1, 3) for _ in range(spatial)] for _ in range(2))
    found = _window(g, x, kernel, dilations)
    if found is None:
        return None
    attributes, sizes = found
    groups = g.pick([d for d in range(1, inputs + 1) if inputs % d == 0]) if spatial < 3 else 1
    outputs = groups * g.number(1, 3)
    weights = g.constant(g.array(outputs, inputs // groups, *kernel))
    bias = [g.constant(g.array(outputs))] if g.flag() else []
    shape = (x.shape[0], outputs, *sizes)
    made = g.node("Conv", [x.name, weights, *bias], shape, group=groups, dilations=dilations, **attributes)
    return g.node("Relu", [made.name], shape) if g.flag() else made


def conv_transpose(g: Graph, x: Value) -> Value | None:
    if x.rank not in (3, 4):
        return None
    spatial, inputs = x.rank - 2, x.shape[1]
    kernel, strides = ([g.number(1, 3) for _ in range(spatial)] for _ in range(2))
    dilations = [g.number(1, 2) if g.flag() else 1 for _ in range(spatial)]
    extra = [g.number(0, s - 1) for s in strides]
    pads = [g.number(0, k - 1) for k in (*kernel, *kernel)]
    groups = g.pick([d for d in range(1, inputs + 1) if inputs % d == 0])
    columns = zip(x.shape[2:], strides, kernel, dilations, extra, pads[:spatial], pads[spatial:], strict=True)
    sizes = [(s - 1) * t + (k - 1) * d + 1 + e - a - b for s, t, k, d, e, a, b in columns]
    if min(sizes) < 1:
        return None
    outputs = g.number(1, 3)
    weights = g.constant(g.array(inputs, outputs, *kernel))
    bias = [g.constant(g.array(groups * outputs))] if g.flag() else []
    return g.node(
        "ConvTranspose", [x.name, weights, *bias], (x.shape[0], groups * outputs, *sizes), group=groups, strides=strides,
        dilations=dilations, output_padding=extra, pads=pads,
    )  # fmt: skip


def pool(g: Graph, x: Value) -> Value | None:
    if x.rank not in (3, 4, 5):
        return None
    if g.flag():
        op = g.pick(("GlobalAveragePool", "GlobalMaxPool"))
        return g.node(op, [x.name], (*x.shape[:2], *(1,) * (x.rank - 2)))
    kernel = [g.number(1, 3) for _ in x.shape[2:]]
    found = _window(g, x, kernel, [1] * len(kernel))
    if found is None:
        return None
    attributes, sizes = found
    op = g.pick(("MaxPool", "AveragePool"))
    if "pads" in attributes:
        attributes["ceil_mode"] = int(g.flag())
    if op == "AveragePool":
        attributes["count_include_pad"] = int(g.flag())
    return g.inferred(op, x, kernel_shape=kernel, **attributes)


STEPS: tuple[Step, ...] = (conv, conv_transpose, pool)
