"""Initializers that draw nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.initializers.base import Initializer
from trainer.lazy import np
from trainer.options import Float
from trainer.shapes import text

if TYPE_CHECKING:
    import numpy


class Zeros(Initializer):
    """All zeros."""

    aliases = ("zero",)

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        return np.zeros(shape, "float32")


class Ones(Initializer):
    """All ones."""

    aliases = ("one",)

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        return np.ones(shape, "float32")


class Constant(Initializer):
    """One value everywhere."""

    value: Float = 0.0
    "The value."

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        return np.full(shape, self.value, "float32")


class Identity(Initializer):
    """`gain` on the diagonal of a matrix, zero elsewhere.

    Raises:
        ValueError: the weight has not two axes.
    """

    aliases = ("IdentityInitializer",)

    gain: Float = 1.0
    "Value on the diagonal."

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        if len(shape) != 2:
            raise ValueError(f"Identity makes a matrix, found a weight of shape {text(shape)}; try Orthogonal")
        return self.gain * np.eye(*shape, dtype="float32")
