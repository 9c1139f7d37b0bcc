"""What Dovetail itself costs: ``python benchmarks/overhead.py``.

Three figures: the time of ``session.run`` over the vendor's own call, import time against numpy's, and the peak memory of a
fit, parent and children together. Appends one row to ``benchmarks/results/overhead.jsonl``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import rows

from dovetail import plugins
from dovetail.core import units
from dovetail.core.protocols import Model
from dovetail.data.dataset import open_split
from dovetail.measure.child import resident_bytes
from dovetail.measure.lock import measuring
from dovetail.pipeline.describe import describe

CALL_S, IMPORT_RATIO, MODEL_SIZES, FIXED_BYTES = 2e-6, 2.5, 4, 1.5e9
"""Promised: cost of a call, import time over numpy's, and peak memory as model sizes plus a batch plus a fixed amount."""
BATCH = 64
"""Samples of one call while quality is judged."""
POLL_S = 0.02
MODELS = ("resnet56", "minilm")


# -- calls ---------------------------------------------------------------------------------------------------------------


def call_costs(blocks: int, calls: int) -> dict[str, float]:
    """Runtime → seconds by which a call of a session is longer than the vendor's own, on a model that does next to nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = _tiny_model(Path(folder) / "tiny.onnx")
        feeds = {"x": np.ones((1, 16), np.float32)}
        found = {}
        for runtime, vendor in (("onnxruntime", _onnxruntime_call(path)), ("openvino", _openvino_call(path))):
            session = plugins.runtime(runtime).build(Model(path=path), {"threads": 1})
            found[runtime] = _difference_s(session.run, vendor, feeds, blocks, calls)
    return found


def _tiny_model(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "tiny", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def _onnxruntime_call(path: Path) -> Callable[[Any], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def _openvino_call(path: Path) -> Callable[[Any], Any]:
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda feeds: compiled(feeds)


def _difference_s(ours: Callable[[Any], Any], vendor: Callable[[Any], Any], feeds: Any, blocks: int, calls: int) -> float:
    """Median over blocks of the difference of mean call times; the sides take turns."""

    def block_s(run: Callable[[Any], Any]) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            run(feeds)
        return (time.perf_counter() - start) / calls

    for run in (ours, vendor):
        block_s(run)
    return statistics.median(block_s(ours) - block_s(vendor) for _ in range(blocks))


# -- imports -------------------------------------------------------------------------------------------------------------


def import_times(repeats: int) -> dict[str, float]:
    """Median seconds of whole processes, taking turns."""
    commands = {
        "numpy": [sys.executable, "-c", "import numpy"],
        "dovetail": [sys.executable, "-c", "import dovetail"],
        "dovetail --help": [str(Path(sys.executable).with_name("dovetail")), "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


# -- memory --------------------------------------------------------------------------------------------------------------


def peak_memory(name: str, folder: Path, budget: str) -> dict[str, float]:
    """Highest resident set of a fit's process tree in bytes, and what is promised; shared pages count in every process."""
    job = models.write(name, folder)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        program = str(Path(sys.executable).with_name("dovetail"))
        command = [program, "optimize", "--job", str(job), "--out", f"{fresh}/fit", "--budget", budget, "--quiet"]
        environment = {**os.environ, "DOVETAIL_CACHE": f"{fresh}/cache"}
        fit = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        peak = 0.0
        while fit.poll() is None:
            peak = max(peak, resident_bytes(fit.pid))
            time.sleep(POLL_S)
    if fit.returncode:
        raise RuntimeError(f"the fit of {name} ended with {fit.returncode}")
    described = describe(models.request(name, folder), lambda text: None)
    sample = open_split(described.splits["timing"].folder).sample(0)
    batch = BATCH * sum(feed.nbytes for feed in sample.feeds.values())
    allowed = MODEL_SIZES * described.original.size_bytes() + batch + FIXED_BYTES
    return {"peak_bytes": peak, "allowed_bytes": allowed, "model_bytes": described.original.size_bytes()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models.add_models_option(parser, MODELS)
    parser.add_argument("--budget", default="3m", help="of each fit whose memory is watched (default: 3m)")
    parser.add_argument("--blocks", type=int, default=50, help="blocks of calls a side (default: 50)")
    parser.add_argument("--calls", type=int, default=2000, help="calls per block (default: 2000)")
    parser.add_argument("--repeats", type=int, default=15, help="processes per import time (default: 15)")
    options = parser.parse_args()
    with measuring(lambda text: print(text, file=sys.stderr)):
        calls, imports = call_costs(options.blocks, options.calls), import_times(options.repeats)
    memory = {name: peak_memory(name, options.work / "overhead", options.budget) for name in options.models}
    kept = True
    for runtime, cost_s in calls.items():
        kept &= cost_s <= CALL_S
        print(f"session.run over {runtime}'s own call: {cost_s * 1e6:+.2f} µs (promised: at most {CALL_S * 1e6:g} µs)")
    for name in ("dovetail", "dovetail --help"):
        ratio = imports[name] / imports["numpy"]
        kept &= ratio <= IMPORT_RATIO
        print(f"{name}: {units.time(imports[name])}, {ratio:.2f}× import numpy (promised: at most {IMPORT_RATIO:g}×)")
    for name, found in memory.items():
        kept &= found["peak_bytes"] <= found["allowed_bytes"]
        peak, allowed = units.size(found["peak_bytes"]), units.size(found["allowed_bytes"])
        print(f"peak memory of a fit of {name}: {peak} (promised: at most {allowed})")
    config = {key: getattr(options, key) for key in ("models", "budget", "blocks", "calls", "repeats")}
    rows.append("overhead", config, {"call_s": calls, "import_s": imports, "memory": memory, "kept": kept})
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
