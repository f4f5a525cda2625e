"""The kind `schedule`: a learning rate as a function of the step."""

from __future__ import annotations

import re
from typing import Any

from trainer.declare import Declared
from trainer.options import PositiveFloat, complaint, number, raise_all, shown


class Schedule(Declared, kind="schedule", room="trainer.schedules", keras="keras.optimizers.schedules"):
    """A learning rate for each step; a bare number is a constant one."""

    def rate(self, step: int) -> float:
        """The learning rate for the update that follows `step` finished ones."""
        raise NotImplementedError

    @classmethod
    def short(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return value
        try:
            number(value)
        except (ValueError, ZeroDivisionError):
            if isinstance(value, str) and re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", value.lower()):
                hint = f"without quotes: {value}"
                raise_all([(complaint(f"expected a number or a schedule, found {shown(value)}", hint), ())])
            return value
        return {"ConstantRate": {"learning_rate": value}}


class ConstantRate(Schedule, keras=""):
    """The same learning rate at every step; written as a bare number."""

    learning_rate: PositiveFloat
    "The rate."

    def rate(self, step: int) -> float:
        return self.learning_rate

    def spec(self) -> Any:
        return self.learning_rate

    def to_keras(self) -> Any:
        return self.learning_rate
