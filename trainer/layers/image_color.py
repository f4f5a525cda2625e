"""Random layers that change the colours of pictures: brightness, contrast, saturation, hue, and how grey they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.layers.image_base import (
    AnyFormat,
    Clipped,
    Drawn,
    RandomImageLayer,
    Ranged,
    Share,
    Signed,
    between,
    rescaled,
    uniform,
)
from trainer.layers.plan import Plan
from trainer.lazy import torch
from trainer.options import Fraction
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Generator, Tensor

EPSILON = 1e-7
"Keras's backend epsilon."


class RandomBrightness(Clipped, RandomImageLayer):
    """In training, x plus a number drawn for each picture, cut to the range of values; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_brightness/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Signed
    "What is added, as a share of the range of values: drawn from -f to f, or between the two given."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        low, high = self.value_range
        return {"rgb_delta": uniform(generator, (shape[0], 1, 1, 1), between(self.factor)) * (high - low)}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        return (x + drawn["rgb_delta"]).clamp(*self.value_range)


class RandomContrast(Clipped, RandomImageLayer):
    """In training, (x - mean) c + mean with the mean of each picture's channel; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_contrast/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Share
    "c is drawn for each picture: from 1 to 1 + f (so one number never lowers contrast), or from 1 - low to 1 + high."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        low, high = between(self.factor, 0.0)
        return {"contrast_factor": uniform(generator, (shape[0], 1, 1, 1), (1 - low, 1 + high))}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        mean = x.mean((1, 2), keepdim=True)
        return ((x - mean) * drawn["contrast_factor"] + mean).clamp(*self.value_range)


class RandomSaturation(Ranged, AnyFormat, RandomImageLayer):
    """In training, saturation times u / (1 - u), with u drawn for each picture; unchanged otherwise.

    As in Keras, the product is cut to value_range, not to 1: colours can leave the range when u is near 1.
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_saturation/

    Shape: (batch, height, width, 3) -> (batch, height, width, 3)
    """

    factor: Signed
    "u: drawn from -f to f, or between the two given; 0 or less is grey, 0.5 unchanged, 1 as strong as can be."

    channels = (3,)

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        share = uniform(generator, (shape[0],), between(self.factor))
        return {"factor": share / (1 - share + EPSILON)}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        hue, saturation, value = hsv(x)
        return rgb(hue, (saturation * drawn["factor"].view(-1, 1, 1)).clamp(*self.value_range), value)


class RandomHue(Clipped, AnyFormat, RandomImageLayer):
    """In training, colours turned along the colour wheel, as far for a whole picture; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_hue/

    Shape: (batch, height, width, 3) -> (batch, height, width, 3)
    """

    factor: Share
    "How far, as a share of half a turn, either way: drawn from 0 to f, or between the two given."

    channels = (3,)

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        back = torch.where(uniform(generator, (shape[0],), (0.0, 1.0)) > 0.5, -1.0, 1.0)
        return {"factor": back * uniform(generator, (shape[0],), between(self.factor, 0.0)) * 0.5}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        hue, saturation, value = hsv(rescaled(x, self.value_range, (0.0, 1.0)))
        turned = hue + drawn["factor"].view(-1, 1, 1)
        turned = torch.where(turned > 1, turned - 1, turned)
        turned = torch.where(turned < 0, turned + 1, turned)
        return rescaled(rgb(turned, saturation, value).clamp(0, 1), (0.0, 1.0), self.value_range)


class RandomColorJitter(Clipped, AnyFormat, RandomImageLayer):
    """In training, brightness, contrast, saturation and hue changed, in this order; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_color_jitter/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    brightness_factor: Signed | None = None
    "The factor of RandomBrightness; null leaves it out."
    contrast_factor: Share | None = None
    "The factor of RandomContrast; null leaves it out."
    saturation_factor: Signed | None = None
    "The factor of RandomSaturation, for 3 channels; null leaves it out."
    hue_factor: Share | None = None
    "The factor of RandomHue, for 3 channels; null leaves it out."

    keras_order = "value_range ... seed data_format"

    def parts(self) -> dict[str, RandomImageLayer]:
        """The layers that it joins, by what they change."""
        kinds = {
            "brightness": RandomBrightness,
            "contrast": RandomContrast,
            "saturation": RandomSaturation,
            "hue": RandomHue,
        }
        factors = {name: getattr(self, f"{name}_factor") for name in kinds}
        return {n: kinds[n](factor=f, value_range=self.value_range) for n, f in factors.items() if f is not None}

    def build(self, plan: Plan, shape: Shape) -> Shape:
        # The parts see channels last, whatever stands in the input.
        first = self.data_format == "channels_first" and len(shape) == 4
        for part in self.parts().values():
            part.build(plan, (shape[0], *shape[2:], shape[1]) if first else shape)
        return super().build(plan, shape)

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        return {name: part.draw(generator, shape) for name, part in self.parts().items()}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        for name, part in self.parts().items():
            x = part.apply(x, drawn[name])
        return x


class RandomColorDegeneration(Clipped, AnyFormat, RandomImageLayer):
    """In training, x + u (grey - x) with u drawn for each picture; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_color_degeneration/

    Shape: (batch, height, width, 3) -> (batch, height, width, 3)
    """

    factor: Signed
    "u: drawn from -f to f, or between the two given; 1 is grey, 0 unchanged, below 0 more colourful."

    channels = (3,)

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        return {"factor": uniform(generator, (shape[0], 1, 1, 1), between(self.factor))}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        return (x + drawn["factor"] * (grey(x) - x)).clamp(*self.value_range)


class RandomGrayscale(AnyFormat, RandomImageLayer):
    """In training, some pictures turned grey, in as many channels; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_grayscale/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Fraction = 0.5
    "Chance that a picture turns grey."

    channels = (1, 3)

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        return {"should_apply": uniform(generator, (shape[0], 1, 1, 1), (0.0, 1.0)) < self.factor}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        return torch.where(drawn["should_apply"], grey(x), x)


def grey(x: Tensor) -> Tensor:
    """0.2989 red + 0.587 green + 0.114 blue, as one channel; a single channel is grey already."""
    if x.shape[-1] == 1:
        return x
    red, green, blue = x.unbind(-1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(-1)


def hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue (a turn is 1), saturation (0 to 1) and value (the highest of the three) of red, green and blue."""
    x = torch.where(x.abs() < torch.finfo(x.dtype).eps, 0.0, x)
    red, green, blue = x.unbind(-1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    sixth = 1 / (6 * torch.where(spread > 0, spread, 1.0))
    hue = torch.where(value == green, sixth * (blue - red) + 2 / 6, sixth * (red - green) + 4 / 6)
    hue = torch.where(value == red, sixth * (green - blue), hue)
    hue = torch.where(spread > 0, hue, 0.0)
    saturation = torch.where(value > 0, spread / torch.where(value > 0, value, 1.0), 0.0)
    return torch.where(hue < 0, hue + 1, hue), saturation, value


def rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Red, green and blue as the last axis."""
    at = hue.remainder(1) * 6
    pure = ((at - 3).abs() - 1, 2 - (at - 2).abs(), 2 - (at - 4).abs())
    return torch.stack([value * (1 - saturation + saturation * p.clamp(0, 1)) for p in pure], -1)
