"""The network, a small decoder-only transformer, and its weights under their GGUF names.

RMSNorm, RoPE, SwiGLU, tied embeddings. Queries and keys rotate in the half-split layout;
``gguf_weights`` reorders them for llama.cpp's ``llama`` architecture, which rotates neighbouring
pairs. Attention stays within one conversation of a packed window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    width: int = 192
    n_layers: int = 3
    n_heads: int = 6
    ffn_width: int = 512
    n_context: int = 512
    rope_base: float = 10000.0
    norm_eps: float = 1e-5


class Block(nn.Module):
    """Attention, then feed-forward, each on a normed copy added back to the stream."""

    def __init__(self, shape: Shape, qkv_bias: bool) -> None:
        super().__init__()
        width = shape.width
        self.n_heads = shape.n_heads
        self.attn_norm = nn.RMSNorm(width, shape.norm_eps)
        self.ffn_norm = nn.RMSNorm(width, shape.norm_eps)
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * shape.ffn_width, bias=False)
        self.ffn_down = nn.Linear(shape.ffn_width, width, bias=False)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """x: (n_rows, n_tokens, width); mask, added to scores: (n_rows, 1, n_tokens, n_tokens)."""
        n_rows, n_tokens, width = x.shape
        qkv = (
            self.qkv(self.attn_norm(x))
            .view(n_rows, n_tokens, 3, self.n_heads, -1)
            .permute(2, 0, 3, 1, 4)
        )
        q, k = rotate(qkv[:2], rope)
        attended = functional.scaled_dot_product_attention(q, k, qkv[2], attn_mask=mask)
        x = x + self.attn_output(attended.transpose(1, 2).reshape(n_rows, n_tokens, width))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.ffn_down(functional.silu(gate) * up)


class Network(nn.Module):
    """Token ids to the final hidden states; ``logits`` maps those to the vocabulary."""

    def __init__(self, shape: Shape, n_vocab: int, qkv_bias: bool) -> None:
        super().__init__()
        self.shape = shape
        self.qkv_bias = qkv_bias
        self.embedding = nn.Embedding(n_vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape, qkv_bias) for _ in range(shape.n_layers))
        self.output_norm = nn.RMSNorm(shape.width, shape.norm_eps)
        self._initialise()

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                residual = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(
                    weight, std=0.03 / ((2 * self.shape.n_layers) ** 0.5 if residual else 1)
                )
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, tokens: Tensor, owners: Tensor) -> Tensor:
        """tokens, owners: (n_rows, n_tokens); ``owners`` numbers each token's conversation."""
        n_tokens = tokens.shape[1]
        causal = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()
        allowed = causal & (owners[:, :, None] == owners[:, None, :])
        mask = torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))[:, None]
        rope = rope_table(self.shape, n_tokens)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, rope, mask)
        hidden: Tensor = self.output_norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden: (..., width) -> (..., n_vocab), with the embedding as output matrix."""
        return functional.linear(hidden, self.embedding.weight)


def rope_table(shape: Shape, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (n_tokens, head_width / 2)."""
    half = shape.width // shape.n_heads // 2
    frequencies = shape.rope_base ** -(torch.arange(half) / half)
    angles = torch.arange(n_tokens)[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """x: (..., n_tokens, head_width), first half paired with second half."""
    cos, sin = rope
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def gguf_weights(network: Network, architecture: str) -> dict[str, np.ndarray]:
    """The weights under llama.cpp's names, in the layout ``architecture`` expects."""
    found = {
        "token_embd.weight": network.embedding.weight,
        "output_norm.weight": network.output_norm.weight,
    }
    for i, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        for part in ("weight", "bias") if network.qkv_bias else ("weight",):
            q, k, v = getattr(block.qkv, part).chunk(3)
            if architecture == "llama":
                q, k = _neighbouring_pairs(q, block.n_heads), _neighbouring_pairs(k, block.n_heads)
            found |= {
                f"blk.{i}.attn_q.{part}": q,
                f"blk.{i}.attn_k.{part}": k,
                f"blk.{i}.attn_v.{part}": v,
            }
        gate, up = block.gate_up.weight.chunk(2)
        found |= {f"blk.{i}.ffn_gate.weight": gate, f"blk.{i}.ffn_up.weight": up}
        for name in ("attn_norm", "ffn_norm", "attn_output", "ffn_down"):
            found[f"blk.{i}.{name}.weight"] = getattr(block, name).weight
    return {name: weight.detach().numpy() for name, weight in found.items()}


def load_gguf_weights(network: Network, architecture: str, found: dict[str, np.ndarray]) -> None:
    """Undo ``gguf_weights``: put the weights of a file into ``network``."""
    weights = {name: torch.from_numpy(np.array(array)) for name, array in found.items()}
    with torch.no_grad():
        network.embedding.weight.copy_(weights["token_embd.weight"])
        network.output_norm.weight.copy_(weights["output_norm.weight"])
        for i, block in enumerate(network.blocks):
            assert isinstance(block, Block)
            for part in ("weight", "bias") if network.qkv_bias else ("weight",):
                q, k, v = (weights[f"blk.{i}.attn_{name}.{part}"] for name in "qkv")
                if architecture == "llama":
                    q, k = _halves(q, block.n_heads), _halves(k, block.n_heads)
                getattr(block.qkv, part).copy_(torch.cat((q, k, v)))
            gate, up = weights[f"blk.{i}.ffn_gate.weight"], weights[f"blk.{i}.ffn_up.weight"]
            block.gate_up.weight.copy_(torch.cat((gate, up)))
            for name in ("attn_norm", "ffn_norm", "attn_output", "ffn_down"):
                getattr(block, name).weight.copy_(weights[f"blk.{i}.{name}.weight"])


def _neighbouring_pairs(weight: Tensor, n_heads: int) -> Tensor:
    """Interleave the first and second half of each head's rows."""
    heads = weight.view(n_heads, 2, weight.shape[0] // n_heads // 2, *weight.shape[1:])
    return heads.transpose(1, 2).reshape(weight.shape)


def _halves(weight: Tensor, n_heads: int) -> Tensor:
    """The inverse of ``_neighbouring_pairs``."""
    heads = weight.view(n_heads, weight.shape[0] // n_heads // 2, 2, *weight.shape[1:])
    return heads.transpose(1, 2).reshape(weight.shape)
