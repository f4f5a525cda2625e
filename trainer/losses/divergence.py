"""Losses between distributions. https://keras.io/api/losses/probabilistic_losses/"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.lazy import torch
from trainer.losses.base import EPSILON, Loss

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program


def kl_divergence(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """sum(y_true log(y_true / y_pred)) along the last axis, both kept from 1e-7 to 1."""
    y_true, y_pred = y_true.clamp(EPSILON, 1), y_pred.clamp(EPSILON, 1)
    return (y_true * (y_true / y_pred).log()).sum(-1)


def poisson(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """mean(y_pred - y_true log(y_pred + 1e-7)) along the last axis."""
    return (y_pred - y_true * (y_pred + EPSILON).log()).mean(-1)


class KLDivergence(Loss):
    """Kullback-Leibler divergence of the output from the target: sum(y_true log(y_true / y_pred))."""

    aliases = ("kld", "KLD")

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return kl_divergence(y_true, y_pred)

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        if y_true.shape != y_pred.shape:
            return None
        slope, output = p.make(torch.clamp, y_true, EPSILON, 1), p.make(torch.clamp, y_pred, EPSILON, 1)
        p.do(slope.div_, output)
        # What was moved by the clamp has no slope.
        p.do(slope.mul_, p.make(torch.eq, output, y_pred))
        p.do(slope.mul_, p.constant(-share, slope))
        return slope


class Poisson(Loss):
    """Negative log-likelihood of counts whose rate is the output: mean(y_pred - y_true log(y_pred))."""

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return poisson(y_true, y_pred)

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        if y_true.shape != y_pred.shape:
            return None
        rate = p.make(torch.add, y_pred, p.constant(EPSILON, y_pred))
        slope = p.make(torch.div, y_true, rate)
        p.do(slope.sub_, p.constant(1.0, slope))
        p.do(slope.mul_, p.constant(-share / y_pred.shape[-1], slope))
        return slope
