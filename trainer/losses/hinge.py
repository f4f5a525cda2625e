"""Losses that ask for a margin. https://keras.io/api/losses/hinge_losses/"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.lazy import torch
from trainer.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program


def signs(y_true: Tensor) -> Tensor:
    """Targets as -1 and 1 when all of them are 0 or 1; others as they are."""
    binary = ((y_true == 0) | (y_true == 1)).all()
    return torch.where(binary, 2.0 * y_true - 1.0, y_true)


def short_of_margin(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """max(1 - y_true y_pred, 0), the target as -1 or 1."""
    # `maximum` rather than `clamp`: at a tie it gives half the gradient, as Keras's does.
    return torch.maximum(1.0 - signs(y_true) * y_pred, torch.zeros((), dtype=y_pred.dtype, device=y_pred.device))


def hinge(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """mean(max(1 - y_true y_pred, 0)) along the last axis."""
    return short_of_margin(y_true, y_pred).mean(-1)


def squared_hinge(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """mean(max(1 - y_true y_pred, 0)^2) along the last axis."""
    return short_of_margin(y_true, y_pred).square().mean(-1)


def _signs_and_margin(p: Program, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """The target as -1 or 1, and what is missing to the margin (below 0 where nothing is), by hand."""
    sign = signs(y_true)
    p.do(lambda: sign.copy_(signs(y_true)))
    short = p.make(torch.mul, sign, y_pred)
    p.do(short.neg_)
    p.do(short.add_, p.constant(1.0, short))
    return sign, short


def categorical_hinge(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """max(largest score of a wrong class - score of the right one + 1, 0) along the last axis."""
    right = (y_true * y_pred).sum(-1)
    wrong = ((1.0 - y_true) * y_pred).amax(-1)
    return torch.maximum(wrong - right + 1.0, torch.zeros((), dtype=y_pred.dtype, device=y_pred.device))


class Hinge(Loss):
    """Shortfall from a margin of 1 between two classes, -1 and 1 (or 0 and 1): mean(max(1 - y_true y_pred, 0))."""

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return hinge(y_true, y_pred)

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        if y_true.shape != y_pred.shape:
            return None
        sign, slope = _signs_and_margin(p, y_true, y_pred)
        # 1 within the margin, 0 beyond, 1/2 at its edge.
        p.do(slope.sign_)
        p.do(slope.add_, p.constant(1.0, slope))
        p.do(slope.mul_, sign)
        p.do(slope.mul_, p.constant(-0.5 * share / y_pred.shape[-1], slope))
        return slope


class SquaredHinge(Loss):
    """Square of the shortfall from a margin of 1 between two classes: mean(max(1 - y_true y_pred, 0)^2)."""

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return squared_hinge(y_true, y_pred)

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        if y_true.shape != y_pred.shape:
            return None
        sign, slope = _signs_and_margin(p, y_true, y_pred)
        p.do(slope.clamp_, min=0)
        p.do(slope.mul_, sign)
        p.do(slope.mul_, p.constant(-2 * share / y_pred.shape[-1], slope))
        return slope


class CategoricalHinge(Loss):
    """Shortfall from a margin of 1 between the right class and the best wrong one, for one-hot targets."""

    targets = "one_hot"

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return categorical_hinge(y_true, y_pred)
