"""What callbacks that watch a value share: finding it in the logs, and whether it is an improvement."""

from __future__ import annotations

import ctypes
from typing import Annotated, Literal

from trainer.callbacks.base import Logs
from trainer.errors import RecipeError, nearest
from trainer.options import Rule, integer

Mode = Literal["auto", "min", "max"]


def _loudness(value: object) -> int:
    if integer(value) not in (0, 1):
        raise ValueError
    return integer(value)


Verbose = Annotated[int, Rule("0 or 1", _loudness, {"enum": [0, 1]})]


def watched(logs: Logs, name: str) -> float | None:
    """The value of that name; None for a validation value in an epoch without validation (`validation_freq`).

    Raises:
        RecipeError: the logs have no such name.
    """
    if name in logs:
        return logs[name]
    if name.startswith("val_") and not any(n.startswith("val_") for n in logs):
        return None
    raise RecipeError(
        f'nothing produces "{name}"; the logs hold {", ".join(logs)}', hint=nearest(name, logs), code="monitor"
    )


def improved(sign: int, value: float, best: float | None, min_delta: float = 0.0) -> bool:
    """Whether `value` beats `best` by more than |min_delta|; anything beats None, and NaN beats nothing.

    Compared in float32, as Keras does it: two losses that differ by less are the same.
    """
    if best is None:
        return True
    bar, best = single(value - sign * abs(min_delta)), single(best)
    return bar > best if sign > 0 else bar < best


def single(value: float) -> float:
    """The nearest float32."""
    return ctypes.c_float(value).value
