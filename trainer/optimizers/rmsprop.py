"""RMSprop. https://keras.io/api/optimizers/rmsprop/"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.native.text import number
from trainer.optimizers.base import Slots, StepNumbers, UpdateRule, by_rates
from trainer.optimizers.kernels import factor
from trainer.options import Bool, Fraction, NonNegativeFloat, PositiveFloat

if TYPE_CHECKING:
    import torch


class RMSprop(UpdateRule):
    """Steps divided by the root of a running mean of squared gradients: w -= rate g / sqrt(v + epsilon).

    Hinton, 2012, lecture 6e.
    """

    aliases = ("rmsprop", "RMSProp")

    rho: Fraction = 0.9
    "Decay of the running mean of squared gradients."
    momentum: NonNegativeFloat = 0.0
    "Share of the last step that goes into the next one."
    epsilon: PositiveFloat = 1e-7
    "Added under the root, against division by zero."
    centered: Bool = False
    "Whether the squared running mean of the gradient is taken off, which leaves its variance."

    def slots(self) -> tuple[str, ...]:
        return (
            "velocity",
            *(("momentum",) if self.momentum else ()),
            *(("average_gradient",) if self.centered else ()),
        )

    def update(self, weight: torch.Tensor, gradient: torch.Tensor, slots: Slots, rate: float, step: int) -> None:
        velocity = slots["velocity"]
        velocity.mul_(factor(self.rho, velocity)).addcmul_(gradient, gradient, value=1 - self.rho)
        size = velocity.add(factor(self.epsilon, velocity))
        if self.centered:
            mean = slots["average_gradient"]
            mean.mul_(self.rho).add_(gradient, alpha=1 - self.rho)
            size.addcmul_(mean, mean, value=-1)
        size.sqrt_()
        if self.momentum:
            weight.sub_(slots["momentum"].mul_(self.momentum).addcdiv_(gradient, size, value=rate))
        else:
            weight.addcdiv_(gradient, size, value=-rate)

    def in_c(self) -> tuple[str, StepNumbers]:
        rho, rest, epsilon = number(self.rho), number(1 - self.rho), number(self.epsilon)
        lines = [f"velocity = velocity * {rho} + {rest} * g * g; float size = velocity + {epsilon};"]
        if self.centered:
            lines += [f"average_gradient = average_gradient * {rho} + {rest} * g;"]
            lines += ["size = size - average_gradient * average_gradient;"]
        if self.momentum:
            lines += [f"momentum = momentum * {number(self.momentum)} + n0 * g / sqrtf(size); w -= momentum;"]
        else:
            lines += ["w -= n0 * g / sqrtf(size);"]
        return " ".join(lines), by_rates
