"""Sums of a model that PyTorch exported are those of the operators that it runs."""

from pathlib import Path

import pytest

from dovetail.pipeline.describe import analyze_file
from dovetail.predict.nets.profile import profile
from dovetail.predict.nets.quantities import QUANTITIES

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


class _Block(nn.Module):
    """One transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(64), nn.Linear(64, 192), nn.Linear(64, 64)
        self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x: "torch.Tensor") -> "torch.Tensor":
        """A residual attention and a residual feed-forward layer."""
        q, k, v = self.qkv(self.norm(x)).reshape(*x.shape[:2], 3, 4, 16).permute(2, 0, 3, 1, 4).unbind(0)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(x)))


def test_a_transformer_block_counts_as_the_operators_that_pytorch_runs(tmp_path: Path) -> None:
    path = tmp_path / "block.onnx"
    torch.onnx.export(_Block().eval(), (torch.zeros(2, 50, 64),), path, dynamo=True, verbose=False)
    found = dict(zip(QUANTITIES, profile(analyze_file(path, {})).tolist(), strict=True))
    assert found["count_mm"] == 4 and found["count_sdpa"] == 1 and found["count_bmm"] == 0 and found["count_ln"] == 1
    # Two residual additions and a GELU; biases belong to their layers.
    assert found["count_ew"] == 3
    assert found["flop_sdpa"] == 2 * 2 * 4 * 50 * 50 * 16
    assert found["moved_sdpa"] == 4 * 50 * 64
    assert found["moved_ew"] == 2 * 3 * 50 * 64 + 2 * 50 * 256
