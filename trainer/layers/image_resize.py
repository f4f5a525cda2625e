"""Layers that change the size of pictures: Resizing, CenterCrop and RandomCrop; and RandomFlip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainer.layers.base import Weights
from trainer.layers.image_base import SEED_BEFORE_FORMAT, AnyFormat, Drawn, RandomImageLayer, uniform
from trainer.layers.plan import Plan
from trainer.lazy import F, torch
from trainer.options import Bool, Float, PositiveInt
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Generator, Tensor

MODES = {"bilinear": "bilinear", "nearest": "nearest-exact", "bicubic": "bicubic"}
"What torch calls Keras's interpolations."


class Sized(AnyFormat, abstract=True):
    """Makes pictures of a size."""

    height: PositiveInt
    "Height of the output in pixels."
    width: PositiveInt
    "Width of the output in pixels."

    def sized(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        return self.height, self.width


class Resizing(Sized):
    """Pictures scaled to another size. Integers stay integers, rounded.

    https://keras.io/api/layers/preprocessing_layers/image_preprocessing/resizing/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, channels)
    """

    interpolation: Literal["bilinear", "nearest", "bicubic"] = "bilinear"
    "How values between pixels are found."
    crop_to_aspect_ratio: Bool = False
    "Whether the longer side is cut first, about the middle, so that shapes keep their proportions."
    pad_to_aspect_ratio: Bool = False
    "Whether the shorter side is filled up first, at both ends, so that shapes keep their proportions."
    fill_mode: Literal["constant"] = "constant"
    "What it is filled with: fill_value."
    fill_value: Float = 0.0
    "What stands in the filled margins."
    antialias: Bool = False
    "Whether a smaller picture is averaged over the larger one; nearest has no such form."

    preprocessing = True
    keeps_integers = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio:
            raise ValueError("crop_to_aspect_ratio and pad_to_aspect_ratio can't both be true")
        return super().build(plan, shape)

    def change(self, w: Weights, x: Tensor) -> Tensor:
        values = x if x.is_floating_point() else x.float()
        if self.crop_to_aspect_ratio:
            values = cut_to_proportions(values, self.height, self.width)
        elif self.pad_to_aspect_ratio:
            values = self._filled(values)
        made = resized(values, self.height, self.width, self.interpolation, self.antialias)
        if self.interpolation == "bicubic" and x.dtype == torch.uint8:
            made = made.clamp(0, 255)
        return made if x.is_floating_point() else made.round().to(x.dtype)

    def _filled(self, x: Tensor) -> Tensor:
        """With equal margins at both ends of the shorter side; where they don't come out even, a pixel is left out."""
        height, width = x.shape[1:3]
        above = (max(height, int(width * self.height / self.width)) - height) // 2
        aside = (max(width, int(height * self.width / self.height)) - width) // 2
        return F.pad(x, (0, 0, aside, aside, above, above), value=self.fill_value)


def cut_to_proportions(x: Tensor, height: int, width: int) -> Tensor:
    """The largest window in the middle of the pictures that has the proportions of `height` to `width`."""
    tall, wide = x.shape[1:3]
    top, left, rows, columns = window(tall, wide, height, width)
    return x[:, top : top + rows, left : left + columns]


def window(tall: int, wide: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest window in the middle with the proportions of `height` to `width`."""
    rows = max(min(tall, int(wide * height / width)), 1)
    columns = max(min(wide, int(tall * width / height)), 1)
    return (tall - rows) // 2, (wide - columns) // 2, rows, columns


def resized(x: Tensor, height: int, width: int, interpolation: str = "bilinear", antialias: bool = False) -> Tensor:
    """Pictures (batch, height, width, channels) scaled to a size."""
    smooth = interpolation != "nearest"
    averaged = antialias and smooth
    # torch 2.13 gives every row the first one's values when it averages down to a width of 1; turned, it does not.
    turned = averaged and width == 1
    made = F.interpolate(
        x.permute(0, 3, 2, 1) if turned else x.permute(0, 3, 1, 2),
        (width, height) if turned else (height, width),
        mode=MODES[interpolation],
        align_corners=False if smooth else None,
        antialias=averaged,
    )
    return made.permute(0, 3, 2, 1) if turned else made.permute(0, 2, 3, 1)


class CenterCrop(Sized):
    """The middle of pictures; those that are too small are scaled up, then cut to the size.

    https://keras.io/api/layers/preprocessing_layers/image_preprocessing/center_crop/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, channels)
    """

    preprocessing = True

    def change(self, w: Weights, x: Tensor) -> Tensor:
        more, wider = x.shape[1] - self.height, x.shape[2] - self.width
        if more < 0 or wider < 0:
            return resized(cut_to_proportions(x, self.height, self.width), self.height, self.width)
        top, left = more // 2, wider // 2
        return x[:, top : top + self.height, left : left + self.width]


class RandomCrop(Sized, RandomImageLayer):
    """In training, a window of pictures, at one place drawn for a batch; otherwise their middle, scaled to the size.

    The middle is the largest window with the proportions of the size. (Keras 3.15 documents that for prediction, but
    hands on the pictures as they are, in a size that its own model can't take.) In training too, pictures that are not
    larger than the window in both directions are cut where their middle begins, then scaled.
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_crop/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, channels)
    """

    keras_order = SEED_BEFORE_FORMAT

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        more, wider = shape[1] - self.height, shape[2] - self.width
        if more > 0 and wider > 0:
            top, left = (uniform(generator, (), (0.0, n + 1.0)).long() for n in (more, wider))
            return {"top": top, "left": left}
        top, left, _, _ = window(shape[1], shape[2], self.height, self.width)
        return {name: torch.full((), n, device=generator.device) for name, n in (("top", top), ("left", left))}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        tall, wide = x.shape[1:3]
        if tall > self.height and wide > self.width:
            # Tensors of places, so that nothing waits for the device to tell where the window is.
            rows, columns = (torch.arange(n, device=x.device) for n in (self.height, self.width))
            return x.index_select(1, drawn["top"] + rows).index_select(2, drawn["left"] + columns)
        top, left, _, _ = window(tall, wide, self.height, self.width)
        x = x[:, top : top + self.height, left : left + self.width]
        fits = tuple(x.shape[1:3]) == (self.height, self.width)
        return x if fits else resized(x, self.height, self.width)

    def unchanged(self, x: Tensor) -> Tensor:
        fits = tuple(x.shape[1:3]) == (self.height, self.width)
        return x if fits else resized(cut_to_proportions(x, self.height, self.width), self.height, self.width)


class RandomFlip(AnyFormat, RandomImageLayer):
    """In training, half of the pictures mirrored; unchanged otherwise.

    As in Keras, horizontal_and_vertical mirrors a picture in both directions or in none.
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_flip/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    mode: Literal["horizontal", "vertical", "horizontal_and_vertical"] = "horizontal_and_vertical"
    "Whether left and right, top and bottom, or both are exchanged."

    keras_order = SEED_BEFORE_FORMAT

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        return {"flips": uniform(generator, (shape[0], 1, 1, 1), (0.0, 1.0)) <= 0.5}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        axes = {"horizontal": (2,), "vertical": (1,)}.get(self.mode, (1, 2))
        return torch.where(drawn["flips"], x.flip(axes), x)
