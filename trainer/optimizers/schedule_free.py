"""Schedule-free AdamW. https://keras.io/api/optimizers/schedule_free_adamw/"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from trainer.lazy import torch
from trainer.optimizers.base import Slots, UpdateRule
from trainer.optimizers.powers import power, rest
from trainer.options import Fraction, NonNegativeInt, PositiveFloat, PositiveFraction
from trainer.schedules.base import ConstantRate, Schedule

if TYPE_CHECKING:
    from torch import Tensor


class ScheduleFreeAdamW(UpdateRule):
    """AdamW that needs no schedule: the weights stand between a fast point z and the mean x of all its places.

    z -= rate g / (sqrt(v') + epsilon), x = mean of z, w = (1 - beta_1) z + beta_1 x. Defazio et al., 2024,
    https://arxiv.org/abs/2405.15682. As in Keras, the model is judged at w. Keras 3.15 on PyTorch overwrites the old z
    before it takes x out of w, and so computes what beta_1: 1 says whatever beta_1 is; on JAX it computes this.
    """

    aliases = ("schedulefreeadamw",)
    interleaved: ClassVar[int] = 2

    learning_rate: Schedule = ConstantRate(learning_rate=0.0025)
    "Step size: a number or a schedule."
    beta_1: PositiveFraction = 0.9
    "Share of the mean x in the weights."
    beta_2: Fraction = 0.999
    "Decay of the running mean of squared gradients."
    epsilon: PositiveFloat = 1e-8
    "Added to the divisor, against division by zero."
    warmup_steps: NonNegativeInt = 0
    "Number of updates in which the rate rises from 0."

    def slots(self) -> tuple[str, ...]:
        return ("momentum", "velocity")

    def first(self, slot: str, weight: Tensor, path: str) -> Tensor:
        return weight.clone() if slot == "momentum" else torch.zeros_like(weight)

    def update(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        fast, square = slots["momentum"], slots["velocity"]
        if self.warmup_steps:
            rate *= min(step / self.warmup_steps, 1.0)
        mean = weight.sub_(fast, alpha=1 - self.beta_1).div_(self.beta_1)
        square.lerp_(gradient * gradient, rest(self.beta_2))
        size = square.div(1 - power(self.beta_2, step)).sqrt_().add_(self.epsilon)
        fast.addcdiv_(gradient, size, value=-rate)
        mean.lerp_(fast, 1 / step).mul_(self.beta_1).add_(fast, alpha=1 - self.beta_1)
