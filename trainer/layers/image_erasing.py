"""RandomErasing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainer.layers.arrays import constants
from trainer.layers.image_base import (
    SEED_BEFORE_FORMAT,
    AnyFormat,
    Drawn,
    RandomImageLayer,
    Ranged,
    Share,
    between,
    by_chance,
    each,
    uniform,
)
from trainer.layers.plan import Plan
from trainer.layers.spatial import split_axes
from trainer.lazy import torch
from trainer.options import Rule, number, number_schema
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Generator, Tensor


def _fill(value: Any) -> float | tuple[float, ...]:
    if not isinstance(value, (list, tuple)):
        return number(value)
    if len(value) != 3:
        raise ValueError
    return tuple(number(v) for v in value)


_COLOUR = {"type": "array", "items": number_schema(), "minItems": 3, "maxItems": 3}
Fill = Annotated[
    float | tuple[float, ...],
    Rule("a number, or a list of three for red, green and blue", _fill, {"anyOf": [number_schema(), _COLOUR]}),
]


class RandomErasing(Ranged, AnyFormat, RandomImageLayer):
    """In training, a rectangle of some pictures replaced by noise or a colour; unchanged otherwise.

    The sides are sqrt(a) width and sqrt(b) height with shares a and b drawn for each picture; the place is uniform.
    Zhong et al., 2020 (https://arxiv.org/abs/1708.04896);
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_erasing/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Share = 1.0
    "Chance that a picture is changed, drawn for each: from 0 to f (so 1 changes half), or between the two given."
    scale: Share = (0.02, 0.33)
    "Shares a and b: drawn from 0 to s, or between the two given."
    fill_value: Fill | None = None
    "What stands in the rectangle; null: normal noise times the highest value, cut to value_range."

    keras_order = SEED_BEFORE_FORMAT

    def build(self, plan: Plan, shape: Shape) -> Shape:
        _, channels = split_axes(shape, 2, self.data_format)
        if isinstance(self.fill_value, tuple) and channels not in (3, None):
            raise ValueError(f"fill_value has three numbers, but the pictures have {channels} channels")
        return super().build(plan, shape)

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        batch, height, width, _ = shape
        shares = uniform(generator, (batch, 2), between(self.scale, 0.0)).sqrt()
        columns = _stretch(generator, width, shares[:, 0]).view(batch, 1, width, 1)
        rows = _stretch(generator, height, shares[:, 1]).view(batch, height, 1, 1)
        drawn = {"apply_erasing": by_chance(generator, batch, self.factor), "batch_masks": rows & columns}
        return {**drawn, "fill_value": self._filling(generator, shape)}

    def _filling(self, generator: Generator, shape: tuple[int, ...]) -> Tensor:
        """What stands in rectangles; broadcasts to the pictures."""
        if self.fill_value is None:
            values = torch.randn(shape, generator=generator, device=generator.device) * self.value_range[1]
        else:
            values = constants(self.fill_value, generator.device).view(1, 1, 1, -1)
        return values.clamp(*self.value_range)

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        return torch.where(each(drawn["apply_erasing"]) & drawn["batch_masks"], drawn["fill_value"], x)


def _stretch(generator: Generator, length: int, shares: Tensor) -> Tensor:
    """(batch, length): which entries lie in a stretch of that share of the length, at a place drawn for each."""
    long = shares * length
    start = uniform(generator, (len(shares),), (0.0, 1.0)) * (length - long)
    at = torch.arange(length, device=generator.device)
    return (at >= start.unsqueeze(1)) & (at < (start + long).unsqueeze(1))
