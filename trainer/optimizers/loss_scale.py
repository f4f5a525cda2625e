"""Loss scaling. https://keras.io/api/optimizers/loss_scale_optimizer/"""

from __future__ import annotations

from trainer.optimizers.base import Optimizer, UpdateRule
from trainer.options import PositiveFloat, PositiveInt
from trainer.schedules.base import Schedule


class LossScaleOptimizer(Optimizer):
    """Multiplies the loss before gradients are computed, so that small ones are not lost in float16.

    The scale is halved when a gradient is not finite, and that step left out; it doubles after `dynamic_growth_steps`
    steps in a row that were finite. Micikevicius et al., 2018, https://arxiv.org/abs/1710.03740.
    """

    aliases = ("lossscaleoptimizer",)

    inner_optimizer: UpdateRule
    "The optimizer that moves the weights; its `loss_scale_factor` does not count."
    initial_scale: PositiveFloat = 32768.0
    "The first scale."
    dynamic_growth_steps: PositiveInt = 2000
    "Number of finite steps after which the scale doubles."

    @property
    def learning_rate(self) -> Schedule:
        """The inner optimizer's."""
        return self.inner_optimizer.learning_rate


class DynamicScale:
    """The scale of a training, and the number of finite steps since it changed."""

    def __init__(self, options: LossScaleOptimizer):
        self.options = options
        self.scale, self.steps = options.initial_scale, 0

    def note(self, finite: bool) -> None:
        """Follow a step."""
        if not finite:
            self.scale, self.steps = self.scale * 0.5, 0
        elif self.steps == self.options.dynamic_growth_steps - 1:
            self.scale, self.steps = self.scale * 2.0, 0
        else:
            self.steps += 1
