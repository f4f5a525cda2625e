"""Layers that spread the values of pictures over their range: AutoContrast and equalizations of histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from trainer.layers.base import Weights
from trainer.layers.image_base import BYTES, AnyFormat, Ranged, rescaled
from trainer.layers.image_sampling import inside
from trainer.lazy import torch
from trainer.options import Float, PositiveInt, ints

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 256


class AutoContrast(Ranged):
    """Each channel of a picture stretched, so that its lowest and highest values are those of the range.

    A channel of one value stays as it is. It acts in training and otherwise.
    https://keras.io/api/layers/preprocessing_layers/image_preprocessing/auto_contrast/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    preprocessing = True

    def change(self, w: Weights, x: Tensor) -> Tensor:
        values = rescaled(x, self.value_range, BYTES)
        low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
        flat = high <= low
        scale = 255 / torch.where(flat, 1.0, high - low)
        stretched = (values * scale - low * scale).clamp(*BYTES)
        return torch.where(flat, x, rescaled(stretched, BYTES, self.value_range))


class Equalization(Ranged, AnyFormat):
    """Each value of a picture's channel replaced by the share of values below it, so that all are equally frequent.

    Before the model and in prediction each picture is counted by itself: what Keras makes of a batch of one. In
    training in a model the values of a batch are counted together, as Keras does it. (Keras's own models lose the
    layer, so a model file with one can't be opened there; its place is under a feature's preprocess.)
    https://keras.io/api/layers/preprocessing_layers/image_augmentation/equalization/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    bins: PositiveInt = 256
    "Number of bins of the histogram."

    preprocessing = True
    across_rows = True

    def change(self, w: Weights, x: Tensor) -> Tensor:
        low, high = self.value_range
        values = x * (255 / (high - low)) + (0 - low * (255 / (high - low)))
        channels, last = x.shape[-1], self.bins - 1
        apart = 1 if w.training else len(x)
        offset = torch.arange(apart * channels, device=x.device).view(apart, 1, 1, channels) * self.bins
        # The two forms round differently, and a value that falls into the bin below has another number.
        counted = (values * last / 255).long().clamp(0, last) + offset
        counts = torch.bincount(counted.flatten(), minlength=apart * channels * self.bins).view(-1, self.bins)
        looked_up = (values / 255 * last).clamp(0, last).long() + offset
        flat = ((counts > 0).sum(1) <= 1).view(apart, 1, 1, channels)
        equal = torch.where(flat, values, _table(counts).flatten()[looked_up])
        return equal * ((high - low) / 255) + low


def _table(counts: Tensor) -> Tensor:
    """(histograms, bins): 255 times the share of values in bins up to each, without those in the first that has any."""
    below = counts.cumsum(1)
    first = torch.where(below > 0, below, below[:, -1:]).amin(1, keepdim=True)
    most = (below[:, -1:] - first).clamp(min=1)
    return ((below - first) * 255 / most).round().clamp(0, 255)


class ContrastLimitedAdaptiveHistogramEqualization(Ranged, AnyFormat):
    """Histograms equalized tile by tile, with counts cut off at a limit; between tiles, their tables are blended.

    It acts in training and otherwise, on each channel by itself. Integers stay integers, cut off.
    Zuiderveld, 1994, "Contrast limited adaptive histogram equalization" (Graphics Gems IV).

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    clip_limit: Float = 4.0
    "Most values of a bin, as a multiple of the mean, rounded down; others are spread over all. 0 or less: no limit."
    tile_grid_size: Annotated[tuple[int, ...], ints(2)] = (8, 8)
    "Number of tiles along the height and along the width."

    preprocessing = True
    keeps_integers = True

    def change(self, w: Weights, x: Tensor) -> Tensor:
        values = rescaled(x.float(), self.value_range, BYTES)
        height, width = x.shape[1:3]
        size = [-(-n // tiles) for n, tiles in zip((height, width), self.tile_grid_size, strict=True)]
        rows, columns = (
            inside(torch.arange(n * tiles, device=x.device), there, "nearest")
            for n, tiles, there in zip(size, self.tile_grid_size, (height, width), strict=True)
        )
        levels = values.clamp(*BYTES).long()
        tables = self._tables(levels.index_select(1, rows).index_select(2, columns), size)
        made = self._blended(levels, tables, size)
        return rescaled(made, BYTES, self.value_range).to(x.dtype)

    def _tables(self, levels: Tensor, size: list[int]) -> Tensor:
        """(batch, tiles down, tiles across, channels, 256): what each level becomes in each tile."""
        (down, across), (tall, wide) = self.tile_grid_size, size
        batch, channels = levels.shape[0], levels.shape[-1]
        tiles = levels.view(batch, down, tall, across, wide, channels).permute(0, 1, 3, 5, 2, 4)
        tiles = tiles.reshape(-1, tall * wide)
        counts = torch.zeros(tiles.shape[0], LEVELS, device=levels.device)
        counts.scatter_add_(1, tiles, torch.ones_like(tiles, dtype=counts.dtype))
        if self.clip_limit > 0:
            cut = counts.clamp(max=int(self.clip_limit * (tall * wide) / LEVELS))
            counts = cut + (counts - cut).sum(1, keepdim=True) / LEVELS
        below = counts.cumsum(1)
        least = below.amin(1, keepdim=True)
        most = tall * wide - least
        share = (below - least) * 255 / torch.where(most == 0, 1.0, most)
        return share.clamp(0, 255).view(batch, down, across, channels, LEVELS)

    def _blended(self, levels: Tensor, tables: Tensor, size: list[int]) -> Tensor:
        """Each pixel through the tables of the four tiles around it, weighed by how near their middles are."""
        batch, height, width, channels = levels.shape
        down, across = self.tile_grid_size
        (top, bottom, low), (left, right, aside) = (
            _beside(n, tile, tiles, levels)
            for n, tile, tiles in zip((height, width), size, self.tile_grid_size, strict=True)
        )
        start = torch.arange(batch, device=levels.device).view(-1, 1, 1, 1) * (down * across)
        channel, flat = torch.arange(channels, device=levels.device), tables.flatten()

        def read(row: Tensor, column: Tensor) -> Tensor:
            tile = start + row.view(1, -1, 1, 1) * across + column.view(1, 1, -1, 1)
            return flat[(tile * channels + channel) * LEVELS + levels]

        low, aside = low.view(1, -1, 1, 1), aside.view(1, 1, -1, 1)
        upper = read(top, left) * (1 - aside) + read(top, right) * aside
        lower = read(bottom, left) * (1 - aside) + read(bottom, right) * aside
        return upper * (1 - low) + lower * low


def _beside(length: int, tile: int, tiles: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel along an axis: the tile before it, the one after, and how much of the latter."""
    # Counted from the tile before the first, as Keras rounds: what is cut to bytes must not fall to the byte below.
    at = (torch.arange(length, device=like.device, dtype=torch.float32) - tile / 2) / tile + 1
    after = at.floor()
    index = after.long()
    return (index - 1).clamp(0, tiles - 1), index.clamp(0, tiles - 1), at - after
