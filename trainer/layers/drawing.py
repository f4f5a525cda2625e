"""What layers share that draw random numbers in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.layers.base import Layer
from trainer.lazy import torch
from trainer.options import Int

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Seeded(Layer, abstract=True):
    """A layer whose draws may have a seed of their own."""

    seed: Int | None = None
    "Seed of this layer alone; by default it follows from the recipe's seed and the layer's name."


def beside(generator: Generator, x: Tensor) -> Generator:
    """The same stream on the device of `x`: a layer without weights is not told where it runs."""
    if generator.device == x.device:
        return generator
    return torch.Generator(x.device).manual_seed(generator.initial_seed())
