"""Adam and its kin. https://keras.io/api/optimizers/adam/"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ClassVar

from trainer.lazy import np, torch
from trainer.native.text import number
from trainer.optimizers.base import SHARED, Slots, StepNumbers, UpdateRule
from trainer.optimizers.kernels import kernel
from trainer.optimizers.powers import adam_correction, adam_corrections, nesterov_momenta, power
from trainer.options import Bool, Fraction, NonNegativeFloat, PositiveFloat

if TYPE_CHECKING:
    import numpy
    from torch import Tensor


@functools.cache
def _far(device: torch.device) -> Tensor:
    """A step so far on that the kernel's own bias correction, which is not Keras's, comes to nothing."""
    return torch.full((), 1e30, dtype=torch.float32, device=device)


class Adaptive(UpdateRule, abstract=True):
    """An optimizer with running means of the gradient and of its size."""

    interleaved: ClassVar[int] = 2

    beta_1: Fraction = 0.9
    "Decay of the running mean of the gradient."
    beta_2: Fraction = 0.999
    "Decay of the running mean of its square (of its largest size, in Adamax)."
    epsilon: PositiveFloat = 1e-7
    "Added to the divisor, against division by zero."

    def slots(self) -> tuple[str, ...]:
        return ("momentum", "velocity")


class AdamRule(Adaptive, abstract=True):
    """w -= rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)."""

    one_pass: ClassVar[bool] = True

    amsgrad: Bool = False
    "Whether v is replaced by the largest v so far. Reddi et al., 2018."

    def slots(self) -> tuple[str, ...]:
        return ("momentum", "velocity", "velocity_hat") if self.amsgrad else ("momentum", "velocity")

    def update(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        alpha = rate * adam_correction(self.beta_1, self.beta_2, step)
        if self.beta_1 == 1 or self.beta_2 == 1:
            self._plainly(weight, gradient, slots, alpha)
            return
        # Keras's epsilon stands beside the uncorrected root; with the correction in the rate the kernel does the same.
        kernel("_fused_adam_")(
            [weight],
            [gradient],
            [slots["momentum"]],
            [slots["velocity"]],
            [slots["velocity_hat"]] if self.amsgrad else [],
            [_far(weight.device)],
            lr=alpha,
            beta1=self.beta_1,
            beta2=self.beta_2,
            weight_decay=0.0,
            eps=self.epsilon,
            amsgrad=self.amsgrad,
            maximize=False,
        )

    def in_c(self) -> tuple[str, StepNumbers]:
        first, second = number(1 - self.beta_1), number(1 - self.beta_2)
        lines = [f"momentum += {first} * (g - momentum);"]
        lines += [f"velocity = velocity * {number(self.beta_2)} + {second} * g * g;"]
        if self.amsgrad:
            lines += ["velocity_hat = velocity > velocity_hat ? velocity : velocity_hat;"]
        root = "velocity_hat" if self.amsgrad else "velocity"
        lines += [f"w -= n0 * momentum / (sqrtf({root}) + {number(self.epsilon)});"]
        return " ".join(lines), self._sizes

    def _sizes(self, rates: numpy.ndarray, first: int) -> tuple[numpy.ndarray]:
        return (rates * adam_corrections(self.beta_1, self.beta_2, first, len(rates)),)

    def _plainly(self, weight: Tensor, gradient: Tensor, slots: Slots, alpha: float) -> None:
        mean, square = slots["momentum"], slots["velocity"]
        mean.mul_(self.beta_1).add_(gradient, alpha=1 - self.beta_1)
        square.mul_(self.beta_2).addcmul_(gradient, gradient, value=1 - self.beta_2)
        if self.amsgrad:
            square = torch.maximum(slots["velocity_hat"], square, out=slots["velocity_hat"])
        weight.sub_(mean.mul(alpha).div_(square.sqrt().add_(self.epsilon)))


class Adam(AdamRule):
    """Running mean of the gradient divided by the root of that of its square, both corrected for their start at 0.

    w -= rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon). Kingma and Ba, 2014.
    """

    aliases = ("adam",)


class AdamW(AdamRule):
    """Adam with weight decay apart from the gradient. Loshchilov and Hutter, 2019."""

    aliases = ("adamw",)
    keras_order = f"learning_rate weight_decay ... {SHARED}"

    weight_decay: NonNegativeFloat = 0.004  # pyright: ignore[reportIncompatibleVariableOverride]
    "Share of each weight, times the learning rate, that is taken off it before the update."


class Adamax(Adaptive):
    """Adam with the largest size of the gradient in place of the root of its mean square. Kingma and Ba, 2014."""

    aliases = ("adamax",)

    def slots(self) -> tuple[str, ...]:
        return ("momentum", "norm")

    def update(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        mean, largest = slots["momentum"], slots["norm"]
        mean.mul_(self.beta_1).add_(gradient, alpha=1 - self.beta_1)
        torch.maximum(largest.mul_(self.beta_2), gradient.abs(), out=largest)
        divisor = largest.add(self.epsilon).mul_(1 - power(self.beta_1, step))
        weight.addcdiv_(mean, divisor, value=-rate)

    def in_c(self) -> tuple[str, StepNumbers]:
        lines = [
            f"momentum = momentum * {number(self.beta_1)} + {number(1 - self.beta_1)} * g;",
            f"norm *= {number(self.beta_2)}; norm = norm > fabsf(g) || norm != norm ? norm : fabsf(g);",
            f"w -= n0 * momentum / ((norm + {number(self.epsilon)}) * n1);",
        ]
        return " ".join(lines), self._numbers

    def _numbers(self, rates: numpy.ndarray, first: int) -> tuple[numpy.ndarray, ...]:
        return rates, np.array([1 - power(self.beta_1, step) for step in range(first, first + len(rates))])


class Nadam(Adaptive):
    """Adam with Nesterov momentum. Dozat, 2015."""

    aliases = ("nadam",)

    def update(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        mean, square = slots["momentum"], slots["velocity"]
        mean.mul_(self.beta_1).add_(gradient, alpha=1 - self.beta_1)
        square.mul_(self.beta_2).addcmul_(gradient, gradient, value=1 - self.beta_2)
        now, coming, product = nesterov_momenta(self.beta_1, step)
        ahead = mean.mul(coming / (1 - product * coming)).add_(gradient, alpha=(1 - now) / (1 - product))
        divisor = square.div(1 - power(self.beta_2, step)).sqrt_().add_(self.epsilon)
        weight.addcdiv_(ahead, divisor, value=-rate)

    def in_c(self) -> tuple[str, StepNumbers]:
        lines = [
            f"momentum = momentum * {number(self.beta_1)} + {number(1 - self.beta_1)} * g;",
            f"velocity = velocity * {number(self.beta_2)} + {number(1 - self.beta_2)} * g * g;",
            f"w -= n0 * (momentum * n1 + g * n2) / (sqrtf(velocity / n3) + {number(self.epsilon)});",
        ]
        return " ".join(lines), self._numbers

    def _numbers(self, rates: numpy.ndarray, first: int) -> tuple[numpy.ndarray, ...]:
        steps = range(first, first + len(rates))
        shares = [
            (coming / (1 - product * coming), (1 - now) / (1 - product), 1 - power(self.beta_2, step))
            for step in steps
            for now, coming, product in (nesterov_momenta(self.beta_1, step),)
        ]
        return rates, *np.array(shares).T
