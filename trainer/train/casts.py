"""Layers that say a number type, as operations of a program: between casts, on weights in what they compute in.

The casts are those of `trainer.model.number_types`, and so are the roundings: on the way there and on the way back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainer.model.cell import Cell
from trainer.model.number_types import Typed, hands_words
from trainer.program import Program, Pull


class _Nested(Exception):
    """A layer hands its weights to layers of its own."""


def between_casts(
    p: Program, typed: Typed, cell: Any, x: Any, after: Cell | None = None, mask: Any = None
) -> tuple[Tensor, Pull] | None:
    """The layer's own operations, with those of the layer `after` it where that is given.

    `mask` is one that the layer hears, or that of what lies between the two. None where it has none or must be left to
    autograd.
    """
    layer = typed.layer
    if after is not None and hands_words(layer, after, typed.dtype):
        found = layer.by_hand_with(p, cell, x, after.layer, after, mask)
        return None if found is None else _cast(p, typed, *found)
    if layer.types_its_output or (after is not None and (mask is not None or not layer.casts_inside)):
        return None
    xs = x if isinstance(x, list) else [x]
    inner = layer.computes_in(cell, typed.dtype)
    weights: Any = _InType(p, cell, inner)
    try:
        given = xs
        if not layer.reads_integers:
            given = [p.cast(t, typed.dtype) for t in xs]
            given = given if layer.casts_inside else [p.cast(t, inner) for t in given]
        own = given if isinstance(x, list) else given[0]
        part = p.within(weights.gradients, compiles=layer.compiles_typed)
        if after is not None:
            found = layer.by_hand_with(part, weights, own, after.layer, after, None)
        elif mask is not None:
            found = layer.by_hand_masked(part, weights, own, mask)
        else:
            found = layer.by_hand(part, weights, own)
    except _Nested:
        return None
    if found is None:
        return None
    out, pull = found

    def back(slope: Tensor, wanted: Any) -> Any:
        slopes = pull(p.cast(slope, out.dtype), wanted)
        weights.hand_over()
        made = [
            None if s is None else p.cast(p.cast(s, typed.dtype), t.dtype)
            for s, t in zip(slopes if isinstance(x, list) else [slopes], xs, strict=True)
        ]
        return made if isinstance(x, list) else made[0]

    return p.cast(out, typed.dtype), back


def _cast(p: Program, typed: Typed, out: Tensor, pull: Pull) -> tuple[Tensor, Pull]:
    """What layers that were handed words make, in the number type."""
    return p.cast(out, typed.dtype), lambda slope, wanted: pull(p.cast(slope, out.dtype), wanted)


class _InType:
    """The weights of a cell in a number type, each brought up to date in every run, and their gradients."""

    def __init__(self, p: Program, cell: Any, dtype: torch.dtype):
        self._program, self._cell, self._dtype = p, cell, dtype
        self.gradients: dict[int, Tensor] = {}
        self._pairs: list[tuple[Tensor, Tensor]] = []
        "(a weight that training moves, the same in the number type)"

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cell, name)
        if isinstance(value, nn.Module):
            raise _Nested
        if isinstance(value, nn.Parameter) and value.dtype != self._dtype:
            own = self._program.cast(value.detach(), self._dtype)
            if id(value) in self._program.gradients:
                self.gradients[id(own)] = torch.empty_like(own)
                self._pairs.append((value, own))
            value = self.__dict__[name] = own
        return value

    def hand_over(self) -> None:
        """Add what was written to the gradients of the weights as they are kept."""
        for weight, own in self._pairs:
            if self._program.wrote(own):
                take = self._program.receiver(weight)
                assert take is not None
                self._program.do(take, self.gradients[id(own)])
