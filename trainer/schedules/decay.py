"""Learning rates that fall with the step.

Formulas and defaults are those of https://keras.io/api/optimizers/learning_rate_schedules/; `step` counts finished
updates from 0.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from trainer.options import Bool, NonNegativeFloat, PositiveFloat, Rule, Str, number, number_schema
from trainer.schedules.base import Schedule


def _steps(value: Any) -> int | float:
    if number(value) <= 0:
        raise ValueError
    return value if isinstance(value, int) else number(value)


# Keras's configs hold whole numbers for steps, so an integer stays one; it takes fractions of a step too.
Steps = Annotated[int | float, Rule("a number of steps above 0", _steps, number_schema(exclusiveMinimum=0))]


class ExponentialDecay(Schedule):
    """initial_learning_rate * decay_rate ^ (step / decay_steps)"""

    initial_learning_rate: NonNegativeFloat
    "Rate of the first step."
    decay_steps: Steps
    "Number of steps in which the rate is multiplied by `decay_rate` once."
    decay_rate: PositiveFloat
    "Factor of the rate after each `decay_steps` steps."
    staircase: Bool = False
    "Whether step / decay_steps is rounded down, so that the rate falls in steps."
    name: Str = "ExponentialDecay"
    "Name in Keras configs."

    def rate(self, step: int) -> float:
        share = step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate ** (math.floor(share) if self.staircase else share)


class InverseTimeDecay(Schedule):
    """initial_learning_rate / (1 + decay_rate * step / decay_steps)"""

    initial_learning_rate: NonNegativeFloat
    "Rate of the first step."
    decay_steps: Steps
    "Number of steps in which the divisor grows by `decay_rate`."
    decay_rate: NonNegativeFloat
    "Growth of the divisor in `decay_steps` steps."
    staircase: Bool = False
    "Whether step / decay_steps is rounded down, so that the rate falls in steps."
    name: Str = "InverseTimeDecay"
    "Name in Keras configs."

    def rate(self, step: int) -> float:
        share = step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * (math.floor(share) if self.staircase else share))


class PolynomialDecay(Schedule):
    """(initial - end) * (1 - step / decay_steps) ^ power + end, and `end` after `decay_steps`.

    With `cycle`, `decay_steps` is first multiplied until it is no less than the step, so the rate rises again.
    """

    initial_learning_rate: NonNegativeFloat
    "Rate of the first step."
    decay_steps: Steps
    "Number of steps down to `end_learning_rate`."
    end_learning_rate: NonNegativeFloat = 0.0001
    "Rate at the end."
    power: NonNegativeFloat = 1.0
    "Exponent; 1 is a straight line."
    cycle: Bool = False
    "Whether the rate rises again after `decay_steps`."
    name: Str = "PolynomialDecay"
    "Name in Keras configs."

    def rate(self, step: int) -> float:
        end = self.decay_steps * (max(1, math.ceil(step / self.decay_steps)) if self.cycle else 1)
        left = 1 - min(step, end) / end
        return (self.initial_learning_rate - self.end_learning_rate) * left**self.power + self.end_learning_rate
