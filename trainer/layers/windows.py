"""What all convolutions share: a kernel that slides along the spatial axes through torch's native kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import field_validator

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
from trainer.layers.sums import ORDER, Biased
from trainer.lazy import F
from trainer.shapes import Shape, same_padding, window_length

if TYPE_CHECKING:
    from torch import Tensor


class Windowed(EitherFormat, abstract=True):
    """A layer whose kernel slides along `rank` axes."""

    kernel_size: Sizes
    "Size of the window along each axis."
    strides: Sizes = one_for_all(1)
    "Steps of the window along each axis."
    dilation_rate: Sizes = one_for_all(1)
    "Distance between the taps of the window along each axis."

    if TYPE_CHECKING:
        padding: str

    @field_validator("kernel_size", "strides", "dilation_rate", mode="before")
    @classmethod
    def _for_each_axis(cls, value: Any) -> Any:
        return for_each_axis(value, cls.rank)

    def strides_or_dilation(self) -> None:
        """Refuse steps and holes at once, as Keras does where torch or TensorFlow have no kernel for both.

        Raises:
            ValueError: strides and dilation_rate are both above 1.
        """
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"strides {list(self.strides)} and dilation_rate {list(self.dilation_rate)} can't both be above 1"
            )

    def slid(self, shape: Shape, filters: int | None) -> Shape:
        """Shape of what `slide` makes of an input of that shape.

        Raises:
            ValueError: the window does not fit, or the input has another rank.
        """
        spatial, _ = split_axes(shape, self.rank, self.data_format)
        windows = zip(spatial, self.kernel_size, self.strides, self.dilation_rate, strict=True)
        made = tuple(window_length(n, k, s, self.padding, d) for n, k, s, d in windows)
        return joined(shape[0], made, filters, self.data_format)

    def slide(self, x: Tensor, kernel: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        """The sums over each window of `x`, for a kernel (*kernel_size, channels of a group, filters)."""
        planes, padding = self._padded(to_planes(x, self.rank, self.data_format))
        strides, dilation = flat(self.strides), flat(self.dilation_rate)
        convolve = F.conv3d if self.rank == 3 else F.conv2d
        made = convolve(planes, torch_kernel(kernel, self.rank), bias, strides, padding, dilation, groups)
        return from_planes(made, self.rank, self.data_format)

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """(planes, zeros on each side that the kernel adds itself); only unequal sides need a padded copy."""
        none = (0,) * (x.dim() - 2)
        if self.padding == "valid":
            return x, none
        if self.padding == "causal":
            return F.pad(x, [self.dilation_rate[0] * (self.kernel_size[0] - 1), 0]), none
        windows = zip(x.shape[2:], *map(flat, (self.kernel_size, self.strides, self.dilation_rate)), strict=True)
        ends = [same_padding(*window) for window in windows]
        if all(before == after for before, after in ends):
            return x, tuple(before for before, _ in ends)
        return F.pad(x, [n for end in reversed(ends) for n in end]), none


class Convolving(Windowed, Biased, abstract=True):
    """activation(sum over the window of x * kernel + bias)."""

    keras_order = f"filters kernel_size strides padding data_format dilation_rate ... {ORDER}"


def torch_kernel(kernel: Tensor, rank: int) -> Tensor:
    """A view of Keras's kernel (spatial axes, a, b) in torch's order (b, a, spatial axes)."""
    if rank == 3:
        return kernel.permute(4, 3, 0, 1, 2)
    return (kernel.unsqueeze(0) if rank == 1 else kernel).permute(3, 2, 0, 1)
