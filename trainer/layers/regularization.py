"""Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainer.layers.base import Layer, Plan, Weights
from trainer.lazy import torch
from trainer.options import Fraction, Int, Rule, integer
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Generator, Tensor


def _noise_shape(value: Any) -> tuple[int | None, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    sizes = tuple(None if v is None else integer(v) for v in value)
    if any(n is not None and n < 1 for n in sizes):
        raise ValueError
    return sizes


_SIZE = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
NoiseShape = Annotated[
    tuple[int | None, ...],
    Rule("a list of integers of 1 or more, or null", _noise_shape, {"type": "array", "items": _SIZE}),
]


class Dropout(Layer):
    """In training, x m / (1 - rate), where m is 0 with probability `rate` and 1 otherwise; x when not training.

    Srivastava et al., 2014 (https://jmlr.org/papers/v15/srivastava14a.html);
    https://keras.io/api/layers/regularization_layers/dropout/

    Shape: (batch, ...) -> (batch, ...)
    """

    rate: Fraction
    "Share of the entries that are set to zero."
    noise_shape: NoiseShape | None = None
    "Shape of m, batch first: 1 where an axis shares its draws, null where it has the input's size."
    seed: Int | None = None
    "Seed of this layer alone; by default it follows from the recipe's seed and the layer's name."

    supports_masking = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        noise = shape if self.noise_shape is None else self.noise_shape
        fits = [a in (None, 1, b) or b is None for a, b in zip(noise, shape, strict=False)]
        if len(noise) != len(shape) or not all(fits):
            raise ValueError(
                f"noise_shape {text(noise)} does not fit input of shape {text(shape)}; "
                "give every axis, the batch included, the input's size, 1 or null"
            )
        return shape

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if not w.training or self.rate == 0:
            return x
        sizes = [b if a is None else a for a, b in zip(self.noise_shape or [None] * x.dim(), x.shape, strict=True)]
        # A uniform draw and a comparison in place take half the time of bernoulli_.
        draws = torch.rand(sizes, device=x.device, generator=_beside(w.generator(self.seed), x))
        kept = draws.ge_(self.rate).mul_(0.0 if self.rate == 1 else 1 / (1 - self.rate))
        return x * kept.to(x.dtype)


def _beside(generator: Generator, x: Tensor) -> Generator:
    """The same stream on the device of `x`: a layer without weights is not told where it runs."""
    if generator.device == x.device:
        return generator
    return torch.Generator(x.device).manual_seed(generator.initial_seed())
