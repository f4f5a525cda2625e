"""A nested state of plain values and arrays as one JSON text and numbered arrays, and back."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

ARRAY = "$array"
FLOAT = "$float"


def pack(state: Any) -> tuple[str, dict[str, np.ndarray]]:
    """(JSON text, arrays by number); not-a-number and infinities keep their value."""
    arrays: dict[str, np.ndarray] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            arrays[str(len(arrays))] = value
            return {ARRAY: str(len(arrays) - 1)}
        if isinstance(value, np.generic):
            return plain(value.item())
        if isinstance(value, float) and value - value != 0:
            return {FLOAT: repr(value)}
        if isinstance(value, dict):
            if set(value) in ({ARRAY}, {FLOAT}):
                raise TypeError(f"a mapping whose only key is {next(iter(value))} can't be kept in a checkpoint")
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            # A history is thousands of numbers, and written often.
            return value if _all_finite(value) else [plain(v) for v in value]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"{type(value).__name__} can't be kept in a checkpoint")

    return json.dumps(plain(state), allow_nan=False), arrays


def _all_finite(values: list[Any] | tuple[Any, ...]) -> bool:
    """Whether these are whole numbers alone, or fractions alone whose sum is finite, as all of them then are."""
    kinds = set(map(type, values))
    return kinds <= {int} or (kinds == {float} and math.isfinite(sum(values)))


def unpack(text: str, arrays: dict[str, np.ndarray]) -> Any:
    """The state that `pack` was given (tuples as lists, numpy scalars as plain numbers)."""

    def restore(value: Any) -> Any:
        if isinstance(value, list):
            return [restore(v) for v in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        if set(value) == {FLOAT}:
            return float(value[FLOAT])
        return {k: restore(v) for k, v in value.items()}

    return restore(json.loads(text))
