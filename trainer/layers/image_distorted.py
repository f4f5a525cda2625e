"""Random layers that bend pictures: into another perspective, or as rubber."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainer.layers.arrays import constants
from trainer.layers.image_base import (
    SEED_BEFORE_FORMAT,
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
from trainer.layers.image_sampling import Interpolation, grid, sampled
from trainer.lazy import F, torch
from trainer.options import Float, Fraction

if TYPE_CHECKING:
    from torch import Generator, Tensor


class RandomPerspective(AnyFormat, RandomImageLayer):
    """In training, pictures as if seen from aside: all corners but the upper left are moved; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_perspective/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Share = 1.0
    "Chance that a picture is changed, drawn for each: from 0 to f (so 1 changes half), or between the two given."
    scale: Fraction = 1.0
    "How far corners move: by up to half of this share of their distance from the left and from the top."
    interpolation: Interpolation = "bilinear"
    "Whether a value between pixels is weighed from the four around it, or taken from the nearest."
    fill_value: Float = 0.0
    "What stands outside of the picture."

    keras_order = SEED_BEFORE_FORMAT

    def sized(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        if 1 in (height, width):
            raise ValueError(f"pictures of {height} x {width} pixels have no perspective; give at least 2 x 2")
        return height, width

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        batch, height, width, _ = shape
        chosen = by_chance(generator, batch, self.factor)
        moves = uniform(generator, (batch, 4, 2), (-0.5 * self.scale, 0.5 * self.scale))
        right, bottom = width - 1.0, height - 1.0
        corners = ((0.0, 0.0), (right, 0.0), (0.0, bottom), (right, bottom))
        start = constants(corners, generator.device).expand(batch, 4, 2)
        return {"apply_perspective": chosen, "start_points": start, "end_points": start + start * moves}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        a = homography(drawn["start_points"], drawn["end_points"]).to(x.dtype)
        a0, a1, a2, b0, b1, b2, c0, c1 = (v.view(-1, 1, 1) for v in a.unbind(1))
        ys, xs = grid(x.shape[1], x.shape[2], a)
        depth = c0 * xs + c1 * ys + 1
        at_x, at_y = (a0 * xs + a1 * ys + a2) / depth, (b0 * xs + b1 * ys + b2) / depth
        made = sampled(x, at_y, at_x, self.interpolation, "constant", self.fill_value)
        return torch.where(each(drawn["apply_perspective"]), made, x)


def homography(start: Tensor, end: Tensor) -> Tensor:
    """(batch, 8): a0 to a2, b0 to b2, c0, c1 of the map that takes four points `end` (batch, 4, 2) to `start`.

    x' = (a0 x + a1 y + a2) / (c0 x + c1 y + 1) and y' = (b0 x + b1 y + b2) / (c0 x + c1 y + 1): two equations a point.
    """
    ones = torch.cat([end, torch.ones_like(end[..., :1])], -1)
    none = torch.zeros_like(ones)
    across = torch.cat([ones, none, -start[..., :1] * end], -1)
    down = torch.cat([none, ones, -start[..., 1:] * end], -1)
    equations = torch.stack([across, down], 2).flatten(1, 2)
    return torch.linalg.solve(equations, start.flatten(1).unsqueeze(-1)).squeeze(-1)


class RandomElasticTransform(Clipped, AnyFormat, RandomImageLayer):
    """In training, pictures bent as rubber: each pixel is read aside by smoothed noise; unchanged otherwise.

    In both directions the way is 0.1 s max(height, width) times normal noise of deviation d = 0.05 s min(height, width)
    that was smoothed by a Gaussian of deviation d; s is drawn for the batch (Simard et al., 2003).
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_elastic_transform/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Share = 1.0
    "Chance that a picture is changed, drawn for each: from 0 to f (so 1 changes half), or between the two given."
    scale: Share = 1.0
    "Strength s: drawn from 0 to s, or between the two given."
    interpolation: Interpolation = "bilinear"
    "Whether a value between pixels is weighed from the four around it, or taken from the nearest."
    fill_mode: Literal["constant", "nearest", "wrap", "mirror", "reflect"] = "reflect"
    "What stands outside: the picture again, reflected, mirrored or wrapped around, its nearest pixel, or fill_value."
    fill_value: Float = 0.0
    "What stands outside of the picture when fill_mode is constant."

    keras_order = SEED_BEFORE_FORMAT

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        chosen = by_chance(generator, shape[0], self.factor)
        strength = uniform(generator, (), between(self.scale, 0.0))
        noise = torch.randn((2, *shape[:3]), generator=generator, device=generator.device)
        return {"apply_transform": chosen, "distortion_factor": strength, "noise": noise}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        if 0 in (between(self.factor, 0.0)[1], between(self.scale, 0.0)[1]):
            return x
        height, width = x.shape[1:3]
        strength = drawn["distortion_factor"]
        deviation = min(height, width) * 0.05 * strength
        widest = int(6 * min(height, width) * 0.05 * between(self.scale, 0.0)[1]) | 1
        kernel = gaussian(widest, deviation, within=(6 * deviation).to(torch.int64) // 2)
        right, down = smoothed(drawn["noise"].permute(1, 0, 2, 3) * deviation, kernel, kernel).unbind(1)
        ys, xs = grid(height, width, x)
        reach = max(height, width) * 0.1 * strength
        made = sampled(x, ys + reach * down, xs + reach * right, self.interpolation, self.fill_mode, self.fill_value)
        return torch.where(each(drawn["apply_transform"]), made, x).clamp(*self.value_range)


TINY = 1e-6
"Keeps a deviation that was drawn as 0 from dividing 0 by 0."


def gaussian(taps: int, deviation: Tensor, within: Tensor | None = None) -> Tensor:
    """Weights of a Gaussian at `taps` places around its middle, which sum to 1; none beyond `within` places."""
    away = torch.arange(taps, device=deviation.device, dtype=deviation.dtype) - (taps - 1) / 2
    weights = torch.exp(-0.5 * (away / deviation.clamp(min=TINY)) ** 2)
    if within is not None:
        # A tensor decides, so that nothing waits for the device to tell how wide the kernel is.
        weights = torch.where(away.abs() <= within, weights, 0.0)
    return weights / weights.sum()


def smoothed(planes: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Planes (batch, channels, height, width) with each pixel a weighed sum of those around it; zeros stand outside."""
    channels = planes.shape[1]
    for kernel, axis in ((down, 2), (across, 3)):
        taps = len(kernel)
        shape, padding = ((1, 1, taps, 1), (taps // 2, 0)) if axis == 2 else ((1, 1, 1, taps), (0, taps // 2))
        planes = F.conv2d(planes, kernel.view(shape).expand(channels, *shape[1:]), padding=padding, groups=channels)
    return planes
