"""Normalizations as Keras has them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchNormalization(nn.Module):
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, for each entry of one axis over all others.

    As in Keras, `momentum` is what stays of the moving statistics, and the moving variance follows the biased one of
    the batch. A frozen layer uses the moving ones in training too.
    """

    moving_mean: Tensor
    moving_variance: Tensor

    def __init__(
        self,
        features: int,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        scale: bool = True,
        center: bool = True,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.axis, self.momentum, self.epsilon, self.frozen = axis, momentum, epsilon, frozen
        self.gamma = nn.Parameter(torch.ones(features)) if scale else None
        self.beta = nn.Parameter(torch.zeros(features)) if center else None
        self.register_buffer("moving_mean", torch.zeros(features))
        self.register_buffer("moving_variance", torch.ones(features))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mean, variance = self.moving_mean, self.moving_variance
        x = x.movedim(self.axis, -1)
        if self.training and not self.frozen:
            mean, variance = self.moments(x.flatten(0, -2), None if mask is None else mask.flatten())
            with torch.no_grad():
                self.moving_mean.lerp_(mean, 1 - self.momentum)
                self.moving_variance.lerp_(variance, 1 - self.momentum)
        y = (x - mean) * torch.rsqrt(variance + self.epsilon)
        y = y if self.gamma is None else y * self.gamma
        y = y if self.beta is None else y + self.beta
        return y.movedim(-1, self.axis)

    def moments(self, rows: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and variance of the rows that count."""
        if mask is None:
            return rows.mean(0), rows.var(0, correction=0)
        count = mask.sum() + 1e-7
        mean = rows.masked_fill(~mask[:, None], 0).sum(0) / count
        return mean, (rows - mean).masked_fill(~mask[:, None], 0).square().sum(0) / count


class Scaled(nn.Module):
    """gamma * layer(x) + beta, or one of the two."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...], scale: bool = True, center: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self.gamma = nn.Parameter(torch.ones(shape)) if scale else None
        self.beta = nn.Parameter(torch.zeros(shape)) if center else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        y = y if self.gamma is None else y * self.gamma
        return y if self.beta is None else y + self.beta


class Standardized(nn.Module):
    """(x - mean) / sqrt(variance + epsilon), with mean and variance over some axes of each row."""

    def __init__(self, axes: tuple[int, ...], epsilon: float) -> None:
        super().__init__()
        self.axes, self.epsilon = axes, epsilon

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, self.axes, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + self.epsilon)


class SpectralNormalization(nn.Module):
    """A layer whose kernel is divided by its largest singular value before each training step.

    The value is estimated by power iteration from the last step's `u`; the divided kernel takes the kernel's place.
    """

    u: Tensor

    def __init__(self, layer: nn.Module, kernel: str, units: int, iterations: int = 1, last: bool = False) -> None:
        super().__init__()
        self.layer, self.kernel, self.iterations, self.last = layer, kernel, iterations, last
        self.register_buffer("u", torch.empty(1, units))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.divide(self.layer.get_parameter(self.kernel))
        return self.layer(x)

    @torch.no_grad()
    def divide(self, kernel: Tensor) -> None:
        """Let the kernel's matrix, whose columns are the units, have the largest singular value 1."""
        matrix = kernel.flatten(0, -2) if self.last else kernel.flatten(1).T
        if not matrix.any():
            return
        u = self.u
        for _ in range(self.iterations):
            v = nn.functional.normalize(u @ matrix.T, eps=1e-7)
            u = nn.functional.normalize(v @ matrix, eps=1e-7)
        kernel.div_((v @ matrix @ u.T).item())
        self.u.copy_(u)
