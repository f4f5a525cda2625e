"""Random layers that look at a pixel and those around it: sharpness and blur."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainer.layers.image_base import (
    AnyFormat,
    Clipped,
    Drawn,
    RandomImageLayer,
    Share,
    between,
    by_chance,
    each,
    uniform,
)
from trainer.layers.image_distorted import TINY, gaussian, smoothed
from trainer.lazy import F, torch
from trainer.options import Rule, integer

if TYPE_CHECKING:
    from torch import Generator, Tensor


def _odd(value: Any) -> int | tuple[int, int]:
    sizes = tuple(integer(v) for v in value) if isinstance(value, (list, tuple)) else (integer(value),) * 2
    if len(sizes) != 2 or sizes[0] != sizes[1] or sizes[0] < 1 or sizes[0] % 2 == 0:
        raise ValueError
    return sizes[0] if isinstance(value, int) else (sizes[0], sizes[1])


_SIZE = {"type": "integer", "minimum": 1}
OddSize = Annotated[
    int | tuple[int, int],
    Rule(
        "an odd integer above 0, or a list of two equal ones",
        _odd,
        {"anyOf": [_SIZE, {"type": "array", "items": _SIZE, "minItems": 2, "maxItems": 2}]},
    ),
]


class RandomSharpness(Clipped, AnyFormat, RandomImageLayer):
    """In training, x + (1 - 2 u) (smooth - x), with u drawn for each picture; unchanged otherwise.

    `smooth` weighs a pixel with 5/13 and the eight around it with 1/13 each; zeros stand outside of the picture.
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_sharpness/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Share
    "u: drawn from 0 to f, or between the two given; 0 is smooth, 0.5 unchanged, 1 sharp."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        return {"factor": uniform(generator, (shape[0],), between(self.factor, 0.0))}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        channels = x.shape[-1]
        kernel = torch.full((3, 3), 1 / 13, dtype=x.dtype, device=x.device)
        kernel[1, 1].fill_(5 / 13)
        planes = x.permute(0, 3, 1, 2)
        smooth = F.conv2d(planes, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels).permute(0, 2, 3, 1)
        return (x + (1 - 2 * each(drawn["factor"])) * (smooth - x)).clamp(*self.value_range)


class RandomGaussianBlur(Clipped, AnyFormat, RandomImageLayer):
    """In training, some pictures blurred by a Gaussian; unchanged otherwise. Zeros stand outside of the picture.

    The two deviations, across and down, are drawn for a whole batch.
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_gaussian_blur/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Share = 1.0
    "Chance that a picture is blurred, drawn for each: from 0 to f (so 1 blurs half), or between the two given."
    kernel_size: OddSize = 3
    "Pixels of the kernel along each axis; Keras blurs with equal ones alone."
    sigma: Share = 1.0
    "Standard deviation of the Gaussian in pixels: drawn from 0 to s, or between the two given."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        chosen = by_chance(generator, shape[0], self.factor)
        return {
            "should_apply_blur": chosen,
            "blur_factor": uniform(generator, (2,), between(self.sigma, 0.0)) + TINY,
        }

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        taps = self.kernel_size if isinstance(self.kernel_size, int) else self.kernel_size[0]
        across, down = (gaussian(taps, deviation) for deviation in drawn["blur_factor"].unbind())
        blurred = smoothed(x.permute(0, 3, 1, 2), down, across).permute(0, 2, 3, 1)
        return torch.where(each(drawn["should_apply_blur"]), blurred, x).clamp(*self.value_range)
