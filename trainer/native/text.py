"""The text of C: numbers, their types, and statements for every position of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.lazy import np, torch

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {"float32": "float", "int64": "whole", "bfloat16": "half", "int32": "unsigned", "bool": "flag"}
"Number types to those of C."


class NotInC(Exception):
    """An operation has no form in C; the message names it."""


def kind_of(tensor: Tensor) -> str:
    """What C calls the numbers of a tensor.

    Raises:
        NotInC: numbers of that type are not for C.
    """
    found = KINDS.get(str(tensor.dtype).removeprefix("torch."))
    if found is None or tensor.device.type != "cpu":
        raise NotInC(f"numbers of type {tensor.dtype} on {tensor.device}")
    return found


def is_half(tensor: Any) -> bool:
    """Whether it is a tensor in bfloat16."""
    return isinstance(tensor, torch.Tensor) and tensor.dtype == torch.bfloat16


def words(expression: str) -> str:
    """An expression with its names apart."""
    return "".join(c if c.isalnum() or c in "_." else " " for c in expression)


def number(value: Any) -> str:
    """A number as C writes it in float32, to the last bit.

    Raises:
        NotInC: it is no finite number.
    """
    if not isinstance(value, (int, float)) or not np.isfinite(value):
        raise NotInC(f"the number {value}")
    return f"{float(np.float32(value)).hex()}f"


def offset(strides: Sequence[int]) -> str:
    """Where a number lies, from the positions i0, i1, … along the axes."""
    terms = [f"i{axis} * {step}" if step != 1 else f"i{axis}" for axis, step in enumerate(strides) if step]
    return " + ".join(terms) or "0"


def looped(sizes: Sequence[int], body: str, cut: int | None = 0) -> str:
    """A statement for every position i0, i1, …

    Axis `cut` is what threads share; where there is none, one thread does it all.
    """
    for axis in reversed(range(len(sizes))):
        first, end = (f"FROM({sizes[axis]})", f"TO({sizes[axis]})") if axis == cut else (0, sizes[axis])
        body = f"for (long i{axis} = {first}; i{axis} < {end}; i{axis}++) {{ {body} }}"
    return f"{{ {body} }}" if sizes and cut is not None else f"ALONE {{ {body} }}"


def collapsed(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """As few axes as do: those that all tensors have in a row are one."""
    sizes: list[int] = []
    kept: list[list[int]] = [[] for _ in strides]
    for axis, length in enumerate(shape):
        steps = [s[axis] for s in strides]
        if length == 1:
            continue
        if sizes and all(own[-1] == step * length for own, step in zip(kept, steps, strict=True)):
            sizes[-1] *= length
            for own, step in zip(kept, steps, strict=True):
                own[-1] = step
            continue
        sizes.append(length)
        for own, step in zip(kept, steps, strict=True):
            own.append(step)
    return sizes, kept
