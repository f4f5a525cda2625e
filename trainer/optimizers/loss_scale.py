"""Loss scaling. https://keras.io/api/optimizers/loss_scale_optimizer/"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import field_validator

from trainer.lazy import np, torch
from trainer.optimizers.base import Optimizer
from trainer.options import PositiveFloat, PositiveInt, complaint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy


class LossScaleOptimizer(Optimizer):
    """Multiplies the loss before gradients are computed, so that small ones are not lost in float16.

    The scale is halved when a gradient is not finite, and that step left out; it doubles after `dynamic_growth_steps`
    steps in a row that were finite. Micikevicius et al., 2018, https://arxiv.org/abs/1710.03740.
    """

    aliases = ("lossscaleoptimizer",)

    inner_optimizer: Optimizer
    "The optimizer that moves the weights; its `loss_scale_factor` does not count."
    initial_scale: PositiveFloat = 32768.0
    "The first scale."
    dynamic_growth_steps: PositiveInt = 2000
    "Number of finite steps after which the scale doubles."

    @field_validator("inner_optimizer")
    @classmethod
    def _scales_once(cls, given: Optimizer) -> Optimizer:
        if isinstance(given, LossScaleOptimizer):
            raise complaint("LossScaleOptimizer can't have another one inside", "write the optimizer that is in there")
        return given


class DynamicScale:
    """The scale of a training, and the number of finite steps since it changed."""

    def __init__(self, options: LossScaleOptimizer):
        self.options = options
        self.scale, self.steps = options.initial_scale, 0

    def note(self, finite: bool) -> None:
        """Follow a step whose gradients were finite, or were not and moved nothing."""
        if not finite:
            self.scale, self.steps = self.scale * 0.5, 0
        elif self.steps == self.options.dynamic_growth_steps - 1:
            self.scale, self.steps = self.scale * 2.0, 0
        else:
            self.steps += 1

    def numbers(self) -> dict[str, numpy.ndarray]:
        """What going on needs, in Keras's order."""
        return {
            "step_counter": np.array(self.steps, dtype="int64"),
            "dynamic_scale": np.array(self.scale, dtype="float64"),
        }

    def load(self, saved: Mapping[str, numpy.ndarray]) -> None:
        """Go on from `numbers`."""
        self.scale, self.steps = float(saved["dynamic_scale"]), int(saved["step_counter"])


def finite(gradients: Sequence[torch.Tensor | None]) -> bool:
    """Whether every number of every gradient is finite."""
    return bool(torch.stack([g.isfinite().all() for g in gradients if g is not None]).all())
