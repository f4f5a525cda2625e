"""Dropouts and noises as Keras has them: they act in training alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def drawn(x: Tensor, noise_shape: tuple[int | None, ...], rate: float) -> Tensor:
    """0 at a share `rate` of the places, 1 elsewhere; axes of size 1 share their draws."""
    sizes = [n if size is None else size for n, size in zip(x.shape, noise_shape, strict=True)]
    return (torch.rand(sizes, device=x.device) >= rate).to(x.dtype)


class ShapedDropout(nn.Module):
    """Dropout whose draws are shared along the axes where `noise_shape` is 1."""

    def __init__(self, rate: float, noise_shape: tuple[int | None, ...]) -> None:
        super().__init__()
        self.rate, self.noise_shape = rate, noise_shape

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        return x * drawn(x, self.noise_shape, self.rate) * (0.0 if self.rate == 1 else 1 / (1 - self.rate))


class ShapedAlphaDropout(nn.Module):
    """Dropout after selu whose draws are shared along the axes where `noise_shape` is 1."""

    def __init__(self, rate: float, noise_shape: tuple[int | None, ...]) -> None:
        super().__init__()
        self.rate, self.noise_shape = rate, noise_shape

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        floor = -1.7580993408473766
        a = ((1 - self.rate) * (1 + self.rate * floor**2)) ** -0.5
        m = drawn(x, self.noise_shape, self.rate)
        return a * (x * m + floor * (1 - m)) - a * floor * self.rate


class GaussianDropout(nn.Module):
    """x times a normal draw with mean 1 and variance rate / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.deviation = (rate / (1 - rate)) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.deviation * torch.randn_like(x)) if self.training else x


class GaussianNoise(nn.Module):
    """x plus a normal draw with mean 0."""

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: Tensor) -> Tensor:
        return x + self.deviation * torch.randn_like(x) if self.training else x
