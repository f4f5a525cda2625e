"""Adafactor. https://keras.io/api/optimizers/adafactor/"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

from trainer.lazy import torch
from trainer.optimizers.base import Slots, UpdateRule
from trainer.options import Bool, Float, NonNegativeFloat, PositiveFloat

if TYPE_CHECKING:
    from torch import Tensor


@functools.lru_cache(maxsize=1024)
def _decay(step: int, exponent: float) -> float:
    """1 - step^exponent, in Keras's float32 arithmetic."""
    return float(1 - torch.pow(torch.tensor(float(step)), exponent))


class Adafactor(UpdateRule):
    """Adam without momentum, whose mean squares of a matrix are a product of one value a row and one a column.

    w -= max(epsilon_2, rms(w)) min(rate, 1 / sqrt(t)) u / max(1, rms(u) / clip_threshold), u = g / sqrt(v). Shazeer
    and Stern, 2018, https://arxiv.org/abs/1804.04235.
    """

    aliases = ("adafactor",)
    flat: ClassVar[bool] = False
    interleaved: ClassVar[int] = 3

    beta_2_decay: Float = -0.8
    "Exponent: the mean square forgets with 1 - t^beta_2_decay."
    epsilon_1: NonNegativeFloat = 1e-30
    "Added to squared gradients."
    epsilon_2: NonNegativeFloat = 1e-3
    "Least size that a weight counts with."
    clip_threshold: PositiveFloat = 1.0
    "Root mean square of the step above which it is shortened."
    relative_step: Bool = True
    "For Keras's files: in Keras's rule the rate is never above 1 / sqrt(t), whatever this says."

    def slots(self) -> tuple[str, ...]:
        return ("r", "c", "velocity")

    def first(self, slot: str, weight: Tensor, path: str) -> Tensor:
        if slot == "velocity":
            return torch.zeros_like(weight)
        if weight.dim() < 2:
            return weight.new_zeros(())  # unused, but among Keras's variables
        return torch.zeros_like(weight.select(-1 if slot == "r" else -2, 0))

    def update(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        keep, velocity = _decay(step, self.beta_2_decay), slots["velocity"]
        squares = gradient.square().add_(self.epsilon_1)
        if weight.dim() > 1:
            rows, columns = slots["r"], slots["c"]
            rows.mul_(keep).add_(squares.mean(-1), alpha=1 - keep)
            columns.mul_(keep).add_(squares.mean(-2), alpha=1 - keep)
            torch.mul((rows / rows.mean(-1, keepdim=True)).unsqueeze(-1), columns.unsqueeze(-2), out=velocity)
        else:
            velocity.mul_(keep).add_(squares, alpha=1 - keep)
        alpha = _rms(weight).clamp(min=self.epsilon_2) * min(rate, step**-0.5)
        move = gradient / velocity.sqrt()
        weight.sub_(move.mul_(alpha / (_rms(move) / self.clip_threshold).clamp(min=1.0)))


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()
