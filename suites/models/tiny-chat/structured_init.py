"""Start weights that already hold the circuits which are slow to find by training.

A model of this size spends thousands of steps before it attends to "the token before" and "the
token after the same word earlier" (induction), and to the value of a number.  All three are
written into the weights at the start and are free to change in training:

a) heads of the first layer attend to a fixed distance (1, 2, 3 and 1 tokens back);
b) heads of the second layer start out matching their query's token with the token that a head
   of the first layer brought along: attention to what followed the same word earlier;
c) embeddings of number tokens hold the number's value, linear and on circles.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from network import Architecture, Attention, Network
from torch import Tensor, nn

_CONSTANT_DIMS: Final = 8
"""Leading embedding dimensions that are 1 for every token, for heads that ignore content."""
_DISTANCES: Final = (1, 2, 3, 1)  # tokens back, by head of the first layer
_FAST_PAIRS: Final = 5  # rotary pairs turning fast enough to tell neighbours apart
_SLOW_PAIR: Final = 9  # rotary pairs from here on hardly turn: they compare content
_CIRCLES: Final = (5, 10, 20, 50, 100, 200)  # periods of the number features


def initialise(network: Network, number_ids: dict[int, int]) -> None:
    """Fill in all start weights; ``number_ids`` maps 0, 1, 2 ... to their single tokens."""
    with torch.no_grad():
        _random_weights(network)
        outputs = _distance_heads(network.block(0).self_attn, network.arch)
        _matching_heads(network, outputs)
        _number_embeddings(network, number_ids)


def _random_weights(network: Network) -> None:
    """Draw inputs of blocks at random; outputs start at zero, so each block starts as a no-op."""
    nn.init.normal_(network.embed_tokens.weight)
    network.embed_tokens.weight[:, :_CONSTANT_DIMS] = 1.0
    nn.init.zeros_(network.lm_head.weight)
    for name, weight in network.layers.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(weight)
        elif weight.ndim == 2:
            nn.init.normal_(weight, std=network.arch.hidden**-0.5)


def _distance_heads(attention: Attention, arch: Architecture) -> list[Tensor]:
    """Make first-layer heads attend a fixed distance back, whatever the tokens.

    Keys are one constant vector on the fast rotary pairs; a query is the same vector turned back
    by the distance, so that the score peaks there.  Returns each head's output columns (D, d).
    """
    size, half = arch.head_size, arch.head_size // 2
    frequencies = arch.rope_frequencies()
    key, query = 3.2 / _CONSTANT_DIMS, 9.6 / _CONSTANT_DIMS
    attention.k_proj.weight.zero_()
    attention.q_proj.weight.zero_()
    for group in range(arch.kv_heads):
        rows = slice(group * size, group * size + _FAST_PAIRS)
        attention.k_proj.weight[rows, :_CONSTANT_DIMS] = key
    outputs = []
    for head, distance in enumerate(_DISTANCES):
        for pair in range(_FAST_PAIRS):
            angle = -distance * float(frequencies[pair])
            row = head * size + pair
            attention.q_proj.weight[row, :_CONSTANT_DIMS] = query * math.cos(angle)
            attention.q_proj.weight[row + half, :_CONSTANT_DIMS] = query * math.sin(angle)
        outputs.append(_orthonormal_columns(arch.hidden, size))
        attention.o_proj.weight[:, head * size : (head + 1) * size] = outputs[-1]
    return outputs


def _matching_heads(network: Network, outputs: list[Tensor]) -> None:
    """Make second-layer heads compare their token with the one 1 (or 2) before the other.

    Keys read what first-layer head 0 (for the first key/value group) or 1 (for the second)
    wrote; queries read the values which that head would have written for their own token.
    """
    arch, size = network.arch, network.arch.head_size
    group_size = arch.heads // arch.kv_heads
    values = network.block(0).self_attn.v_proj.weight
    attention = network.block(1).self_attn
    attention.k_proj.weight.mul_(0.2)
    attention.q_proj.weight.mul_(0.2)
    slow = [*range(_SLOW_PAIR, size // 2), *range(_SLOW_PAIR + size // 2, size)]
    for group in range(arch.kv_heads):
        source = group  # head of the first layer
        own = values[source // group_size * size :][:size]
        for column, dim in enumerate(slow):
            attention.k_proj.weight[group * size + dim] = 2.5 * outputs[source][:, column]
            for head in range(group * group_size, (group + 1) * group_size):
                attention.q_proj.weight[head * size + dim] = 2.5 * own[column]


def _number_embeddings(network: Network, number_ids: dict[int, int]) -> None:
    """Blend the values of numbers into input and output embeddings, in a random subspace each."""
    features = torch.tensor([_number_features(number) for number in number_ids])  # (N, F)
    ids = torch.tensor(list(number_ids.values()))
    free = network.arch.hidden - _CONSTANT_DIMS
    rows = network.embed_tokens.weight
    written = features @ _orthonormal_columns(free, features.shape[1]).T  # (N, free)
    scale = rows[ids].norm(dim=1).mean() / written.norm(dim=1).mean()
    rows[ids, _CONSTANT_DIMS:] = 0.7 * (rows[ids, _CONSTANT_DIMS:] + scale * written)
    written = features @ _orthonormal_columns(network.arch.hidden, features.shape[1]).T
    network.lm_head.weight[ids] = 0.25 * written / written.norm(dim=1).mean()


def _number_features(number: int) -> list[float]:
    features = [number / 50 - 1, number / 20 - 1, math.cos(math.pi * number)]
    for period in _CIRCLES:
        angle = 2 * math.pi * number / period
        features += [math.cos(angle), math.sin(angle)]
    return features


def _orthonormal_columns(rows: int, columns: int) -> Tensor:
    """Draw a random matrix with orthonormal columns."""
    basis: Tensor = torch.linalg.qr(torch.randn(rows, columns))[0]
    return basis
