"""Axes of the input that a layer's options name."""

from __future__ import annotations

from typing import Annotated

from trainer.options import Rule, read_axes
from trainer.shapes import Shape, text

_INTEGER = {"type": "integer"}
SCHEMA = {"anyOf": [_INTEGER, {"type": "array", "items": _INTEGER, "minItems": 1}]}
Axes = Annotated[int | tuple[int, ...], Rule("an integer or a list of integers", read_axes, SCHEMA)]


def place(axis: int, shape: Shape) -> int:
    """The axis counted from 0.

    Raises:
        ValueError: there is no such axis, or it is the batch.
    """
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"expected an axis of the input {text(shape)}, found {axis}")
    if axis % len(shape) == 0:
        raise ValueError("expected an axis of a sample, found the batch (axis 0)")
    return axis % len(shape)


def places(axis: int | tuple[int, ...], shape: Shape) -> list[int]:
    """The axes counted from 0, in order.

    Raises:
        ValueError: there is no such axis, it is the batch, or it comes twice.
    """
    given = axis if isinstance(axis, tuple) else (axis,)
    found = sorted(place(a, shape) for a in given)
    if len(set(found)) < len(found):
        raise ValueError(f"expected each axis once, found {list(given)} for input {text(shape)}")
    return found
