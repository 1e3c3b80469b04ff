"""Muon for the matrices of the layers, AdamW for the rest."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import torch
from network import Network
from torch import Tensor, nn

_MOMENTUM: Final = 0.95
_WEIGHT_DECAY: Final = 0.05
_NEWTON_SCHULZ: Final = (3.4445, -4.7750, 2.0315)  # quintic that pulls singular values to 1


class Muon:
    """Momentum whose update is made orthogonal, so all directions of a matrix learn alike."""

    def __init__(self, matrices: list[nn.Parameter]) -> None:
        self._momenta = [torch.zeros_like(p) for p in matrices]
        self._matrices = matrices
        self._by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, matrix in enumerate(matrices):
            self._by_shape[tuple(sorted(matrix.shape))].append(index)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update every matrix; those of one shape are orthogonalised as one batch."""
        for indices in self._by_shape.values():
            updates = _orthogonalise(torch.stack([self._wide_update(i) for i in indices]))
            for index, update in zip(indices, updates, strict=True):
                matrix = self._matrices[index]
                rows, columns = matrix.shape
                matrix.mul_(1 - rate * _WEIGHT_DECAY)
                scale = max(1.0, rows / columns) ** 0.5
                matrix.add_(update if rows <= columns else update.T, alpha=-rate * scale)

    def _wide_update(self, index: int) -> Tensor:
        """Nesterov momentum of one matrix, transposed to have no more rows than columns."""
        gradient, momentum = self._matrices[index].grad, self._momenta[index]
        assert gradient is not None
        momentum.mul_(_MOMENTUM).add_(gradient, alpha=1 - _MOMENTUM)
        update = gradient * (1 - _MOMENTUM) + momentum * _MOMENTUM
        return update if update.shape[0] <= update.shape[1] else update.T


def _orthogonalise(x: Tensor) -> Tensor:
    """Bring all singular values of matrices (N, rows, columns) close to 1."""
    a, b, c = _NEWTON_SCHULZ
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x


class Optimizer:
    """Both optimisers under one learning rate schedule."""

    MUON_RATE: Final = 0.02
    EMBEDDING_RATE: Final = 0.009
    OTHER_RATE: Final = 0.003

    def __init__(self, network: Network) -> None:
        matrices = network.matrices()
        embedding = network.embed_tokens.weight
        inside = {id(p) for p in (*matrices, embedding)}
        others = [p for p in network.parameters() if id(p) not in inside]
        self._muon = Muon(matrices)
        self._clipped = [embedding, *others]
        self._parameters = list(network.parameters())
        self._adam = torch.optim.AdamW(
            [
                {"params": [embedding], "base": self.EMBEDDING_RATE},
                {"params": others, "base": self.OTHER_RATE},
            ],
            betas=(0.9, 0.98),
            weight_decay=0.0,
        )

    def step(self, scale: float) -> None:
        """Update all weights with every rate times ``scale``, and drop the gradients."""
        nn.utils.clip_grad_norm_(self._clipped, 1.0)
        for group in self._adam.param_groups:
            group["lr"] = scale * group["base"]
        self._adam.step()
        self._muon.step(scale * self.MUON_RATE)
        for parameter in self._parameters:
            parameter.grad = None
