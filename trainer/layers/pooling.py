"""Pooling: the largest or the mean value of each window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from trainer.layers.base import Weights
from trainer.layers.plan import Plan
from trainer.layers.spatial import (
    EitherFormat,
    Sizes,
    flat,
    for_each_axis,
    from_planes,
    joined,
    one_for_all,
    split_axes,
    to_planes,
)
from trainer.lazy import F, torch
from trainer.program import native
from trainer.shapes import Shape, same_padding, window_length

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.activations.base import Back
    from trainer.program import Program, Pull


class Pooling(EitherFormat, abstract=True):
    """One value for each window, channel by channel."""

    pool_size: Sizes
    "Size of the window along each axis."
    strides: Sizes | None = None
    "Steps of the window along each axis; by default pool_size, so that windows don't overlap."
    padding: Literal["valid", "same"] = "valid"
    "valid: only whole windows; same: windows may reach over the ends, so that stride 1 keeps the size."

    @field_validator("pool_size", "strides", mode="before")
    @classmethod
    def _for_each_axis(cls, value: Any) -> Any:
        return for_each_axis(value, cls.rank)

    @property
    def steps(self) -> tuple[int, ...]:
        """The strides, with the default written out."""
        return self.strides or self.pool_size

    def keras_config(self) -> dict[str, Any]:
        return {**super().keras_config(), "strides": list(self.steps)}

    def build(self, plan: Plan, shape: Shape) -> Shape:
        spatial, channels = split_axes(shape, self.rank, self.data_format)
        windows = zip(spatial, self.pool_size, self.steps, strict=True)
        made = tuple(window_length(n, k, s, self.padding) for n, k, s in windows)
        return joined(shape[0], made, channels, self.data_format)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        planes = to_planes(x, self.rank, self.data_format)
        window, steps = flat(self.pool_size), flat(self.steps)
        padding, ceil, kept = self._over_the_ends(planes, window, steps)
        return from_planes(self.pool(planes, window, steps, padding, ceil)[kept], self.rank, self.data_format)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        planes = to_planes(x, self.rank, self.data_format)
        window, steps = flat(self.pool_size), flat(self.steps)
        padding, ceil, kept = self._over_the_ends(planes, window, steps)
        whole, back = self.pool_by_hand(p, planes, window, steps, padding, ceil)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            if not wanted:
                return None
            slope = to_planes(slope, self.rank, self.data_format)
            if slope.shape != whole.shape:
                room = torch.zeros_like(whole)
                p.do(room[kept].copy_, slope)
                slope = room
            return from_planes(back(slope), self.rank, self.data_format)

        return from_planes(whole[kept], self.rank, self.data_format), pull

    def _over_the_ends(
        self, x: Tensor, window: tuple[int, ...], steps: tuple[int, ...]
    ) -> tuple[tuple[int, ...], bool, tuple[slice, ...]]:
        """(padding, ceil mode, what is kept): `same` without a padded copy, though torch pads both ends alike.

        Where the odd entry falls to the end, ceil mode lets the last window reach over it; with stride 1 there is no
        such window, so both ends get the larger padding and the first position is left out.
        """
        if self.padding == "valid":
            return (0,) * len(window), False, ()
        ends = [same_padding(*axis) for axis in zip(x.shape[2:], window, steps, strict=True)]
        shift = [int(after > before and step == 1) for (before, after), step in zip(ends, steps, strict=True)]
        padding = tuple(before + extra for (before, _), extra in zip(ends, shift, strict=True))
        kept = (slice(None), slice(None), *(slice(n, None) for n in shift)) if any(shift) else ()
        return padding, any(after > before for before, after in ends), kept

    def pool(
        self, x: Tensor, window: tuple[int, ...], steps: tuple[int, ...], padding: tuple[int, ...], ceil: bool
    ) -> Tensor:
        """The pooled planes (batch, channels, height, width) or volumes."""
        raise NotImplementedError

    def pool_by_hand(
        self,
        p: Program,
        x: Tensor,
        window: tuple[int, ...],
        steps: tuple[int, ...],
        padding: tuple[int, ...],
        ceil: bool,
    ) -> tuple[Tensor, Back]:
        """`pool` as operations of a program, and those that take a gradient back."""
        name, how = self.kernel(window, steps, padding, ceil)
        found = native(name)(x, *how)
        made, *places = found if isinstance(found, tuple) else (found,)
        outs = dict(zip(("out", "indices"), (made, *places), strict=False))
        p.do(native(name, "out"), x, *how, **outs)

        def back(slope: Tensor) -> Tensor:
            # For volumes torch's mean writes as if the channels stood first in memory.
            first = name == "avg_pool3d"
            into = torch.empty(x.shape, dtype=x.dtype, device=x.device) if first else torch.empty_like(x)
            p.do(native(f"{name}_backward", "grad_input"), slope, x, *how, *places, grad_input=into)
            return into

        return made, back

    def kernel(
        self, window: tuple[int, ...], steps: tuple[int, ...], padding: tuple[int, ...], ceil: bool
    ) -> tuple[str, tuple[Any, ...]]:
        """(torch's own operation that pools, what it is told beside its input)."""
        raise NotImplementedError


class MaxPooling(Pooling, abstract=True):
    """The largest value of each window."""

    pool_size: Sizes = one_for_all(2)
    "Size of the window along each axis."

    def pool(
        self, x: Tensor, window: tuple[int, ...], steps: tuple[int, ...], padding: tuple[int, ...], ceil: bool
    ) -> Tensor:
        pool = F.max_pool3d if self.rank == 3 else F.max_pool2d
        return pool(x, window, steps, padding, 1, ceil)

    def kernel(
        self, window: tuple[int, ...], steps: tuple[int, ...], padding: tuple[int, ...], ceil: bool
    ) -> tuple[str, tuple[Any, ...]]:
        name = "max_pool3d_with_indices" if self.rank == 3 else "max_pool2d_with_indices"
        return name, (window, steps, padding, (1,) * len(window), ceil)


class AveragePooling(Pooling, abstract=True):
    """The mean of each window, over the entries that it has inside the input."""

    def pool(
        self, x: Tensor, window: tuple[int, ...], steps: tuple[int, ...], padding: tuple[int, ...], ceil: bool
    ) -> Tensor:
        pool = F.avg_pool3d if self.rank == 3 else F.avg_pool2d
        return pool(x, window, steps, padding, ceil, False)

    def kernel(
        self, window: tuple[int, ...], steps: tuple[int, ...], padding: tuple[int, ...], ceil: bool
    ) -> tuple[str, tuple[Any, ...]]:
        return "avg_pool3d" if self.rank == 3 else "avg_pool2d", (window, steps, padding, ceil, False, None)


class MaxPooling1D(MaxPooling):
    """The largest value of each window of steps.

    https://keras.io/api/layers/pooling_layers/max_pooling1d/

    Shape: (batch, steps, channels) -> (batch, new steps, channels)
    """

    aliases = ("MaxPool1D",)
    rank = 1


class MaxPooling2D(MaxPooling):
    """The largest value of each window of pixels.

    https://keras.io/api/layers/pooling_layers/max_pooling2d/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, channels)
    """

    aliases = ("MaxPool2D",)
    rank = 2


class MaxPooling3D(MaxPooling):
    """The largest value of each window of voxels.

    https://keras.io/api/layers/pooling_layers/max_pooling3d/

    Shape: (batch, depth, height, width, channels) -> (batch, new depth, new height, new width, channels)
    """

    aliases = ("MaxPool3D",)
    rank = 3


class AveragePooling1D(AveragePooling):
    """The mean of each window of steps; padding does not count.

    https://keras.io/api/layers/pooling_layers/average_pooling1d/

    Shape: (batch, steps, channels) -> (batch, new steps, channels)
    """

    aliases = ("AvgPool1D",)
    rank = 1


class AveragePooling2D(AveragePooling):
    """The mean of each window of pixels; padding does not count.

    https://keras.io/api/layers/pooling_layers/average_pooling2d/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, channels)
    """

    aliases = ("AvgPool2D",)
    rank = 2


class AveragePooling3D(AveragePooling):
    """The mean of each window of voxels; padding does not count.

    https://keras.io/api/layers/pooling_layers/average_pooling3d/

    Shape: (batch, depth, height, width, channels) -> (batch, new depth, new height, new width, channels)
    """

    aliases = ("AvgPool3D",)
    rank = 3
    # torch has no kernel for half precision on processors.
    computes_in_full = True
