"""Importing torch networks, and counting them as torch counts them."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from dovetail.core.errors import InputError, ModelError  # noqa: E402
from dovetail.report.analysis import matrix_flop  # noqa: E402
from dovetail.workloads.analyze import analyze  # noqa: E402
from dovetail.workloads.load import load_onnx, signature  # noqa: E402
from dovetail.workloads.torch_import import import_torch  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


class Residual(nn.Module):  # type: ignore[name-defined, misc]
    """Groups, dilation, stride, depthwise, pooling, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)
        self.depthwise = nn.Conv2d(8, 8, (1, 5), padding=(0, 2), groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.depthwise(torch.relu(self.grouped(x)))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):  # type: ignore[name-defined, misc]
    """One transformer block written with batched matrix products."""

    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm, self.mlp = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x: Any) -> Any:
        b, s, w = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, s, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        scores = torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(b, s, w))
        return x + self.mlp(x)


NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "residual": (Residual, (2, 3, 17, 20)),
    "mlp": (lambda: nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 3)), (5, 12)),
    "transformer": (Attention, (2, 7, 16)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(6, 4, 3, 2, groups=2), nn.Conv2d(4, 2, 3)), (2, 6, 4, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_products_agree_exactly_with_torch(tmp_path: Path, name: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    network = build().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(*shape))
    result = import_torch(network, tmp_path / "model.onnx", shapes=[shape])
    work = analyze(result.path, shapes={signature(load_onnx(result.path))[0][0].name: shape})
    assert matrix_flop(work) == counter.get_total_flops() > 0
    assert not work.uncounted and result.dynamic_batch and result.relative_error <= 1e-4


FACTORY = """
import torch
from torch import nn

def plain(): return nn.Linear(4, 2)
def paired(): return nn.Linear(4, 2), (torch.zeros(3, 4),)
def wrong(): return 1
def fails(): raise RuntimeError("no weights")
def random():
    class Noise(nn.Module):
        def forward(self, x): return x + torch.rand_like(x)
    return Noise(), torch.zeros(3, 4)
"""


def test_factories(tmp_path: Path) -> None:
    file, out = tmp_path / "net.py", tmp_path / "model.onnx"
    file.write_text(FACTORY)
    assert import_torch(f"{file}:paired", out).dynamic_batch
    assert import_torch(f"{file}:plain", out, feeds=[np.zeros((3, 4), np.float32)]).path == out
    for name, error, message in (
        ("plain", InputError, "inputs are not known"),
        ("nothing", InputError, "no function 'nothing'"),
        ("wrong", ModelError, "returned a int"),
        ("fails", ModelError, "no weights"),
        ("random", ModelError, "differs from torch"),
    ):
        with pytest.raises(error, match=message):
            import_torch(f"{file}:{name}", out)
    with pytest.raises(InputError, match="no such file"):
        import_torch(f"{tmp_path / 'other.py'}:plain", out)


def test_a_factory_draws_the_same_weights_every_time_unless_another_seed_is_given(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FACTORY)

    def weights(seed: int) -> Any:
        torch.rand(3)
        made = import_torch(f"{tmp_path / 'net.py'}:paired", tmp_path / f"{seed}.onnx", seed=seed)
        return [onnx.numpy_helper.to_array(tensor).tolist() for tensor in onnx.load(made.path).graph.initializer]

    assert weights(0) == weights(0) != weights(1)


def test_a_live_module_is_left_as_it_was(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train().to(torch.bfloat16)
    import_torch(network, tmp_path / "model.onnx", shapes=[(2, 4)])
    assert network.training and network[1].training and network[0].weight.dtype == torch.bfloat16


def test_modules_without_a_common_batch_keep_fixed_shapes(tmp_path: Path) -> None:
    result = import_torch(nn.Bilinear(3, 4, 2), tmp_path / "m.onnx", feeds=[np.zeros((2, 3), "f4"), np.zeros((2, 4), "f4")])
    assert result.dynamic_batch
    state = nn.GRUCell(3, 4)
    result = import_torch(lambda_module(state), tmp_path / "g.onnx", feeds=[np.zeros((2, 3), "f4"), np.zeros(4, "f4")])
    assert not result.dynamic_batch and "fixed batch" in result.notes[0]


def lambda_module(cell: Any) -> Any:
    class Wrapped(nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell

        def forward(self, x: Any, h: Any) -> Any:
            return self.cell(x, h.expand(x.shape[0], -1))

    return Wrapped()


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt2"
    batch = torch.export.Dim("batch")
    network = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.ReLU()).eval()
    torch.export.save(torch.export.export(network, (torch.randn(4, 2, 8),), dynamic_shapes=({0: batch},)), path)
    return path


def test_exported_programs(tmp_path: Path, exported: Path) -> None:
    result = import_torch(exported, tmp_path / "model.onnx")
    assert result.dynamic_batch and signature(load_onnx(result.path))[0][0].shape[1:] == (2, 8)


class Bomb:
    def __reduce__(self) -> Any:
        return (open, ("/tmp/dovetail_bomb", "w"))


def rewrite(source: Path, out: Path, ending: str, change: Any) -> Path:
    """Copies an archive with the files of one ending changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(old.read(name)) if name.endswith(ending) else old.read(name))
    return out


def hostile_sample(_: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save((Bomb(),), buffer)
    return buffer.getvalue()


def in_json(old: str, new: str) -> Any:
    return lambda data: data.decode().replace(old, new).encode()


@pytest.mark.parametrize(
    ("ending", "change"),
    [
        ("sample_inputs/model.pt", hostile_sample),
        ("weights_config.json", in_json('"use_pickle": false', '"use_pickle": true')),
        ("weights_config.json", in_json('"path_name": "weight_0"', '"path_name": "opaque_obj_0"')),
        ("models/model.json", in_json('"expr_str": "', "\"expr_str\": \"__import__('os').system('false') + ")),
        ("models/model.json", in_json('"target": "torch.ops.aten.relu.default"', '"target": "torch.ops.load_library"')),
        ("models/model.json", in_json('"target": "torch.ops.aten.relu.default"', '"target": "torch.hub.load"')),
    ],
)
def test_exported_programs_that_could_run_code(tmp_path: Path, exported: Path, ending: str, change: Any) -> None:
    hostile = rewrite(exported, tmp_path / "hostile.pt2", ending, change)
    assert hostile.read_bytes() != exported.read_bytes()
    with pytest.raises(ModelError, match="could run code"):
        import_torch(hostile, tmp_path / "model.onnx")
    assert not Path("/tmp/dovetail_bomb").exists()


def test_pickles_named_pt2(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt2"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match="not an exported torch program"):
        import_torch(path, tmp_path / "model.onnx")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/version", json.dumps(1))
    with pytest.raises(ModelError, match="old format"):
        import_torch(path, tmp_path / "model.onnx")
    assert not Path("/tmp/dovetail_bomb").exists()
