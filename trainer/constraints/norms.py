"""Projections of a weight by sign or length.

Lengths are taken along `axis`; in a Dense kernel (inputs, units) axis 0 is one unit's incoming weights, in a Conv2D
kernel (rows, columns, inputs, filters) axes [0, 1, 2] are one filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.constraints.base import Constraint
from trainer.lazy import torch
from trainer.options import Axes, Fraction, NonNegativeFloat

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program

EPSILON = 1e-7
"Keras's `backend.epsilon()`: keeps a weight of zeros at zero."


class NonNeg(Constraint):
    """max(weight, 0)"""

    def project(self, weight: Tensor) -> Tensor:
        return torch.clamp(weight, min=0)

    def by_hand(self, p: Program, weight: Tensor) -> None:
        p.do(weight.clamp_, min=0)


class MaxNorm(Constraint):
    """Vectors longer than `max_value` are shortened to it."""

    max_value: NonNegativeFloat = 2.0
    "Greatest length."
    axis: Axes = 0
    "Axis or axes along which lengths are taken."

    def project(self, weight: Tensor) -> Tensor:
        length = lengths(weight, self.axis)
        return weight * (torch.clamp(length, 0, self.max_value) / (EPSILON + length))

    def by_hand(self, p: Program, weight: Tensor) -> None:
        length = _lengths_by_hand(p, weight, self.axis)
        _scale(p, weight, p.make(torch.clamp, length, 0, self.max_value), length)


class UnitNorm(Constraint):
    """Every vector gets length 1."""

    axis: Axes = 0
    "Axis or axes along which lengths are taken."

    def project(self, weight: Tensor) -> Tensor:
        return weight / (EPSILON + lengths(weight, self.axis))

    def by_hand(self, p: Program, weight: Tensor) -> None:
        length = _lengths_by_hand(p, weight, self.axis)
        p.do(length.add_, p.constant(EPSILON, length))
        p.do(weight.div_, length)


class MinMaxNorm(Constraint):
    """Vectors move by the share `rate` of the way to the nearest length between `min_value` and `max_value`."""

    min_value: NonNegativeFloat = 0.0
    "Least length."
    max_value: NonNegativeFloat = 1.0
    "Greatest length."
    rate: Fraction = 1.0
    "Share of the way that one step goes; 1 enforces the bounds at once."
    axis: Axes = 0
    "Axis or axes along which lengths are taken."

    def project(self, weight: Tensor) -> Tensor:
        length = lengths(weight, self.axis)
        wanted = self.rate * torch.clamp(length, self.min_value, self.max_value) + (1 - self.rate) * length
        return weight * (wanted / (EPSILON + length))

    def by_hand(self, p: Program, weight: Tensor) -> None:
        length = _lengths_by_hand(p, weight, self.axis)
        wanted = p.make(torch.clamp, length, self.min_value, self.max_value)
        p.do(wanted.mul_, p.constant(self.rate, length))
        p.do(wanted.add_, p.make(torch.mul, length, p.constant(1 - self.rate, length)))
        _scale(p, weight, wanted, length)


def lengths(weight: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """Euclidean lengths along the axes, which stay with size 1."""
    return weight.square().sum(axis, keepdim=True).sqrt()


def _lengths_by_hand(p: Program, weight: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """`lengths` as operations of a program."""
    made = p.make(torch.sum, p.make(torch.mul, weight, weight), axis, True)
    p.do(made.sqrt_)
    return made


def _scale(p: Program, weight: Tensor, wanted: Tensor, length: Tensor) -> None:
    """Bring vectors of some length to the one that is wanted; both are overwritten."""
    p.do(length.add_, p.constant(EPSILON, length))
    p.do(wanted.div_, length)
    p.do(weight.mul_, wanted)
