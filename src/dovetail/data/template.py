"""The commented job file that ``dovetail init MODEL`` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import yaml

from dovetail.core.protocols import TensorSpec

_HEAD = """\
# A job for `dovetail optimize --job fit.yaml`. Paths count from this file's folder; flags override what stands here.
model: {model}

# Samples: an .npz, a folder of .npy files or of images (one subfolder per class), a .csv or .tsv,
# or module:function that yields (feeds, label) or (feeds, group, label). One set is split into
# calibration, selection and certification; or give the three yourself:
#   data: {{calibrate: a.npz, select: b.npz, certify: c.npz}}
data:
# labels: y                   # key of the labels; y, label, labels, target are found without it
#                             # text labels: {{from: y, classes: [cat, dog]}} in the order of the model's outputs
# groups: speaker             # key of the independent unit (speaker, recording, photo)

inputs:
"""

_TAIL = """\
# preprocessing: model        # the steps above but `resize` move into the model: it takes the data as they are,
#                             # and every time counts them; by default they stay on the host, untimed

# Quality: accuracy, top5, f1, auc, rmse, mae, psnr, spearman, pearson, iou, map, wer, hit-rate@10, perplexity,
# agreement (with the original, for inputs without labels), or your own module:function(outputs, label).
metric: {metric}
max_drop: {max_drop}                 # 1pp absolute, 1% relative, a number in the metric's unit

# limits:                     # the answer must stay within them
#   latency_p99: 5ms          # latency is the median; latency_p50, _p95, _p99
#   throughput: 100/s
#   memory: 200MB
#   size: 10MB

objective: latency            # latency, throughput, size, memory, or a list of them
budget: 10m
seed: 0
# batch: 1                    # samples per call
# target_isa: avx2            # fit for a machine with fewer instructions than this one
# runtimes: [onnxruntime, openvino]
"""

_COMMENT = 30
_OPTIONS = (
    ("from: x", "key in the data, where it is not this input's name"),
    ("value: 16000", "a constant instead of data"),
    ("resize: [{h}, {w}]", "height, width in pixels"),
    ("layout: NHWC->NCHW", "axes in the data -> axes of the model"),
    ("scale: 0.00392157", "then: * scale - mean / std, per channel of the model's layout"),
    ("mean: [0.485, 0.456, 0.406]", ""),
    ("std: [0.229, 0.224, 0.225]", ""),
    ("shape: {shape}", "sizes to fix; null leaves one free"),
)
_OF_IMAGES = ("resize", "layout", "mean", "std")


def job_template(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], model_name: str) -> str:
    """A ``fit.yaml`` for a model that loads once its ``data`` are filled in; state pairs are guessed by shape.

    Args:
        inputs: the model's inputs.
        outputs: the model's outputs.
        model_name: path of the model as it shall stand in the file.
    """
    state = _state_pairs(inputs, outputs)
    blocks = [_input_block(spec) for spec in inputs if spec.name not in state]
    text = _HEAD.format(model=_scalar(model_name)) + "\n".join(blocks)
    if state:
        text += "\n\n# Recurrent state: input: output that feeds it at the unit's next sample; zero at its start.\nstate:\n"
        text += "\n".join(f"  {_scalar(a)}: {_scalar(b)}" for a, b in state.items())
    shown = ", ".join(f"{spec.name} {_shape(spec)}" for spec in outputs)
    text += f"\n\n# The model's outputs: {shown}\n"
    classes = len(outputs) == 1 and len(outputs[0].shape) == 2
    return text + _TAIL.format(metric="accuracy" if classes else "agreement", max_drop="1pp" if classes else "2pp")


def _input_block(spec: TensorSpec) -> str:
    sizes = [d for d in spec.shape if isinstance(d, int) and d > 4] or [224]
    values = {"h": sizes[0], "w": sizes[-1], "shape": _shape(spec)}
    options = _OPTIONS if len(spec.shape) == 4 else tuple(o for o in _OPTIONS if not o[0].startswith(_OF_IMAGES))
    lines = [f"  {_scalar(spec.name)}:".ljust(_COMMENT) + f"# {spec.dtype} {_shape(spec)}"]
    for option, help_text in options:
        setting = f"    # {option.format(**values)}"
        lines.append(f"{setting.ljust(_COMMENT)}# {help_text}" if help_text else setting)
    return "\n".join(lines)


def _scalar(text: str) -> str:
    """A YAML scalar that reads back as this text, quoted only where it must be."""
    plain = re.fullmatch(r"[\w./-]+", text) is not None and yaml.safe_load(text) == text
    return text if plain else json.dumps(text)


def _shape(spec: TensorSpec) -> str:
    return "[" + ", ".join("null" if d is None else str(d) for d in spec.shape) + "]"


def _state_pairs(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, str]:
    """Inputs that an output continues: its name begins with theirs (``state`` → ``stateN``), with the same dtype and rank."""
    pairs: dict[str, str] = {}
    for spec in inputs:
        stem = spec.name.lower().removesuffix("_in").removeprefix("in_")
        for out in outputs:
            continues = out.name.lower() != stem and out.name.lower().startswith(stem)
            if len(inputs) > 1 and continues and out.dtype == spec.dtype and len(out.shape) == len(spec.shape):
                pairs[spec.name] = out.name
    return pairs
