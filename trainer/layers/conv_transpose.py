"""Conv1DTranspose, Conv2DTranspose and Conv3DTranspose: convolution turned round, from few entries to more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import field_validator, model_validator

from trainer.layers.base import Weights
from trainer.layers.plan import Plan
from trainer.layers.spatial import (
    Margins,
    Sizes,
    flat,
    for_each_axis,
    from_planes,
    joined,
    one_for_all,
    split_axes,
    to_planes,
)
from trainer.layers.sums import Kerneled, ask
from trainer.layers.windows import Convolving, convolved, straight, torch_kernel
from trainer.lazy import F, torch
from trainer.options import PositiveInt, complaint, raise_all
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


def crops(window: int, stride: int, padding: str, extra: int | None) -> tuple[int, int]:
    """Entries cut from each end of the (n - 1) * stride + window sums; a negative end is lengthened by zeros.

    `extra` is the output_padding. `same` without one makes n * stride entries of n, with one
    (n - 1) * stride + window % 2 + extra; `valid` keeps every sum, and at least `stride` for each entry.
    """
    if padding == "valid":
        return 0, -(max(stride - window, 0) if extra is None else extra)
    kept = stride + window - 2 if extra is None else window + window % 2 - 2 + extra
    before = min((kept + 1) // 2, window - 1)
    return window - 1 - before, window - 1 - (kept - before)


class ConvTranspose(Convolving, Kerneled, abstract=True):
    """Each entry spreads a kernel over the output, `strides` apart; activation(sum of what they spread + bias).

    It is the gradient of a convolution with respect to its input, used as a layer (Zeiler et al. 2010,
    "Deconvolutional networks").
    """

    filters: PositiveInt
    "Channels of the output."
    strides: Sizes = one_for_all(1)
    "How far apart neighbours spread their windows, along each axis; the output grows by as much."
    padding: Literal["valid", "same"] = "valid"
    "valid: all that the windows reach; same: cut at the ends to strides times the input's size."
    output_padding: Margins | None = None
    "Entries added at the end of each axis, below strides; by default as many as `padding` promises."

    keras_order = Convolving.keras_order.replace("padding", "padding output_padding")

    @field_validator("output_padding", mode="before")
    @classmethod
    def _margin_for_each_axis(cls, value: Any) -> Any:
        return for_each_axis(value, cls.rank, least=0)

    @model_validator(mode="after")
    def _padding_below_strides(self) -> Self:
        if any(extra >= step for extra, step in zip(self.output_padding or (), self.strides, strict=False)):
            found, steps = list(self.output_padding or ()), list(self.strides)
            message = f"expected output_padding below strides {steps} on every axis, found {found}"
            raise_all([(complaint(message), ("output_padding",))])
        return self

    def ends(self) -> list[tuple[int, int]]:
        """What is cut from the ends of each axis."""
        extras = self.output_padding or (None,) * self.rank
        axes = zip(self._spans(), self.strides, extras, strict=True)
        return [crops(span, step, self.padding, extra) for span, step, extra in axes]

    def _spans(self) -> list[int]:
        """Entries from the first tap of the window to its last, along each axis."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation_rate, strict=True)]

    def build(self, plan: Plan, shape: Shape) -> Shape:
        spatial, channels = split_axes(shape, self.rank, self.data_format)
        self.strides_or_dilation()
        if channels is None:
            raise ValueError("the number of channels of the input must be known")
        ask(plan, self, "kernel", (*self.kernel_size, self.filters, channels))
        ask(plan, self, "bias", (self.filters,), when=self.use_bias)
        axes = zip(spatial, self.strides, self._spans(), self.ends(), strict=True)
        made = tuple(None if n is None else (n - 1) * step + span - sum(ends) for n, step, span, ends in axes)
        if 0 in made:
            raise ValueError(f"padding: same and output_padding leave nothing of an input of {list(spatial)} entries")
        return joined(shape[0], made, self.filters, self.data_format)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        zeros, longer, kept = self._cut()
        spread = F.conv_transpose3d if self.rank == 3 else F.conv_transpose2d
        planes, kernel = to_planes(x, self.rank, self.data_format), straight(torch_kernel(w.kernel, self.rank))
        made = spread(planes, kernel, w.bias, flat(self.strides), zeros, longer, 1, flat(self.dilation_rate))
        return self.activation(from_planes(made[kept], self.rank, self.data_format))

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        zeros, longer, kept = self._cut()
        planes, kernel = to_planes(x, self.rank, self.data_format), torch_kernel(w.kernel, self.rank)
        how = (flat(self.strides), zeros, flat(self.dilation_rate), 1, longer)
        whole, back = convolved(p, planes, w.kernel, kernel, w.bias, *how)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            slope = to_planes(slope, self.rank, self.data_format)
            if slope.shape != whole.shape:
                room = torch.zeros_like(whole)
                p.do(room[kept].copy_, slope)
                slope = room
            found = back(slope, wanted)
            return None if found is None else from_planes(found, self.rank, self.data_format)

        return self.activated(p, from_planes(whole[kept], self.rank, self.data_format), pull)

    def _cut(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[slice, ...]]:
        """(what torch cuts from both ends alike, by how much it lengthens the last one, what is kept of that)."""
        ends = [(0, 0)] * (2 - self.rank) + self.ends()
        spare = [max(after - before, 0) for before, after in ends]
        zeros, longer = tuple(b for b, _ in ends), tuple(max(before - after, 0) for before, after in ends)
        return zeros, longer, (slice(None), slice(None), *(slice(None, -n if n else None) for n in spare))


class Conv1DTranspose(ConvTranspose):
    """Transposed convolution along time: each step spreads over `kernel_size` output steps.

    https://keras.io/api/layers/convolution_layers/convolution1d_transpose/

    Shape: (batch, steps, channels) -> (batch, new steps, filters)
    """

    aliases = ("Convolution1DTranspose",)
    rank = 1


class Conv2DTranspose(ConvTranspose):
    """Transposed convolution over pictures: each pixel spreads over a window of output pixels.

    https://keras.io/api/layers/convolution_layers/convolution2d_transpose/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, filters)
    """

    aliases = ("Convolution2DTranspose",)
    rank = 2


class Conv3DTranspose(ConvTranspose):
    """Transposed convolution over volumes: each voxel spreads over a window of output voxels.

    https://keras.io/api/layers/convolution_layers/convolution3d_transpose/

    Shape: (batch, depth, height, width, channels) -> (batch, new depth, new height, new width, filters)
    """

    aliases = ("Convolution3DTranspose",)
    rank = 3
    # In Keras this class alone has data_format before output_padding.
    keras_order = Convolving.keras_order.replace("data_format", "data_format output_padding")
