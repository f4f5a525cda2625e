"""MixUp and CutMix: each picture of a batch is mixed with another one, and the targets follow."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trainer.layers.base import Weights
from trainer.layers.drawing import beside
from trainer.layers.image_base import (
    SEED_BEFORE_FORMAT,
    AnyFormat,
    Drawn,
    RandomImageLayer,
    Share,
    between,
    each,
    uniform,
)
from trainer.lazy import np, torch
from trainer.options import PositiveFloat

if TYPE_CHECKING:
    from torch import Generator, Tensor

_LEAST_ALPHA = 1e-6


class Mixing(AnyFormat, RandomImageLayer, abstract=True):
    """Mixes each row of a batch with another in training; whoever trains mixes targets and sample weights as well.

    Its `drawn` has `permutation_order`, the other row of each, and `mix_weight`, how much of the first one stays.
    """

    mixes_targets = True

    def blend(self, targets: Tensor, drawn: Drawn) -> Tensor:
        """Targets, or weights of rows, mixed as the rows were: w y + (1 - w) y', with y' of the other row."""
        share = drawn["mix_weight"].reshape(-1, *[1] * (targets.dim() - 1))
        return share * targets + (1 - share) * targets[drawn["permutation_order"]]

    def mixed(self, x: Tensor, targets: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Pictures (batch, height, width, channels) and their targets, mixed by what was drawn."""
        return self.apply(x, drawn), self.blend(targets, drawn)

    def change(self, w: Weights, x: Tensor) -> Tensor:
        if not w.training:
            return x
        drawn = self.draw(beside(w.generator(self.seed), x), tuple(x.shape))
        w.mixes(partial(self.blend, drawn=drawn))
        return self.apply(x, drawn)


class MixUp(Mixing):
    """In training, w x + (1 - w) x' with x' another picture of the batch, and targets mixed alike; unchanged otherwise.

    w is drawn for each picture from a Beta distribution with both parameters alpha (Zhang et al., 2018). Targets are
    to be numbers or one-hot rows; sample weights are mixed too.
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/mix_up/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    alpha: PositiveFloat = 0.2
    "Near 0, nearly all of one picture; 1, any share as likely as another; above, halves of both."

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        return {
            "permutation_order": shuffled(generator, shape[0]),
            "mix_weight": beta(generator, shape[0], self.alpha),
        }

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        share = each(drawn["mix_weight"])
        return share * x + (1 - share) * x[drawn["permutation_order"]]


class CutMix(Mixing):
    """In training, a box of each picture replaced by that of another, and targets mixed by area; unchanged otherwise.

    The box covers a share of the picture that is drawn from a Beta distribution; what it covers beyond whole pixels
    counts for the targets too, as in Keras (Yun et al., 2019). Targets are to be numbers or one-hot rows.
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/cut_mix/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    factor: Share = 1.0
    "Both parameters of the Beta distribution: drawn for each batch from 0 to f, or between the two given."

    keras_order = SEED_BEFORE_FORMAT

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        batch, height, width, _ = shape
        low, high = between(self.factor, 0.0)
        random = numbers(generator)
        kept = beta(generator, batch, random.uniform(low, high) + _LEAST_ALPHA, random)
        ratio = (1 - kept).sqrt()
        left, right = self._side(generator, width, ratio)
        top, bottom = self._side(generator, height, ratio)
        row = torch.arange(height, device=ratio.device).view(1, -1, 1, 1)
        column = torch.arange(width, device=ratio.device).view(1, 1, -1, 1)
        inside = (row >= each(top)) & (row < each(bottom)) & (column >= each(left)) & (column < each(right))
        return {
            "permutation_order": shuffled(generator, batch),
            "batch_masks": inside,
            "mix_weight": 1 - (right - left) * (bottom - top) / (width * height),
        }

    def _side(self, generator: Generator, length: int, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """Where boxes begin and end along an axis."""
        extent = ratio * length
        start = uniform(generator, (len(ratio),), (0.0, 1.0)) * (length - extent)
        return start, start + extent

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        return torch.where(drawn["batch_masks"], x[drawn["permutation_order"]], x)


def shuffled(generator: Generator, rows: int) -> Tensor:
    """The numbers of all rows in another order."""
    return torch.randperm(rows, generator=generator, device=generator.device)


def numbers(generator: Generator) -> np.random.Generator:
    """A numpy stream with the generator's seed, for distributions that torch draws from its global stream alone."""
    return np.random.Generator(np.random.Philox(generator.initial_seed()))


def beta(generator: Generator, rows: int, alpha: float, random: np.random.Generator | None = None) -> Tensor:
    """A number a row from the Beta distribution with both parameters `alpha`."""
    drawn = (random or numbers(generator)).beta(alpha, alpha, rows).astype("float32")
    return torch.from_numpy(drawn).to(generator.device)
