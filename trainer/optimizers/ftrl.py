"""FTRL. https://keras.io/api/optimizers/ftrl/"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from trainer.lazy import torch
from trainer.optimizers.base import Slots, UpdateRule
from trainer.options import NonNegativeFloat, within

if TYPE_CHECKING:
    from torch import Tensor


class Ftrl(UpdateRule):
    """Follow the regularized leader: weights follow from sums of all gradients, and small ones become exactly 0.

    For wide and sparse models. McMahan et al., 2013, "Ad click prediction: a view from the trenches".
    """

    aliases = ("ftrl",)
    interleaved: ClassVar[int] = 2
    # Weight by weight, in roundings as Keras has them: `after - before` is often one rounding and no more.
    flat: ClassVar[bool] = False

    learning_rate_power: Annotated[float, within("a number of 0 or less", most=0)] = -0.5
    "Exponent with which the rate of a weight falls with its sum of squared gradients; 0 keeps it."
    initial_accumulator_value: NonNegativeFloat = 0.1
    "What the sum of squares starts with."
    l1_regularization_strength: NonNegativeFloat = 0.0
    "Factor of the penalty on absolute values."
    l2_regularization_strength: NonNegativeFloat = 0.0
    "Factor of the penalty on squares."
    l2_shrinkage_regularization_strength: NonNegativeFloat = 0.0
    "Factor of a penalty on squares that goes into the gradient, and not into the sum of squares."
    beta: NonNegativeFloat = 0.0
    "Added to the root of the sum of squares."

    def slots(self) -> tuple[str, ...]:
        return ("accumulator", "linear")

    def first(self, slot: str, weight: Tensor, path: str) -> Tensor:
        return weight.new_full(weight.shape, self.initial_accumulator_value if slot == "accumulator" else 0.0)

    def update(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        total, linear = slots["accumulator"], slots["linear"]
        exponent = torch.full((), -self.learning_rate_power, dtype=total.dtype, device=total.device)
        before = torch.pow(total, exponent)
        after = torch.pow(total.add_(gradient * gradient), exponent)
        if self.l2_shrinkage_regularization_strength:
            gradient = gradient + weight * (2 * self.l2_shrinkage_regularization_strength)
        linear.add_(gradient - (after - before).div_(rate).mul_(weight))
        # At a rate of 0 Keras divides by it as well, and its weights are no numbers any more.
        squared = self.l2_regularization_strength + (self.beta / (2 * rate) if rate else math.nan)
        kept = linear.clamp(-self.l1_regularization_strength, self.l1_regularization_strength)
        weight.copy_(kept.sub_(linear).div_(after.div_(rate).add_(2 * squared)))
