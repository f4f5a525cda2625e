"""What all convolutions share: a kernel that slides along the spatial axes through torch's native kernels."""

from __future__ import annotations

from collections.abc import Sequence
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
from trainer.lazy import F, torch
from trainer.program import native
from trainer.shapes import Shape, same_padding, window_length

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


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
        planes = to_planes(x, self.rank, self.data_format)
        ends, padding = self._ends(planes)
        strides, dilation = flat(self.strides), flat(self.dilation_rate)
        convolve = F.conv3d if self.rank == 3 else F.conv2d
        padded = F.pad(planes, ends) if any(ends) else planes
        made = convolve(padded, straight(torch_kernel(kernel, self.rank)), bias, strides, padding, dilation, groups)
        return from_planes(made, self.rank, self.data_format)

    def slide_by_hand(
        self, p: Program, x: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None, groups: int
    ) -> tuple[Tensor, Pull]:
        """`slide` as operations of a program; `kernel` is a view of the weight that is meant."""
        planes = to_planes(x, self.rank, self.data_format)
        ends, padding = self._ends(planes)
        room, inside = padded_by_hand(p, planes, ends)
        how = (flat(self.strides), padding, flat(self.dilation_rate), groups)
        made, back = convolved(p, room, weight, torch_kernel(kernel, self.rank), bias, *how)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            found = back(to_planes(slope, self.rank, self.data_format), wanted)
            return None if found is None else from_planes(found[inside], self.rank, self.data_format)

        return from_planes(made, self.rank, self.data_format), pull

    def _ends(self, x: Tensor) -> tuple[list[int], tuple[int, ...]]:
        """(zeros for a padded copy, as `pad` takes them, zeros on each side that the kernel adds itself).

        Only unequal sides need a copy.
        """
        none = (0,) * (x.dim() - 2)
        if self.padding == "valid":
            return [], none
        if self.padding == "causal":
            return [self.dilation_rate[0] * (self.kernel_size[0] - 1), 0], none
        windows = zip(x.shape[2:], *map(flat, (self.kernel_size, self.strides, self.dilation_rate)), strict=True)
        ends = [same_padding(*window) for window in windows]
        if all(before == after for before, after in ends):
            return [], tuple(before for before, _ in ends)
        return [n for end in reversed(ends) for n in end], none


class Convolving(Windowed, Biased, abstract=True):
    """activation(sum over the window of x * kernel + bias)."""

    keras_order = f"filters kernel_size strides padding data_format dilation_rate ... {ORDER}"

    def activated(self, p: Program, made: Tensor, pull: Pull) -> tuple[Tensor, Pull] | None:
        """The activation of sums and the way back through both; None for an activation without one."""
        found = self.activation.by_hand(p, made)
        if found is None:
            return None
        out, back = found
        return out, lambda slope, wanted: pull(back(slope), wanted)


def padded_by_hand(p: Program, x: Tensor, ends: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    """(`x` with zeros before and after its last axes, as `pad` takes them, where `x` lies in it)."""
    pairs = [(0, 0)] * (x.dim() - len(ends) // 2) + list(zip(ends[::2], ends[1::2], strict=True))[::-1]
    inside = tuple(slice(before, before + n) for (before, _), n in zip(pairs, x.shape, strict=True))
    if not any(ends):
        return x, inside
    room = F.pad(x, list(ends))
    p.do(room[inside].copy_, x)
    return room, inside


def convolved(
    p: Program,
    x: Tensor,
    weight: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    strides: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    longer: Sequence[int] | None = None,
) -> tuple[Tensor, Pull]:
    """torch's convolution of planes or volumes as operations of a program; `kernel` is a view of the weight.

    `longer` is the output_padding of a transposed one.
    """
    how = (strides, padding, dilation, longer is not None, longer or [0] * len(strides), groups)

    def forward() -> Tensor:
        return torch.convolution(x, kernel, bias, *how)

    made = forward()
    p.do(lambda: made.copy_(forward()))

    def pull(slope: Tensor, wanted: bool) -> Tensor | None:
        take, take_bias = p.receiver(weight), None if bias is None else p.receiver(bias)
        asked = [wanted, take is not None, take_bias is not None]
        sizes = [made.shape[1]]
        found = torch.empty_like(x) if wanted else None

        def back() -> None:
            slopes = native("convolution_backward")(slope, x, straight(kernel), sizes, *how, asked)
            if found is not None:
                found.copy_(slopes[0])
            if take is not None:
                take(keras_kernel(slopes[1]).reshape(weight.shape))
            if take_bias is not None:
                take_bias(slopes[2])

        if any(asked):
            p.do(back)
        return found

    return made, pull


def straight(kernel: Tensor) -> Tensor:
    """The kernel, laid anew in types in which torch can't always go back to a turned view on a processor."""
    return kernel.contiguous() if kernel.dtype in (torch.float16, torch.float64) else kernel


def keras_kernel(kernel: Tensor) -> Tensor:
    """A view of torch's kernel (b, a, spatial axes) in Keras's order (spatial axes, a, b)."""
    return kernel.permute(*range(2, kernel.dim()), 1, 0)


def torch_kernel(kernel: Tensor, rank: int) -> Tensor:
    """A view of Keras's kernel (spatial axes, a, b) in torch's order (b, a, spatial axes)."""
    if rank == 3:
        return kernel.permute(4, 3, 0, 1, 2)
    return (kernel.unsqueeze(0) if rank == 1 else kernel).permute(3, 2, 0, 1)
