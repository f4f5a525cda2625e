"""Conv1D and Conv2D."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from trainer.activations.base import Activation
from trainer.activations.elementwise import Linear
from trainer.constraints.base import Constraint
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Zeros
from trainer.initializers.variance import GlorotUniform
from trainer.layers.base import Layer, Plan, Weights
from trainer.layers.spatial import (
    DataFormat,
    Sizes,
    flat,
    for_each_axis,
    from_planes,
    joined,
    one_for_all,
    split_axes,
    to_planes,
)
from trainer.lazy import F
from trainer.options import Bool, PositiveInt, complaint
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape, same_padding, window_length

if TYPE_CHECKING:
    from torch import Tensor


class Conv(Layer, abstract=True):
    """A window that slides along `rank` axes: activation(sum over window and channels of x * kernel + bias).

    As everywhere in deep learning it is a cross-correlation: the kernel is not turned round.
    """

    rank: ClassVar[int] = 0
    activates_last = True

    filters: PositiveInt
    "Channels of the output."
    kernel_size: Sizes
    "Size of the window along each axis."
    strides: Sizes = one_for_all(1)
    "Steps of the window along each axis."
    padding: Literal["valid", "same", "causal"] = "valid"
    "valid: whole windows only; same: zeros at the ends, so that stride 1 keeps the size; causal (Conv1D): no future."
    data_format: DataFormat = "channels_last"
    "Where the channels stand: channels_last or channels_first."
    dilation_rate: Sizes = one_for_all(1)
    "Distance between the taps of the window along each axis."
    groups: PositiveInt = 1
    "Groups of channels that are convolved apart from each other."
    activation: Activation = Linear()
    "Function applied to the sum."
    use_bias: Bool = True
    "Whether a bias is added."
    kernel_initializer: Initializer = GlorotUniform()
    "First values of the kernel."
    bias_initializer: Initializer = Zeros()
    "First values of the bias."
    kernel_regularizer: Regularizer | None = None
    "Penalty on the kernel."
    bias_regularizer: Regularizer | None = None
    "Penalty on the bias."
    activity_regularizer: Regularizer | None = None
    "Penalty on the output."
    kernel_constraint: Constraint | None = None
    "Projection of the kernel after each update."
    bias_constraint: Constraint | None = None
    "Projection of the bias after each update."

    @field_validator("kernel_size", "strides", "dilation_rate", mode="before")
    @classmethod
    def _for_each_axis(cls, value: Any) -> Any:
        return for_each_axis(value, cls.rank)

    @field_validator("padding")
    @classmethod
    def _causal_in_time(cls, value: str) -> str:
        if value == "causal" and cls.rank > 1:
            raise complaint('"causal" padding is for Conv1D, which has a time axis', 'use "valid" or "same"')
        return value

    def build(self, plan: Plan, shape: Shape) -> Shape:
        spatial, channels = split_axes(shape, self.rank, self.data_format)
        plan.weight(
            "kernel",
            (*self.kernel_size, self._group_channels(channels), self.filters),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        plan.weight(
            "bias",
            (self.filters,),
            self.bias_initializer,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
            when=self.use_bias,
        )
        windows = zip(spatial, self.kernel_size, self.strides, self.dilation_rate, strict=True)
        made = tuple(window_length(n, k, s, self.padding, d) for n, k, s, d in windows)
        return joined(shape[0], made, self.filters, self.data_format)

    def _group_channels(self, channels: int | None) -> int:
        """Channels that each filter sees.

        Raises:
            ValueError: groups don't divide the channels, or strides and dilation_rate are both above 1.
        """
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                f"strides {list(self.strides)} and dilation_rate {list(self.dilation_rate)} can't both be above 1"
            )
        if self.filters % self.groups:
            raise ValueError(f"filters ({self.filters}) must be a multiple of groups ({self.groups})")
        if channels is None:
            raise ValueError("the number of channels of the input must be known")
        if channels % self.groups:
            raise ValueError(f"the {channels} channels of the input must be a multiple of groups ({self.groups})")
        return channels // self.groups

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        planes, padding = self._padded(to_planes(x, self.rank, self.data_format))
        kernel = w.kernel.unsqueeze(0) if self.rank == 1 else w.kernel
        strides, dilation = flat(self.strides), flat(self.dilation_rate)
        made = F.conv2d(planes, kernel.permute(3, 2, 0, 1), w.bias, strides, padding, dilation, self.groups)
        return self.activation(from_planes(made, self.rank, self.data_format))

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """(planes, zeros on each side that the kernel adds itself); only unequal sides need a padded copy."""
        if self.padding == "valid":
            return x, (0, 0)
        if self.padding == "causal":
            return F.pad(x, [self.dilation_rate[0] * (self.kernel_size[0] - 1), 0]), (0, 0)
        windows = zip(x.shape[2:], *map(flat, (self.kernel_size, self.strides, self.dilation_rate)), strict=True)
        height, width = (same_padding(*window) for window in windows)
        if height[0] == height[1] and width[0] == width[1]:
            return x, (height[0], width[0])
        return F.pad(x, [*width, *height]), (0, 0)


class Conv1D(Conv):
    """Convolution along time: each output step sees `kernel_size` input steps.

    https://keras.io/api/layers/convolution_layers/convolution1d/

    Shape: (batch, steps, channels) -> (batch, new steps, filters)
    """

    aliases = ("Convolution1D",)
    rank = 1


class Conv2D(Conv):
    """Convolution over pictures: each output pixel sees a window of input pixels.

    https://keras.io/api/layers/convolution_layers/convolution2d/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, filters)
    """

    aliases = ("Convolution2D",)
    rank = 2
