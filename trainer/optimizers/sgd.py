"""SGD. https://keras.io/api/optimizers/sgd/"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.native.text import number
from trainer.optimizers.base import Slots, StepNumbers, UpdateRule
from trainer.optimizers.kernels import factor
from trainer.options import Bool, Fraction
from trainer.schedules.base import ConstantRate, Schedule

if TYPE_CHECKING:
    import numpy
    import torch


class SGD(UpdateRule):
    """Gradient descent: w -= rate g; with momentum v = momentum v - rate g, w += v."""

    aliases = ("sgd",)

    learning_rate: Schedule = ConstantRate(learning_rate=0.01)
    "Step size: a number or a schedule."
    momentum: Fraction = 0.0
    "Share of the last step that goes into the next one."
    nesterov: Bool = False
    "Whether the step looks ahead: w += momentum v - rate g."

    def slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def update(self, weight: torch.Tensor, gradient: torch.Tensor, slots: Slots, rate: float, step: int) -> None:
        if not self.momentum:
            weight.add_(gradient, alpha=-rate)
            return
        velocity = slots["momentum"]
        velocity.mul_(factor(self.momentum, velocity)).add_(gradient, alpha=-rate)
        if self.nesterov:
            weight.add_(gradient, alpha=-rate).add_(velocity, alpha=self.momentum)
        else:
            weight.add_(velocity)

    def in_c(self) -> tuple[str, StepNumbers]:
        if not self.momentum:
            return "w += n0 * g;", _downhill
        share = number(self.momentum)
        move = f"w = w + n0 * g + {share} * momentum;" if self.nesterov else "w += momentum;"
        return f"momentum = momentum * {share} + n0 * g; {move}", _downhill


def _downhill(rates: numpy.ndarray, first: int) -> tuple[numpy.ndarray]:
    return (-rates,)
