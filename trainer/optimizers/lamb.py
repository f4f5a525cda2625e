"""LAMB. https://keras.io/api/optimizers/lamb/"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from trainer.lazy import torch
from trainer.optimizers.adam import Adaptive
from trainer.optimizers.base import Slots
from trainer.optimizers.powers import power

if TYPE_CHECKING:
    from torch import Tensor


class Lamb(Adaptive):
    """Adam whose step for each weight is made as long as the weight, times the rate: w -= rate |w| / |u| u.

    For large batches. u = m' / (sqrt(v') + epsilon), m' and v' corrected for their start at 0. You et al., 2019, https://arxiv.org/abs/1904.00962.
    """

    aliases = ("lamb",)
    flat: ClassVar[bool] = False

    def update(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        mean, square = slots["momentum"], slots["velocity"]
        mean.lerp_(gradient, 1 - self.beta_1)
        square.mul_(self.beta_2).addcmul_(gradient, gradient, value=1 - self.beta_2)
        size = square.div(1 - power(self.beta_2, step)).sqrt_().add_(self.epsilon)
        move = mean.div(1 - power(self.beta_1, step)).div_(size)
        length, moved = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(move)
        ratio = torch.where((length > 0) & (moved > 0), length / moved, 1.0)
        weight.sub_(move.mul_(ratio * rate))
