"""Adaptive pooling: the windows follow from the size that the output is to have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from trainer.layers.base import Weights
from trainer.layers.plan import Plan
from trainer.layers.spatial import EitherFormat, Sizes, flat, for_each_axis, from_planes, joined, split_axes, to_planes
from trainer.lazy import F
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor


class AdaptivePooling(EitherFormat, abstract=True):
    """One value for each of `output_size` windows: window i of m reaches from i * n // m to ceil((i + 1) * n / m).

    Windows overlap where m doesn't divide n, and repeat entries where m is above n.
    """

    output_size: Sizes
    "Size of the output along each axis."

    @field_validator("output_size", mode="before")
    @classmethod
    def _for_each_axis(cls, value: Any) -> Any:
        return for_each_axis(value, cls.rank)

    def build(self, plan: Plan, shape: Shape) -> Shape:
        _, channels = split_axes(shape, self.rank, self.data_format)
        return joined(shape[0], self.output_size, channels, self.data_format)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        planes = to_planes(x, self.rank, self.data_format)
        return from_planes(self.pool(planes, flat(self.output_size)), self.rank, self.data_format)

    def pool(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        """The pooled planes (batch, channels, *size)."""
        raise NotImplementedError


class AdaptiveAveragePooling(AdaptivePooling, abstract=True):
    """The mean of each window."""

    def pool(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        if self.rank == 3:
            return F.adaptive_avg_pool3d(x, (size[0], size[1], size[2]))
        return F.adaptive_avg_pool2d(x, (size[0], size[1]))


class AdaptiveMaxPooling(AdaptivePooling, abstract=True):
    """The largest value of each window."""

    def pool(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        pool = F.adaptive_max_pool3d if self.rank == 3 else F.adaptive_max_pool2d
        return pool(x, size)


class AdaptiveAveragePooling1D(AdaptiveAveragePooling):
    """The mean of each of `output_size` windows of steps.

    https://keras.io/api/layers/pooling_layers/adaptive_average_pooling1d/

    Shape: (batch, steps, channels) -> (batch, output_size, channels)
    """

    rank = 1


class AdaptiveAveragePooling2D(AdaptiveAveragePooling):
    """The mean of each of `output_size` windows of pixels.

    https://keras.io/api/layers/pooling_layers/adaptive_average_pooling2d/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, channels)
    """

    rank = 2


class AdaptiveAveragePooling3D(AdaptiveAveragePooling):
    """The mean of each of `output_size` windows of voxels.

    https://keras.io/api/layers/pooling_layers/adaptive_average_pooling3d/

    Shape: (batch, depth, height, width, channels) -> (batch, new depth, new height, new width, channels)
    """

    rank = 3


class AdaptiveMaxPooling1D(AdaptiveMaxPooling):
    """The largest value of each of `output_size` windows of steps.

    https://keras.io/api/layers/pooling_layers/adaptive_max_pooling1d/

    Shape: (batch, steps, channels) -> (batch, output_size, channels)
    """

    rank = 1


class AdaptiveMaxPooling2D(AdaptiveMaxPooling):
    """The largest value of each of `output_size` windows of pixels.

    https://keras.io/api/layers/pooling_layers/adaptive_max_pooling2d/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, channels)
    """

    rank = 2


class AdaptiveMaxPooling3D(AdaptiveMaxPooling):
    """The largest value of each of `output_size` windows of voxels.

    https://keras.io/api/layers/pooling_layers/adaptive_max_pooling3d/

    Shape: (batch, depth, height, width, channels) -> (batch, new depth, new height, new width, channels)
    """

    rank = 3
