"""Random layers that turn, move, zoom and shear pictures: each pixel is read where a matrix says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from trainer.layers.image_base import (
    AnyFormat,
    Drawn,
    Factor,
    RandomImageLayer,
    Share,
    Signed,
    between,
    factor,
    uniform,
)
from trainer.layers.image_sampling import FillMode, Interpolation, affine
from trainer.lazy import torch
from trainer.options import Float

if TYPE_CHECKING:
    from torch import Generator, Tensor

Zoom = Annotated[Factor, factor(-1, 1, above=True)]


class Warp(AnyFormat, RandomImageLayer, abstract=True):
    """Reads the pixel at (x, y) of the output at (a0 x + a1 y + a2, b0 x + b1 y + b2) of the input."""

    fill_mode: FillMode = "reflect"
    "What stands outside of the picture: it again, reflected or wrapped around, its nearest pixel, or fill_value."
    interpolation: Interpolation = "bilinear"
    "Whether a value between pixels is weighed from the four around it, or taken from the nearest."
    fill_value: Float = 0.0
    "What stands outside of the picture when fill_mode is constant."

    keras_order = "... fill_mode interpolation seed fill_value data_format"

    def rows(self, drawn: Drawn, height: int, width: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(a0, a1, a2) and (b0, b1, b2), a value a picture each."""
        raise NotImplementedError

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        how = (self.interpolation, self.fill_mode, self.fill_value)
        return affine(x, self.rows(drawn, x.shape[1], x.shape[2]), how)


class RandomRotation(Warp):
    """In training, each picture turned about its centre by an angle of its own; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_rotation/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Signed
    "Angle as a share of a full turn, counter-clockwise: drawn from -f to f, or between the two given."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        low, high = between(self.factor)
        return {"angle": uniform(generator, (shape[0],), (360 * low, 360 * high))}

    def rows(self, drawn: Drawn, height: int, width: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        angle = drawn["angle"] * (math.pi / 180)
        x, y = 0.5 * (width - 1), 0.5 * (height - 1)
        cos, sin = angle.cos(), angle.sin()
        return (cos, -sin, x - x * cos + y * sin), (sin, cos, y - x * sin - y * cos)


class RandomTranslation(Warp):
    """In training, each picture moved up or down and left or right; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_translation/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    height_factor: Signed
    "Way down as a share of the height (negative: up): drawn from -f to f, or between the two given."
    width_factor: Signed
    "Way to the right as a share of the width (negative: left): drawn from -f to f, or between the two given."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        batch, height, width, _ = shape
        down = uniform(generator, (batch, 1), between(self.height_factor)) * height
        right = uniform(generator, (batch, 1), between(self.width_factor)) * width
        return {"translations": torch.cat([right, down], 1)}

    def rows(self, drawn: Drawn, height: int, width: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        right, down = drawn["translations"].unbind(1)
        one, zero = torch.ones_like(right), torch.zeros_like(right)
        return (one, zero, -right), (zero, one, -down)


class RandomZoom(Warp):
    """In training, each picture zoomed in or out about its centre; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_zoom/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    height_factor: Zoom
    "How much more of the height is seen (negative: less): drawn from -f to f, or between the two given."
    width_factor: Zoom | None = None
    "The same for the width; null: as much as the height, so that shapes keep their proportions."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        low, high = between(self.height_factor)
        tall = uniform(generator, (shape[0], 1), (1 + low, 1 + high))
        if self.width_factor is None:
            return {"height_zoom": tall, "width_zoom": tall}
        low, high = between(self.width_factor)
        return {"height_zoom": tall, "width_zoom": uniform(generator, (shape[0], 1), (1 + low, 1 + high))}

    def rows(self, drawn: Drawn, height: int, width: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        tall, wide = drawn["height_zoom"].squeeze(1), drawn["width_zoom"].squeeze(1)
        zero = torch.zeros_like(tall)
        return (wide, zero, (width - 1) / 2 * (1 - wide)), (zero, tall, (height - 1) / 2 * (1 - tall))


class RandomShear(Warp):
    """In training, each picture slanted from its upper left corner; unchanged otherwise.

    The pixel at (x, y) is read at (x + sx y, sy x + y).
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_shear/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    x_factor: Share = 0.0
    "Slant sx: drawn from -f to f, or between the two given and then, at half of the pictures, negative with sy."
    y_factor: Share = 0.0
    "Slant sy: drawn from -f to f, or between the two given and then, at half of the pictures, negative with sx."

    keras_order = "... interpolation fill_mode fill_value data_format seed"

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        negative = torch.where(uniform(generator, (shape[0], 1), (0.0, 1.0)) > 0.5, -1.0, 1.0)
        slants = [uniform(generator, (shape[0], 1), between(f)) for f in (self.x_factor, self.y_factor)]
        return {"shear_factor": torch.cat(slants, 1) * negative}

    def rows(self, drawn: Drawn, height: int, width: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        across, down = drawn["shear_factor"].unbind(1)
        one, zero = torch.ones_like(across), torch.zeros_like(across)
        return (one, across, zero), (down, one, zero)
