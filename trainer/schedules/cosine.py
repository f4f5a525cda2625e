"""Learning rates along half a cosine (Loshchilov and Hutter, 2016, https://arxiv.org/abs/1608.03983).

https://keras.io/api/optimizers/learning_rate_schedules/
"""

from __future__ import annotations

import math
from typing import Self

from pydantic import model_validator

from trainer.errors import RecipeError
from trainer.lazy import np
from trainer.options import NonNegativeFloat, PositiveFloat, Str, complaint, raise_all
from trainer.schedules.base import Schedule
from trainer.schedules.decay import Steps


class CosineDecay(Schedule):
    """top * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha), after a straight rise if one is asked for.

    Without warm-up, top is `initial_learning_rate`. With it, the rate rises from there to `warmup_target` in
    `warmup_steps` steps, and the decay starts from that top.
    """

    initial_learning_rate: NonNegativeFloat
    "Rate of the first step."
    decay_steps: Steps
    "Number of steps that the fall takes."
    alpha: NonNegativeFloat = 0.0
    "Rate at the end, as a share of the top."
    name: Str = "CosineDecay"
    "Name in Keras configs."
    warmup_target: NonNegativeFloat | None = None
    "Rate at the end of the warm-up; null for no warm-up."
    warmup_steps: NonNegativeFloat = 0.0
    "Number of steps that the warm-up takes."

    @model_validator(mode="after")
    def _target_for_steps(self) -> Self:
        if self.warmup_steps and self.warmup_target is None:
            text = "warmup_steps needs warmup_target, the rate that the warm-up ends at"
            raise_all([(complaint(text, "warmup_target: 1e-3"), ("warmup_steps",))])
        return self

    def rate(self, step: int) -> float:
        top, falling = self.initial_learning_rate, float(step)
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return top + (self.warmup_target - top) * step / self.warmup_steps
            top, falling = self.warmup_target, step - self.warmup_steps
        share = min(falling / self.decay_steps, 1)
        return top * ((1 - self.alpha) * 0.5 * (1 + math.cos(math.pi * share)) + self.alpha)


class CosineDecayRestarts(Schedule):
    """Falls like CosineDecay, then starts again: each round `t_mul` times as long and `m_mul` times as high."""

    initial_learning_rate: NonNegativeFloat
    "Rate of the first step."
    first_decay_steps: Steps
    "Number of steps of the first round."
    t_mul: PositiveFloat = 2.0
    "Length of a round over that of the round before."
    m_mul: NonNegativeFloat = 1.0
    "Height of a round over that of the round before."
    alpha: NonNegativeFloat = 0.0
    "Least rate, as a share of `initial_learning_rate`."
    name: Str = "SGDRDecay"
    "Name in Keras configs."

    def rate(self, step: int) -> float:
        done, share = self.round(step)
        falling = 0.5 * self.m_mul**done * (1 + math.cos(math.pi * share))
        return self.initial_learning_rate * ((1 - self.alpha) * falling + self.alpha)

    def round(self, step: int) -> tuple[float, float]:
        """Finished rounds, and the share of the current one that is done.

        In float32 as Keras does it: a logarithm decides where a round ends, and another precision would move restarts
        by a step.

        Raises:
            RecipeError: rounds that get shorter have come to their end.
        """
        single = np.float32
        share, longer = single(step) / single(self.first_decay_steps), single(self.t_mul)
        if longer == 1:
            done = np.floor(share)
            return float(done), float(share - done)
        ends = single(1) - share * (single(1) - longer)
        if ends <= 0:
            most = self.first_decay_steps / (1 - self.t_mul)
            message = f"CosineDecayRestarts with t_mul {self.t_mul:g} has rates for {most:g} steps, found step {step}"
            raise RecipeError(message, hint="rounds get shorter and end; give t_mul: 1.0 or more", code="schedule")
        done = np.floor(single(math.log(ends)) / single(math.log(longer)))
        span = longer**done
        return float(done), float((share - (single(1) - span) / (single(1) - longer)) / span)
