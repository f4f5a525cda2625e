"""Layers that look at each value of a picture by itself: inverted, posterized, solarized."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from trainer.layers.image_base import (
    BYTES,
    SEED_BEFORE_FORMAT,
    AnyFormat,
    Drawn,
    RandomImageLayer,
    Ranged,
    Share,
    between,
    by_chance,
    each,
    factor,
    rescaled,
    uniform,
)
from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

MOST_BITS = 8
Bits = Annotated[int | tuple[int, int], factor(1, MOST_BITS, whole=True)]


class RandomInvert(Ranged, AnyFormat, RandomImageLayer):
    """In training, some pictures as their negatives, high - x; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_invert/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Share = 1.0
    "Chance that a picture is inverted, drawn for each: from 0 to f (so 1 inverts half), or between the two given."

    keras_order = SEED_BEFORE_FORMAT

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        return {"apply_inversion": by_chance(generator, shape[0], self.factor)}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        return torch.where(each(drawn["apply_inversion"]), self.value_range[1] - x, x)


class RandomPosterization(Ranged, AnyFormat, RandomImageLayer):
    """In training, values cut to a few bits of their eight, as many for a whole picture; unchanged otherwise.

    https://keras.io/api/layers/preprocessing_layers/image_augmentation/random_posterization/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Bits
    "Bits to keep: drawn from 1 to below f, or from the one given to below the other; exactly f when both are equal."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        low, high = (int(n) for n in between(self.factor, 1))
        above = max(high, low + 1)
        bits = torch.randint(low, above, (shape[0],), generator=generator, device=generator.device)
        return {"shift_factor": (MOST_BITS - bits).to(torch.uint8)}

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        whole = rescaled(x, self.value_range, BYTES).clamp(*BYTES).to(torch.uint8)
        shift = each(drawn["shift_factor"])
        return rescaled(((whole >> shift) << shift).to(x.dtype), BYTES, self.value_range)


class Solarization(Ranged, RandomImageLayer):
    """In training, values (from 0 to 255) moved up by a, then those at or above t inverted; unchanged otherwise.

    y = x + a, cut to 0 to 255, where it is below t, and 255 minus it elsewhere; a and t are drawn for each picture.
    As in Keras, the lower of two numbers is taken as it is, and the upper one times 255.
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/solarization/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    addition_factor: Share = 0.0
    "a: drawn from 0 to 255 f, or from the lower to 255 times the upper of two."
    threshold_factor: Share = 0.0
    "t: drawn from 0 to 255 f, or from the lower to 255 times the upper of two; 0 inverts every value."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        drawn = {}
        for name, given in (("additions", self.addition_factor), ("thresholds", self.threshold_factor)):
            low, high = between(given, 0.0)
            drawn[name] = uniform(generator, (shape[0], 1, 1, 1), (low, 255 * high))
        return drawn

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        moved = (rescaled(x, self.value_range, BYTES) + drawn["additions"]).clamp(*BYTES)
        return rescaled(torch.where(moved < drawn["thresholds"], moved, 255 - moved), BYTES, self.value_range)
