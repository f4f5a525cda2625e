"""Projections of a weight by sign or length.

Lengths are taken along `axis`; in a Dense kernel (inputs, units) axis 0 is one unit's incoming weights, in a Conv2D
kernel (rows, columns, inputs, filters) axes [0, 1, 2] are one filter.
"""

from __future__ import annotations

from trainer.constraints.base import Constraint
from trainer.lazy import torch
from trainer.options import Axes, Fraction, NonNegativeFloat

EPSILON = 1e-7
"Keras's `backend.epsilon()`: keeps a weight of zeros at zero."


class NonNeg(Constraint):
    """max(weight, 0)"""

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return torch.clamp(weight, min=0)


class MaxNorm(Constraint):
    """Vectors longer than `max_value` are shortened to it."""

    max_value: NonNegativeFloat = 2.0
    "Greatest length."
    axis: Axes = 0
    "Axis or axes along which lengths are taken."

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        length = lengths(weight, self.axis)
        return weight * (torch.clamp(length, 0, self.max_value) / (EPSILON + length))


class UnitNorm(Constraint):
    """Every vector gets length 1."""

    axis: Axes = 0
    "Axis or axes along which lengths are taken."

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / (EPSILON + lengths(weight, self.axis))


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

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        length = lengths(weight, self.axis)
        wanted = self.rate * torch.clamp(length, self.min_value, self.max_value) + (1 - self.rate) * length
        return weight * (wanted / (EPSILON + length))


def lengths(weight: torch.Tensor, axis: int | tuple[int, ...]) -> torch.Tensor:
    """Euclidean lengths along the axes, which stay with size 1."""
    return weight.square().sum(axis, keepdim=True).sqrt()
