"""Losses between numbers. https://keras.io/api/losses/regression_losses/"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainer.lazy import F, torch
from trainer.losses.base import EPSILON, Loss
from trainer.options import Float, Int

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program


def mean_squared_error(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """mean((y_true - y_pred)^2) along the last axis."""
    return (y_true - y_pred).square().mean(-1)


def mean_absolute_error(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """mean(|y_true - y_pred|) along the last axis."""
    return (y_true - y_pred).abs().mean(-1)


def mean_absolute_percentage_error(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """100 mean(|y_true - y_pred| / max(|y_true|, 1e-7)) along the last axis."""
    return 100.0 * ((y_true - y_pred) / y_true.abs().clamp(min=EPSILON)).abs().mean(-1)


def mean_squared_logarithmic_error(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """mean((log(y_true + 1) - log(y_pred + 1))^2) along the last axis, both from 1e-7 up."""
    # `maximum` rather than `clamp`: at a tie it gives half the gradient, as Keras's does.
    least = torch.full((), EPSILON, dtype=y_pred.dtype, device=y_pred.device)
    first, second = (torch.log(torch.maximum(y, least) + 1.0) for y in (y_pred, y_true))
    return (first - second).square().mean(-1)


def cosine_similarity(y_true: Tensor, y_pred: Tensor, axis: int = -1) -> Tensor:
    """Cosine of the angle between the vectors along `axis`; 0 where one of them is 0."""
    return (_unit(y_true, axis) * _unit(y_pred, axis)).sum(axis)


def _unit(x: Tensor, axis: int) -> Tensor:
    return x * torch.rsqrt(torch.clamp(x.square().sum(axis, keepdim=True), min=EPSILON**2))


def huber(y_true: Tensor, y_pred: Tensor, delta: float = 1.0) -> Tensor:
    """mean(error^2 / 2 up to `delta`, delta |error| - delta^2 / 2 beyond) along the last axis."""
    error = y_pred - y_true
    size = error.abs()
    return torch.where(size <= delta, 0.5 * error.square(), delta * size - 0.5 * delta**2).mean(-1)


def log_cosh(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """mean(log(cosh(y_pred - y_true))) along the last axis."""
    error = y_pred - y_true
    return (error + F.softplus(error * -2.0) - math.log(2.0)).mean(-1)


def of_errors(
    p: Program, y_true: Tensor, y_pred: Tensor, share: float, turn: str = "", *limits: float
) -> Tensor | None:
    """The gradient of a mean of a function of the errors, whose slope `turn` makes of them, as operations."""
    if y_true.shape != y_pred.shape:
        return None
    slope = p.make(torch.sub, y_pred, y_true)
    if turn:
        p.do(getattr(slope, turn), *limits)
    p.do(slope.mul_, p.constant(share / y_pred.shape[-1], slope))
    return slope


class MeanSquaredError(Loss):
    """Mean of squared errors: mean((y_true - y_pred)^2)."""

    aliases = ("mse", "MSE")

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return mean_squared_error(y_true, y_pred)

    def mean(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        same = y_true.shape == y_pred.shape
        return F.mse_loss(y_pred, y_true) if same else mean_squared_error(y_true, y_pred).mean()

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        return of_errors(p, y_true, y_pred, 2 * share)


class MeanAbsoluteError(Loss):
    """Mean of absolute errors: mean(|y_true - y_pred|)."""

    aliases = ("mae", "MAE")

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return mean_absolute_error(y_true, y_pred)

    def mean(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        same = y_true.shape == y_pred.shape
        return F.l1_loss(y_pred, y_true) if same else mean_absolute_error(y_true, y_pred).mean()

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        return of_errors(p, y_true, y_pred, share, "sign_")


class MeanAbsolutePercentageError(Loss):
    """Mean of errors as percentages of the target: 100 mean(|y_true - y_pred| / |y_true|)."""

    aliases = ("mape", "MAPE")

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return mean_absolute_percentage_error(y_true, y_pred)

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        if y_true.shape != y_pred.shape:
            return None
        slope, size = p.make(torch.sub, y_pred, y_true), p.make(torch.abs, y_true)
        p.do(size.clamp_, min=EPSILON)
        p.do(slope.sign_)
        p.do(slope.div_, size)
        p.do(slope.mul_, p.constant(100.0 * share / y_pred.shape[-1], slope))
        return slope


class MeanSquaredLogarithmicError(Loss):
    """Mean of squared differences of logarithms: mean((log(y_true + 1) - log(y_pred + 1))^2)."""

    aliases = ("msle", "MSLE")

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return mean_squared_logarithmic_error(y_true, y_pred)


class CosineSimilarity(Loss):
    """Minus the cosine of the angle between target and output: -1 where they point the same way."""

    axis: Int = -1
    "Axis of the vectors."

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return -cosine_similarity(y_true, y_pred, self.axis)


class Huber(Loss):
    """Squared for errors up to `delta`, linear beyond: robust against outliers."""

    delta: Float = 1.0
    "Error at which the loss turns from a parabola into a line."

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return huber(y_true, y_pred, self.delta)

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        return of_errors(p, y_true, y_pred, share, "clamp_", -self.delta, self.delta) if self.delta >= 0 else None


class LogCosh(Loss):
    """Logarithm of the hyperbolic cosine of the error: squared for small errors, absolute for large ones."""

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return log_cosh(y_true, y_pred)

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        return of_errors(p, y_true, y_pred, share, "tanh_")
