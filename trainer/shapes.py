"""Shape arithmetic on plain integers; no torch.

A Shape is a tuple of sizes; None is a size that is known only when data flow, and stands first for the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

Shape = tuple[int | None, ...]
Padding = Literal["valid", "same", "causal"]


def size(shape: Iterable[int | None]) -> int | None:
    """Number of elements, None when any size is unknown."""
    total = 1
    for n in shape:
        if n is None:
            return None
        total *= n
    return total


def window_length(n: int | None, window: int, stride: int, padding: str, dilation: int = 1) -> int | None:
    """Positions of a window of `window` taps along `n` entries (Keras's rule for convolution and pooling).

    Raises:
        ValueError: the window does not fit.
    """
    if n is None:
        return None
    if padding in ("same", "causal"):
        return math.ceil(n / stride)
    span = (window - 1) * dilation + 1
    if n < span:
        raise ValueError(f"a window of {span} does not fit into {n} entries; use padding: same or a smaller window")
    return (n - span) // stride + 1


def same_padding(n: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Zeros before and after, so that `same` gives ceil(n / stride) positions; the odd one stands at the end."""
    total = max((-(-n // stride) - 1) * stride + (window - 1) * dilation + 1 - n, 0)
    return total // 2, total - total // 2


def text(shape: Shape) -> str:
    """`(None, 28, 28, 1)` as Keras prints it."""
    return "(" + ", ".join("None" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"


def clash(a: Shape, b: Shape) -> bool:
    """Whether two shapes can't be one: another number of axes, or two known sizes that differ."""
    return len(a) != len(b) or any(x is not None and y is not None and x != y for x, y in zip(a, b, strict=True))
