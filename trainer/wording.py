"""Figures and text of strangers as a person reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: object) -> str:
    """Text that may be shown on a terminal: control and direction-changing characters are made visible."""
    return _UNSEEN.sub(lambda m: f"\\x{ord(m[0]):02x}", str(text))


def number(value: float) -> str:
    """A figure with four decimals, or in powers of ten when it is small or huge."""
    return f"{value:.4f}" if value == 0 or 1e-3 < abs(value) < 1e8 else f"{value:.4e}"


def figures(logs: Mapping[str, float]) -> str:
    """`loss: 0.3021 - accuracy: 0.9114 - …`"""
    return " - ".join(f"{clean(name)}: {number(value)}" for name, value in logs.items())


def pace(seconds: float, steps: int) -> str:
    """`3s 6ms/step`, as Keras prints it."""
    each = seconds / max(steps, 1)
    unit = f"{each:.0f}s" if each >= 1 else f"{each * 1e3:.0f}ms" if each >= 1e-3 else f"{each * 1e6:.0f}us"
    return f"{seconds:.0f}s {unit}/step"


class EpochLine:
    """The line of an epoch; the learning rate is left out until it moves."""

    def __init__(self) -> None:
        self._first: float | None = None

    def shown(self, logs: Mapping[str, float]) -> dict[str, float]:
        """What of an epoch's values is shown."""
        if self._first is None:
            self._first = logs.get("learning_rate")
        if logs.get("learning_rate") != self._first:
            self._first = math.nan
        return {k: v for k, v in logs.items() if k != "learning_rate" or v != self._first}

    def __call__(self, number: int, epochs: int, steps: int, logs: Mapping[str, float], seconds: float) -> str:
        """`Epoch 3/20 - 1s 6ms/step - loss: …` for the epoch `number`, counted from 0."""
        return f"Epoch {number + 1}/{epochs} - {pace(seconds, steps)} - {figures(self.shown(logs))}"
