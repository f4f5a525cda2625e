"""Adagrad and Adadelta. https://keras.io/api/optimizers/adagrad/ https://keras.io/api/optimizers/adadelta/"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from trainer.native.text import number
from trainer.optimizers.base import Slots, StepNumbers, UpdateRule, by_rates
from trainer.options import Fraction, NonNegativeFloat, PositiveFloat

if TYPE_CHECKING:
    import torch


class Adagrad(UpdateRule):
    """Steps divided by the root of the sum of all squared gradients: w -= rate g / sqrt(a + epsilon).

    Duchi et al., 2011.
    """

    aliases = ("adagrad",)

    initial_accumulator_value: NonNegativeFloat = 0.1
    "What the sum of squares starts with."
    epsilon: PositiveFloat = 1e-7
    "Added under the root, against division by zero."

    def slots(self) -> tuple[str, ...]:
        return ("accumulator",)

    def first(self, slot: str, weight: torch.Tensor, path: str) -> torch.Tensor:
        return weight.new_full(weight.shape, self.initial_accumulator_value)

    def update(self, weight: torch.Tensor, gradient: torch.Tensor, slots: Slots, rate: float, step: int) -> None:
        total = slots["accumulator"].addcmul_(gradient, gradient)
        weight.addcdiv_(gradient, total.add(self.epsilon).sqrt_(), value=-rate)

    def in_c(self) -> tuple[str, StepNumbers]:
        move = f"w -= n0 * g / sqrtf(accumulator + {number(self.epsilon)});"
        return f"accumulator += g * g; {move}", by_rates


class Adadelta(UpdateRule):
    """Steps in the units of the weights: rate g sqrt(d + epsilon) / sqrt(a + epsilon), d the mean of squared steps.

    Zeiler, 2012; the paper's own rate is 1.0.
    """

    aliases = ("adadelta",)
    interleaved: ClassVar[int] = 2

    rho: Fraction = 0.95
    "Decay of the running means of squared gradients and squared steps."
    epsilon: PositiveFloat = 1e-7
    "Added under the roots, against division by zero."

    def slots(self) -> tuple[str, ...]:
        return ("accumulated_grad", "accumulated_delta_var")

    def update(self, weight: torch.Tensor, gradient: torch.Tensor, slots: Slots, rate: float, step: int) -> None:
        squares, steps = slots["accumulated_grad"], slots["accumulated_delta_var"]
        squares.mul_(self.rho).addcmul_(gradient, gradient, value=1 - self.rho)
        move = steps.add(self.epsilon).sqrt_().mul_(gradient).div_(squares.add(self.epsilon).sqrt_())
        steps.mul_(self.rho).addcmul_(move, move, value=1 - self.rho)
        weight.add_(move, alpha=-rate)

    def in_c(self) -> tuple[str, StepNumbers]:
        rho, rest, epsilon = number(self.rho), number(1 - self.rho), number(self.epsilon)
        lines = [
            f"accumulated_grad = accumulated_grad * {rho} + {rest} * g * g;",
            f"float move = sqrtf(accumulated_delta_var + {epsilon}) * g / sqrtf(accumulated_grad + {epsilon});",
            f"accumulated_delta_var = accumulated_delta_var * {rho} + {rest} * move * move;",
            "w -= n0 * move;",
        ]
        return " ".join(lines), by_rates
