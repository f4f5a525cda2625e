"""Lion. https://keras.io/api/optimizers/lion/"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainer.optimizers.base import Slots, UpdateRule
from trainer.options import Fraction, Rule, number

if TYPE_CHECKING:
    import torch


def _above_zero(value: Any) -> float:
    if not 0 < number(value) <= 1:
        raise ValueError
    return number(value)


class Lion(UpdateRule):
    """Steps of one size in the direction of a mix of momentum and gradient: w -= rate sign(b1 m + (1 - b1) g).

    Chen et al., 2023; a rate 3 to 10 times smaller than Adam's is usual.
    """

    aliases = ("lion",)

    beta_1: Annotated[
        float,
        Rule(
            "a number above 0, up to 1",
            _above_zero,
            {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        ),
    ] = 0.9
    "Share of the momentum in the mix."
    beta_2: Fraction = 0.99
    "Decay of the momentum."

    def slots(self) -> tuple[str, ...]:
        return ("momentum",)

    def update(self, weight: torch.Tensor, gradient: torch.Tensor, slots: Slots, rate: float, step: int) -> None:
        mean = slots["momentum"]
        mix = mean.mul(self.beta_1).add_(gradient, alpha=1 - self.beta_1)
        weight.add_(mix.sign_(), alpha=-rate)
        mean.mul_(self.beta_2).add_(gradient, alpha=1 - self.beta_2)
