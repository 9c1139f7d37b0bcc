"""Fits neural networks to the hardware they run on, and proves the result on that machine.

The stages, in processing order; none imports another, ``pipeline`` wires them:

describe hardware (``devices``) → describe work (``workloads``, ``data``) → compress (``compress``) → run (``runtimes``)
→ measure (``measure``) → certify (``certify``) → explain (``explain``) → search over all of it (``search``) → write
(``export``) → report (``report``).

    import dovetail

    result = dovetail.optimize("model.onnx", data="data.npz", metric="accuracy", max_drop="1pp")
    session = dovetail.load(result.artifact)
    outputs = session.run({"input": array})
"""

from dovetail.api import Result, load, optimize
from dovetail.core.errors import DovetailError

__all__ = ["DovetailError", "Result", "load", "optimize"]
