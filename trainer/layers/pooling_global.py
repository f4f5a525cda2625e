"""Global pooling: the largest or the mean value of each channel over everything."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainer.layers.base import Weights
from trainer.layers.plan import Plan
from trainer.layers.spatial import EitherFormat, joined, split_axes
from trainer.lazy import torch
from trainer.options import Bool
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


class GlobalPooling(EitherFormat, abstract=True):
    """One value for each channel, from all steps, pixels or voxels."""

    keepdims: Bool = False
    "Whether the pooled axes stay, with size 1."

    keras_order = "data_format keepdims"

    def build(self, plan: Plan, shape: Shape) -> Shape:
        _, channels = split_axes(shape, self.rank, self.data_format)
        return joined(shape[0], (1,) * self.rank if self.keepdims else (), channels, self.data_format)

    @property
    def pooled(self) -> tuple[int, ...]:
        """The axes that go."""
        first = 2 if self.data_format == "channels_first" else 1
        return tuple(range(first, first + self.rank))

    def mean_by_hand(self, p: Program, x: Tensor) -> tuple[Tensor, Pull]:
        """The mean over the pooled axes as operations of a program."""
        count = math.prod(x.shape[axis] for axis in self.pooled)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            if not wanted:
                return None
            p.do(slope.div_, count)
            found = torch.empty_like(x)
            p.do(found.copy_, self._spread(slope))
            return found

        return p.make(torch.mean, x, self.pooled, self.keepdims), pull

    def _spread(self, made: Tensor) -> Tensor:
        """A view that broadcasts to the input."""
        return made if self.keepdims else made[(slice(None),) * self.pooled[0] + (None,) * self.rank]


class GlobalMaxPooling(GlobalPooling, abstract=True):
    """The largest value of each channel."""

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return x.amax(self.pooled, self.keepdims)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        made = p.make(torch.amax, x, self.pooled, self.keepdims)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            if not wanted:
                return None
            largest = p.make(torch.eq, x, self._spread(made))
            slope = self._spread(slope)
            p.do(slope.div_, p.make(torch.sum, largest, self.pooled, True, dtype=x.dtype))
            return p.make(torch.mul, largest, slope)

        return made, pull


class GlobalMaxPooling1D(GlobalMaxPooling):
    """The largest value of each channel over all steps.

    https://keras.io/api/layers/pooling_layers/global_max_pooling1d/

    Shape: (batch, steps, channels) -> (batch, channels)
    """

    aliases = ("GlobalMaxPool1D",)
    rank = 1


class GlobalMaxPooling2D(GlobalMaxPooling):
    """The largest value of each channel over all pixels.

    https://keras.io/api/layers/pooling_layers/global_max_pooling2d/

    Shape: (batch, height, width, channels) -> (batch, channels)
    """

    aliases = ("GlobalMaxPool2D",)
    rank = 2


class GlobalMaxPooling3D(GlobalMaxPooling):
    """The largest value of each channel over all voxels.

    https://keras.io/api/layers/pooling_layers/global_max_pooling3d/

    Shape: (batch, depth, height, width, channels) -> (batch, channels)
    """

    aliases = ("GlobalMaxPool3D",)
    rank = 3


class GlobalAveragePooling1D(GlobalPooling):
    """The mean of each channel over the steps that the mask, if there is one, leaves (NaN where it leaves none).

    https://keras.io/api/layers/pooling_layers/global_average_pooling1d/

    Shape: (batch, steps, channels) -> (batch, channels)
    """

    aliases = ("GlobalAvgPool1D",)
    rank = 1
    takes_mask = True

    def forward(self, w: Weights, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            return x.mean(self.pooled, self.keepdims)
        there = self._there(mask)
        total = torch.where(there, x, 0.0).sum(self.pooled, self.keepdims)
        return total / there.sum(self.pooled, self.keepdims)

    def _there(self, mask: Tensor) -> Tensor:
        """The mask with an axis for the channels."""
        return mask.bool().unsqueeze(1 if self.data_format == "channels_first" else 2)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return self.mean_by_hand(p, x)

    def by_hand_masked(self, p: Program, w: Weights, x: Tensor, mask: Tensor) -> tuple[Tensor, Pull]:
        there, zero = self._there(mask), p.constant(0.0, x)
        counts = p.make(torch.sum, there, self.pooled, self.keepdims, dtype=x.dtype)
        total = p.make(torch.sum, p.make(torch.where, there, x, zero), self.pooled, self.keepdims)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            if not wanted:
                return None
            p.do(slope.div_, counts)
            return p.make(torch.where, there, self._spread(slope), zero)

        return p.make(torch.div, total, counts), pull


class GlobalAveragePooling(GlobalPooling, abstract=True):
    """The mean of each channel."""

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return x.mean(self.pooled, self.keepdims)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return self.mean_by_hand(p, x)


class GlobalAveragePooling2D(GlobalAveragePooling):
    """The mean of each channel over all pixels.

    https://keras.io/api/layers/pooling_layers/global_average_pooling2d/

    Shape: (batch, height, width, channels) -> (batch, channels)
    """

    aliases = ("GlobalAvgPool2D",)
    rank = 2


class GlobalAveragePooling3D(GlobalAveragePooling):
    """The mean of each channel over all voxels.

    https://keras.io/api/layers/pooling_layers/global_average_pooling3d/

    Shape: (batch, depth, height, width, channels) -> (batch, channels)
    """

    aliases = ("GlobalAvgPool3D",)
    rank = 3
