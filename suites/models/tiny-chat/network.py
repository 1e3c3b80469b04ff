"""The network: a small Llama, written out plainly for training.

Shapes in comments: B rows, T tokens, D hidden size, H heads, G key/value heads, d head size.
Rotary embedding uses the half-split layout of the HF implementation, so weights are exported
without reordering.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network."""

    vocabulary: int = 1536
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 256
    context: int = 1024
    rope_theta: float = 500_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Dimensions of one attention head."""
        return self.hidden // self.heads

    def rope_frequencies(self) -> Tensor:
        """Angles per position, in radians, of the d/2 rotary pairs."""
        exponents = torch.arange(0, self.head_size, 2, dtype=torch.float32) / self.head_size
        return 1.0 / self.rope_theta**exponents


class RMSNorm(nn.Module):
    """Root mean square normalisation with a learned scale."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped keys and values."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        kv_size = arch.kv_heads * arch.head_size
        self.heads, self.kv_heads, self.head_size = arch.heads, arch.kv_heads, arch.head_size
        self.q_proj = nn.Linear(arch.hidden, arch.hidden, bias=False)
        self.k_proj = nn.Linear(arch.hidden, kv_size, bias=False)
        self.v_proj = nn.Linear(arch.hidden, kv_size, bias=False)
        self.o_proj = nn.Linear(arch.hidden, arch.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D); ``cos`` and ``sin`` are (T, d)."""
        rows, length, hidden = x.shape
        q = self._split(self.q_proj(x), self.heads)  # (B, H, T, d)
        k = self._split(self.k_proj(x), self.kv_heads)  # (B, G, T, d)
        v = self._split(self.v_proj(x), self.kv_heads)
        group = self.heads // self.kv_heads
        mixed = functional.scaled_dot_product_attention(
            _rotate(q, cos, sin),
            _rotate(k, cos, sin).repeat_interleave(group, 1),
            v.repeat_interleave(group, 1),
            is_causal=True,
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(rows, length, hidden))
        return out

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(x.shape[0], x.shape[1], heads, self.head_size).transpose(1, 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


class FeedForward(nn.Module):
    """Gated feed-forward layer (SwiGLU)."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(arch.hidden, arch.feed_forward, bias=False)
        self.up_proj = nn.Linear(arch.hidden, arch.feed_forward, bias=False)
        self.down_proj = nn.Linear(arch.feed_forward, arch.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):
    """One layer; its parts carry the names of the HF implementation."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(arch.hidden, arch.norm_epsilon)
        self.self_attn = Attention(arch)
        self.post_attention_layernorm = RMSNorm(arch.hidden, arch.norm_epsilon)
        self.mlp = FeedForward(arch)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Network(nn.Module):
    """Embedding, layers and final norm; ``lm_head`` is applied apart, to chosen tokens only."""

    cos: Tensor
    sin: Tensor

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.embed_tokens = nn.Embedding(arch.vocabulary, arch.hidden)
        self.layers = nn.ModuleList(Block(arch) for _ in range(arch.layers))
        self.norm = RMSNorm(arch.hidden, arch.norm_epsilon)
        self.lm_head = nn.Linear(arch.hidden, arch.vocabulary, bias=False)
        angles = torch.arange(arch.context)[:, None] * arch.rope_frequencies()[None]
        angles = torch.cat([angles, angles], -1)  # (context, d)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (B, T) to final hidden states (B, T, D)."""
        length = ids.shape[1]
        x = self.embed_tokens(ids)
        for block in self.layers:
            x = block(x, self.cos[:length], self.sin[:length])
        out: Tensor = self.norm(x)
        return out

    def block(self, index: int) -> Block:
        """One of the layers."""
        block = self.layers[index]
        assert isinstance(block, Block)
        return block

    def matrices(self) -> list[nn.Parameter]:
        """The weight matrices inside the layers."""
        return [p for p in self.layers.parameters() if p.ndim == 2]

    def state_for_export(self) -> dict[str, Tensor]:
        """All weights under the names of the HF implementation, contiguous and on the CPU."""
        state = {}
        for name, tensor in self.state_dict().items():
            full = name if name.startswith("lm_head") else f"model.{name}"
            state[full] = tensor.detach().to("cpu", torch.float32).contiguous()
        return state
