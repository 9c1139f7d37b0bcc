"""Reads ONNX Runtime's profiler trace into kernel times."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dovetail.core.profile import Kernel, KernelTime
from dovetail.runtimes.timing import usual_mean

_SUFFIX = "_kernel_time"
# What ONNX Runtime's rewriters append to the name of the node they replace.
_DECORATION = re.compile(r"(_nchwc|_token_\d+|/duplicated|/MatMulAddFusion|/GemmTransposeFusion)+$|^fused ")
_DTYPES = {"float": "float32", "double": "float64"}
_SKIPPED_CALLS = 3

Event = Mapping[str, Any]


def read_trace(text: str, *, call_s: float, traced_call_s: float) -> tuple[KernelTime, ...]:
    """Kernel times per call, in execution order, freed of what tracing itself costs.

    An event lasts some microseconds longer than its kernel, which would double the time of a small model. Tracing costs
    ``traced_call_s - call_s`` per call; what of it does not lie in the gaps between events lies inside them, in equal
    shares, and a share is at most the shortest event. Should kernels still exceed the call, all are scaled down to fit it.
    A single time is good to about a microsecond, the clock tick of the trace.

    Args:
        text: the JSON that ``enable_profiling`` wrote.
        call_s: median seconds of a call without tracing.
        traced_call_s: median seconds of a call while this trace was written.
    """
    events = json.loads(text)
    runs = sorted((e for e in events if e["name"] == "model_run"), key=lambda e: e["ts"])[_SKIPPED_CALLS:]
    nodes = sorted((e for e in events if e["cat"] == "Node" and e["name"].endswith(_SUFFIX)), key=_order)
    spent: dict[str, list[float]] = {}
    examples: dict[str, Event] = {}
    gaps: list[float] = []
    for call in _split(runs, nodes):
        for name, seconds in _self_times(call).items():
            spent.setdefault(name, []).append(seconds)
        examples = {**{event["name"]: event for event in call}, **examples}
        gaps.append(_gap_s(call))
    if not spent:
        return ()
    times = {name: usual_mean(values) for name, values in spent.items()}
    share = (traced_call_s - call_s - usual_mean(gaps)) / len(times)
    shortest = min(time for name, time in times.items() if not _has_body(examples[name]))
    own_s = max(0.0, min(share, shortest))
    freed = {name: max(0.0, time - own_s) for name, time in times.items()}
    scale = min(1.0, call_s / max(sum(freed.values()), call_s))
    return tuple(_kernel(examples[name], time * scale) for name, time in freed.items())


def read_kernels(text: str) -> tuple[Kernel, ...]:
    """What the last call in a trace executed, without times."""
    events = json.loads(text)
    runs = sorted((e for e in events if e["name"] == "model_run"), key=lambda e: e["ts"])[-1:]
    nodes = sorted((e for e in events if e["cat"] == "Node" and e["name"].endswith(_SUFFIX)), key=_order)
    last = {event["name"]: event for call in _split(runs, nodes) for event in call}
    return tuple(Kernel(**_facts(event)) for event in last.values())


def _has_body(event: Event) -> bool:
    return event["args"]["op_name"] in ("If", "Loop", "Scan")


def _order(event: Event) -> tuple[int, int, bool]:
    """By start; what encloses others comes before them."""
    return event["ts"], -event["dur"], not _has_body(event)


def _split(runs: Sequence[Event], nodes: Sequence[Event]) -> list[list[Event]]:
    calls: list[list[Event]] = []
    position = 0
    for run in runs:
        while position < len(nodes) and nodes[position]["ts"] < run["ts"]:
            position += 1
        first = position
        while position < len(nodes) and nodes[position]["ts"] <= run["ts"] + run["dur"]:
            position += 1
        calls.append(list(nodes[first:position]))
    return calls


def _self_times(events: Sequence[Event]) -> dict[str, float]:
    """Seconds by event name; an ``If`` or ``Loop`` keeps only what lies before and after the nodes of its body."""
    spent: dict[str, int] = {}
    bodies: list[Event] = []
    inner_end: list[int] = []
    for event in events:
        while bodies and event["ts"] >= bodies[-1]["ts"] + bodies[-1]["dur"]:
            bodies.pop()
            inner_end.pop()
        end = event["ts"] + event["dur"]
        spent[event["name"]] = spent.get(event["name"], 0) + event["dur"]
        if bodies:
            spent[bodies[-1]["name"]] -= end - max(event["ts"] if inner_end[-1] < 0 else inner_end[-1], 0)
            inner_end[-1] = end
        if _has_body(event):
            bodies.append(event)
            inner_end.append(-1)
    return {name: ticks * 1e-6 for name, ticks in spent.items()}


def _gap_s(events: Sequence[Event]) -> float:
    """Seconds between the end of an event and the start of the next, summed."""
    gap, end = 0, events[0]["ts"] if events else 0
    for event in events:
        gap += max(0, event["ts"] - end)
        end = max(end, event["ts"] + event["dur"])
    return gap * 1e-6


def _kernel(event: Event, time_s: float) -> KernelTime:
    return KernelTime(**_facts(event), time_s=time_s)


def _facts(event: Event) -> dict[str, Any]:
    name = event["name"].removesuffix(_SUFFIX)
    args = event["args"]
    first = next((kind for tensor in args.get("input_type_shape", []) for kind in tensor), "")
    return {
        "name": name,
        "kind": args["op_name"],
        "implementation": "nchwc" if name.endswith("_nchwc") else "",
        "dtype": _DTYPES.get(first, first),
        "sources": (_DECORATION.sub("", name),),
        "constant": args.get("activation_size") == "0" and args.get("parameter_size", "0") != "0",
        "inputs": _shapes(args.get("input_type_shape", ())),
        "outputs": _shapes(args.get("output_type_shape", ())),
    }


def _shapes(tensors: Sequence[Mapping[str, Sequence[int]]]) -> tuple[tuple[int, ...], ...]:
    """Each tensor is a mapping of its type to its sizes."""
    return tuple(tuple(map(int, sizes)) for tensor in tensors for sizes in tensor.values())
