"""EinsumDense and ReversibleEmbedding as Keras has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EinsumDense(nn.Module):
    """einsum(equation, x, kernel) + bias"""

    def __init__(self, equation: str, kernel: tuple[int, ...], bias: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.equation = equation
        self.kernel = nn.Parameter(torch.empty(kernel))
        self.bias = None if bias is None else nn.Parameter(torch.zeros(bias))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum(self.equation, x, self.kernel)
        return y if self.bias is None else y + self.bias


class ReversibleEmbedding(nn.Module):
    """A vector for each id, and scores of all ids from a vector."""

    def __init__(self, words: int, features: int, tied: bool = True, cap: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(words, features))
        self.reverse = None if tied else nn.Parameter(torch.empty(features, words))
        self.cap = cap

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[x.long()]

    def scores(self, x: Tensor) -> Tensor:
        """x @ transpose(weight), or x @ reverse; within `cap` and its negative."""
        y = x @ (self.weight.T if self.reverse is None else self.reverse)
        return y if self.cap is None else torch.tanh(y / self.cap) * self.cap
