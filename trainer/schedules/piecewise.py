"""Learning rates that are constant between given steps."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import model_validator

from trainer.options import Rule, Str, complaint, integer, number, number_schema, raise_all
from trainer.schedules.base import Schedule


def _boundaries(value: Any) -> tuple[int, ...]:
    steps = tuple(integer(v) for v in _listed(value))
    if any(a >= b for a, b in pairwise(steps)):
        raise ValueError
    return steps


def _rates(value: Any) -> tuple[float, ...]:
    rates = tuple(number(v) for v in _listed(value))
    if min(rates) < 0:
        raise ValueError
    return rates


def _listed(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError
    return value


_STEPS = {"type": "array", "minItems": 1, "items": {"type": "integer"}}
_RATES = {"type": "array", "minItems": 1, "items": number_schema(minimum=0)}


class PiecewiseConstantDecay(Schedule):
    """values[0] up to and including step boundaries[0], values[1] up to boundaries[1], …, values[-1] afterwards.

    https://keras.io/api/optimizers/learning_rate_schedules/piecewise_constant_decay/
    """

    boundaries: Annotated[tuple[int, ...], Rule("a rising list of steps", _boundaries, _STEPS)]
    "The last step of each value but the last one."
    values: Annotated[tuple[float, ...], Rule("a list of learning rates of 0 or more", _rates, _RATES)]
    "Learning rates, one more than there are boundaries."
    name: Str = "PiecewiseConstant"
    "Name in Keras configs."

    @model_validator(mode="after")
    def _one_value_more(self) -> Self:
        wanted, found = len(self.boundaries) + 1, len(self.values)
        if found != wanted:
            message = f"expected {wanted} values for {len(self.boundaries)} boundaries, found {found}"
            raise_all([(complaint(message, "the last value holds after the last boundary"), ("values",))])
        return self

    def rate(self, step: int) -> float:
        return self.values[bisect_left(self.boundaries, step)]
