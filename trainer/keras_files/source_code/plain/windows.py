"""Convolutions and poolings as Keras has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelsLast(nn.Module):
    """A layer whose channels are axis 1, for tensors that have them last."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.movedim(-1, 1)).movedim(1, -1)


class SamePadding(nn.Module):
    """Fills up both ends of each axis so that ceil(size / stride) windows fit, with the odd entry at the end."""

    def __init__(
        self, window: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...] = (), value: float = 0.0
    ) -> None:
        super().__init__()
        self.axes = list(zip(window, stride, dilation or (1,) * len(window), strict=True))
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        ends: list[int] = []
        for size, (k, s, d) in zip(x.shape[2:], self.axes, strict=True):
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            ends = [total // 2, total - total // 2, *ends]
        return F.pad(x, ends, value=self.value)


class MeanInside(nn.Module):
    """The mean of each window over the entries that lie inside the input: what is filled up does not count."""

    def __init__(self, fill: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.fill, self.pool = fill, pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.fill(x)) / self.pool(self.fill(torch.ones_like(x[:1, :1])))


def mean_of_steps(x: Tensor, mask: Tensor, keepdim: bool = False) -> Tensor:
    """The mean over the steps of (batch, time, features) that the mask leaves."""
    there = mask.unsqueeze(-1)
    return torch.where(there, x, 0.0).sum(1, keepdim) / there.sum(1, keepdim)
