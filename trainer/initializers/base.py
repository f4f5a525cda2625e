"""The kind `initializer`, and the fans that variance scaling needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.declare import Declared
from trainer.options import Int

if TYPE_CHECKING:
    import numpy


class Initializer(Declared, kind="initializer", room="trainer.initializers", keras="keras.initializers"):
    """Gives a weight its first values."""

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        """An array of `shape` (Keras's axis order), drawn from `random`; float32 is made of it afterwards."""
        raise NotImplementedError

    @classmethod
    def short(cls, value: Any) -> Any:
        return value


class Random(Initializer, abstract=True):
    """An initializer that draws; `seed` fixes its stream independently of the recipe's seed."""

    seed: Int | None = None
    "Seed of this initializer alone; by default it follows from the recipe's seed, the layer and the weight."


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a kernel in Keras's axis order (window..., in, out)."""
    if len(shape) < 1:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    window = 1
    for n in shape[:-2]:
        window *= n
    return shape[-2] * window, shape[-1] * window
