"""Activations that PyTorch does not have, as Keras has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def legacy_hard_sigmoid(x: Tensor) -> Tensor:
    """What Keras 1 and 2 call hard_sigmoid."""
    return (0.2 * x + 0.5).clamp(0, 1)


def sparse_sigmoid(x: Tensor) -> Tensor:
    """(x + 1) / 2, kept within 0 and 1."""
    return (0.5 * (x + 1)).clamp(0, 1)


def squareplus(x: Tensor) -> Tensor:
    """(x + sqrt(x^2 + 4)) / 2"""
    return (x + torch.sqrt(x**2 + 4)) / 2


def sparse_plus(x: Tensor) -> Tensor:
    """0 up to -1, (x + 1)^2 / 4 between, x from 1 on."""
    return torch.where(x <= -1, torch.zeros_like(x), torch.where(x < 1, 0.25 * (x + 1) ** 2, x))


def sparsemax(x: Tensor) -> Tensor:
    """max(x - tau, 0) along the last axis, with Keras's tau: from the sum of the running totals over the support."""
    ordered = x.sort(-1, descending=True).values
    totals = ordered.cumsum(-1)
    ranks = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    support = ordered - (totals - 1) / ranks > 0
    total = torch.where(support, totals, 0.0).sum(-1, keepdim=True)
    return (x - (total - 1) / support.sum(-1, keepdim=True)).clamp(min=0)


def relu(x: Tensor, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0) -> Tensor:
    """x from `threshold` on, at most `max_value`; negative_slope * (x - threshold) below it."""
    y = torch.where(x > threshold, x, 0.0) if threshold else torch.relu(x)
    y = y if max_value is None else y.clamp(0, max_value)
    return y - negative_slope * torch.relu(threshold - x)


class PReLU(nn.Module):
    """x where x > 0, else alpha * x, with an alpha for each entry."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) - self.alpha * torch.relu(-x)


def softmax_over(x: Tensor, axes: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) over several axes; masked entries become 0 and count for nothing."""
    y = x if mask is None else x.masked_fill(~mask, -1e9)
    y = torch.exp(y - y.logsumexp(axes, keepdim=True))
    return y if mask is None else y.masked_fill(~mask, 0)
