"""Penalties that grow with the size of the values."""

from __future__ import annotations

from trainer.lazy import torch
from trainer.options import NonNegativeFloat
from trainer.regularizers.base import Regularizer


class L1(Regularizer):
    """l1 sum(|x|)"""

    l1: NonNegativeFloat = 0.01
    "Factor of the sum of absolute values."

    def penalty(self, x: torch.Tensor) -> torch.Tensor:
        return self.l1 * x.abs().sum()

    def factors(self) -> tuple[float, float]:
        return self.l1, 0.0

    def slope(self, x: torch.Tensor) -> torch.Tensor:
        return x.sign().mul_(self.l1)


class L2(Regularizer):
    """l2 sum(x^2)"""

    l2: NonNegativeFloat = 0.01
    "Factor of the sum of squares."

    def penalty(self, x: torch.Tensor) -> torch.Tensor:
        return self.l2 * x.square().sum()

    def factors(self) -> tuple[float, float]:
        return 0.0, self.l2

    def slope(self, x: torch.Tensor) -> torch.Tensor:
        return x * (2 * self.l2)


class L1L2(Regularizer):
    """l1 sum(|x|) + l2 sum(x^2); both factors are 0 until they are given."""

    aliases = ("l1_l2",)

    l1: NonNegativeFloat = 0.0
    "Factor of the sum of absolute values."
    l2: NonNegativeFloat = 0.0
    "Factor of the sum of squares."

    def penalty(self, x: torch.Tensor) -> torch.Tensor:
        total = x.new_zeros(())
        if self.l1:
            total = total + self.l1 * x.abs().sum()
        if self.l2:
            total = total + self.l2 * x.square().sum()
        return total

    def factors(self) -> tuple[float, float]:
        return self.l1, self.l2

    def slope(self, x: torch.Tensor) -> torch.Tensor:
        return x.sign().mul_(self.l1).add_(x, alpha=2 * self.l2)
