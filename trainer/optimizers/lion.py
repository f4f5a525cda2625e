"""Lion. https://keras.io/api/optimizers/lion/"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.native.text import number
from trainer.optimizers.base import Slots, StepNumbers, UpdateRule, by_rates
from trainer.options import Fraction, PositiveFraction

if TYPE_CHECKING:
    import torch


class Lion(UpdateRule):
    """Steps of one size in the direction of a mix of momentum and gradient: w -= rate sign(b1 m + (1 - b1) g).

    Chen et al., 2023; a rate 3 to 10 times smaller than Adam's is usual.
    """

    aliases = ("lion",)

    beta_1: PositiveFraction = 0.9
    "Share of the momentum in the mix."
    beta_2: Fraction = 0.99
    "Decay of the momentum."

    def slots(self) -> tuple[str, ...]:
        return ("momentum",)

    def update(self, weight: torch.Tensor, gradient: torch.Tensor, slots: Slots, rate: float, step: int) -> None:
        mean = slots["momentum"]
        mix = mean.mul(self.beta_1).add_(gradient, alpha=1 - self.beta_1)
        # What is no number stays none, so that training ends; its sign would be 0, and the weight never move again.
        weight.add_(mix.sign().where(mix == mix, mix), alpha=-rate)
        mean.mul_(self.beta_2).add_(gradient, alpha=1 - self.beta_2)

    def in_c(self) -> tuple[str, StepNumbers]:
        lines = [
            f"float mix = momentum * {number(self.beta_1)} + {number(1 - self.beta_1)} * g;",
            "w -= n0 * (mix != mix ? mix : (float)((mix > 0) - (mix < 0)));",
            f"momentum = momentum * {number(self.beta_2)} + {number(1 - self.beta_2)} * g;",
        ]
        return " ".join(lines), by_rates
