"""all-MiniLM-L6-v2 as an ONNX graph: six layers of BERT, mean pooling, normalisation (Reimers & Gurevych 2019).

The modules carry the names of the published checkpoint, so that its tensors load as they are.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from samples import minilm_folder
from torch import Tensor, nn
from torch.nn import functional

HIDDEN, HEADS, LAYERS, INNER = 384, 12, 6, 1536
VOCABULARY, POSITIONS, EPSILON = 30522, 512, 1e-12
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TOLERANCE = 1e-4


class Embeddings(nn.Module):
    """Token, position and segment embeddings: ids_BS to h_BSD."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, HIDDEN)
        self.position_embeddings = nn.Embedding(POSITIONS, HIDDEN)
        self.token_type_embeddings = nn.Embedding(2, HIDDEN)
        self.LayerNorm = nn.LayerNorm(HIDDEN, EPSILON)

    def forward(self, ids_BS: Tensor, types_BS: Tensor) -> Tensor:
        """Their sum, normalised."""
        positions_S = torch.arange(ids_BS.shape[1], device=ids_BS.device)
        h_BSD = self.word_embeddings(ids_BS) + self.token_type_embeddings(types_BS)
        return self.LayerNorm(h_BSD + self.position_embeddings(positions_S))


class Layer(nn.Module):
    """Self-attention and feed-forward, each with a shortcut and a layer norm behind it: h_BSD to h_BSD."""

    def __init__(self) -> None:
        super().__init__()
        projections = nn.ModuleDict({name: nn.Linear(HIDDEN, HIDDEN) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": projections, "output": _output(HIDDEN)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(HIDDEN, INNER)})
        self.output = _output(INNER)

    def forward(self, h_BSD: Tensor, bias_B11S: Tensor) -> Tensor:
        """``bias_B11S`` is added to the scores: 0, or hugely negative at padding."""
        q, k, v = (
            linear(h_BSD).unflatten(-1, (HEADS, HIDDEN // HEADS)).transpose(1, 2) for linear in self.attention["self"].values()
        )
        scores_BHSS = q @ k.transpose(-1, -2) / math.sqrt(HIDDEN // HEADS) + bias_B11S
        context_BSD = (scores_BHSS.softmax(-1) @ v).transpose(1, 2).flatten(2)
        h_BSD = _added(self.attention["output"], context_BSD, h_BSD)
        return _added(self.output, functional.gelu(self.intermediate["dense"](h_BSD)), h_BSD)


def _output(width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(width, HIDDEN), "LayerNorm": nn.LayerNorm(HIDDEN, EPSILON)})


def _added(block: nn.ModuleDict, x: Tensor, shortcut: Tensor) -> Tensor:
    result: Tensor = block["LayerNorm"](block["dense"](x) + shortcut)
    return result


class MiniLm(nn.Module):
    """Token ids to sentence embeddings of length 1, ``[B, 384]``; padding is masked out."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(LAYERS))})

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """All inputs are int64 ``[B, S]``; the mask is 1 at tokens and 0 at padding."""
        mask_BS = attention_mask.to(self.embeddings.word_embeddings.weight.dtype)
        bias_B11S = (1 - mask_BS)[:, None, None] * torch.finfo(mask_BS.dtype).min
        h_BSD = self.embeddings(input_ids, token_type_ids)
        for layer in self.encoder["layer"]:
            h_BSD = layer(h_BSD, bias_B11S)
        mean_BD = (h_BSD * mask_BS[..., None]).sum(1) / mask_BS.sum(1, keepdim=True).clamp(min=1e-9)
        return functional.normalize(mean_BD, dim=-1)


def load() -> MiniLm:
    """The network with the published weights; the pooler, which sentence embeddings do not use, is left out."""
    weights = load_file(minilm_folder() / "model.safetensors")
    kept = {name: w for name, w in weights.items() if not name.startswith("pooler.") and name != "embeddings.position_ids"}
    net = MiniLm()
    net.load_state_dict(kept)
    return net.eval()


def export(path: Path) -> Path:
    """Writes the ONNX file, batch and sequence free, once it gives what torch gives; returns ``path``.

    Raises:
        ValueError: its embeddings differ from torch's.
    """
    net = load()
    ids_BS = torch.randint(1000, 20000, (2, 12))
    mask_BS = torch.ones_like(ids_BS)
    mask_BS[1, 9:] = 0
    example = (ids_BS, mask_BS, torch.zeros_like(ids_BS))
    free = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("sequence", min=2, max=POSITIONS)}
    program = torch.onnx.export(
        net,
        example,
        input_names=list(INPUTS),
        output_names=["sentence_embedding"],
        dynamic_shapes=dict.fromkeys(INPUTS, free),
        dynamo=True,
        verbose=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    program.save(str(partial), external_data=False)
    _check(partial, net, (ids_BS[:, :7], mask_BS[:, :7], example[2][:, :7]))
    partial.replace(path)
    return path


def _check(path: Path, net: MiniLm, feeds: tuple[Tensor, ...]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    found = session.run(None, {name: x.numpy() for name, x in zip(INPUTS, feeds, strict=True)})[0]
    with torch.no_grad():
        expected = net(*feeds).numpy()
    error = float(np.abs(found - expected).max())
    if not error <= TOLERANCE:
        raise ValueError(f"the exported embeddings differ from torch's by {error:.2g}; {TOLERANCE:g} is allowed")
