"""DepthwiseConv and SeparableConv: each channel convolved by itself, and what mixes the channels afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainer.constraints.base import Constraint
from trainer.initializers.base import Initializer
from trainer.initializers.variance import GlorotUniform
from trainer.layers.base import Weights
from trainer.layers.plan import Plan
from trainer.layers.spatial import from_planes, split_axes, to_planes
from trainer.layers.sums import ask
from trainer.layers.windows import Convolving, convolved, torch_kernel
from trainer.lazy import F
from trainer.options import PositiveInt
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


class Depthwise(Convolving, abstract=True):
    """A window over each channel by itself: filter c * depth_multiplier + i sees channel c alone."""

    padding: Literal["valid", "same"] = "valid"
    "valid: whole windows only; same: zeros at the ends, so that stride 1 keeps the size."
    depth_multiplier: PositiveInt = 1
    "Filters for each channel."

    def channels(self, shape: Shape) -> int:
        """Channels of the input.

        Raises:
            ValueError: they are unknown, or the input has another rank.
        """
        _, channels = split_axes(shape, self.rank, self.data_format)
        if channels is None:
            raise ValueError("the number of channels of the input must be known")
        return channels

    def slide_apart(self, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        """The sums for a kernel (*kernel_size, channels, depth_multiplier): as many groups as channels."""
        return self.slide(x, _apart(kernel), bias, kernel.shape[-2])

    def slide_apart_by_hand(
        self, p: Program, x: Tensor, kernel: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Pull]:
        """`slide_apart` as operations of a program."""
        return self.slide_by_hand(p, x, kernel, _apart(kernel), bias, kernel.shape[-2])


def _apart(kernel: Tensor) -> Tensor:
    """A view of the kernel in which each filter sees a channel of its own."""
    return kernel.flatten(-2).unsqueeze(-2)


class DepthwiseConv(Depthwise, abstract=True):
    """activation(sum over the window of one channel * kernel + bias)."""

    depthwise_initializer: Initializer = GlorotUniform()
    "First values of the kernel."
    depthwise_regularizer: Regularizer | None = None
    "Penalty on the kernel."
    depthwise_constraint: Constraint | None = None
    "Projection of the kernel after each update."

    keras_order = Convolving.keras_order.replace("padding", "padding depth_multiplier")

    def build(self, plan: Plan, shape: Shape) -> Shape:
        channels = self.channels(shape)
        filters = channels * self.depth_multiplier
        ask(plan, self, "depthwise", (*self.kernel_size, channels, self.depth_multiplier), name="kernel")
        ask(plan, self, "bias", (filters,), when=self.use_bias)
        return self.slid(shape, filters)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return self.activation(self.slide_apart(x, w.kernel, w.bias))

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        return self.activated(p, *self.slide_apart_by_hand(p, x, w.kernel, w.bias))


class DepthwiseConv1D(DepthwiseConv):
    """Convolution along time of each channel by itself.

    https://keras.io/api/layers/convolution_layers/depthwise_convolution1d/

    Shape: (batch, steps, channels) -> (batch, new steps, channels * depth_multiplier)
    """

    rank = 1


class DepthwiseConv2D(DepthwiseConv):
    """Convolution over pictures of each channel by itself.

    https://keras.io/api/layers/convolution_layers/depthwise_convolution2d/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, channels * depth_multiplier)
    """

    rank = 2


class SeparableConv(Depthwise, abstract=True):
    """A depthwise convolution, then a pointwise one that mixes its channels: a kernel in two factors.

    activation(sum over channels of depthwise(x) * pointwise kernel + bias), after Chollet 2017, "Xception".
    """

    filters: PositiveInt
    "Channels of the output."
    depth_multiplier: PositiveInt = 1
    "Depthwise filters for each channel."
    depthwise_initializer: Initializer = GlorotUniform()
    "First values of the depthwise kernel."
    pointwise_initializer: Initializer = GlorotUniform()
    "First values of the pointwise kernel."
    depthwise_regularizer: Regularizer | None = None
    "Penalty on the depthwise kernel."
    pointwise_regularizer: Regularizer | None = None
    "Penalty on the pointwise kernel."
    depthwise_constraint: Constraint | None = None
    "Projection of the depthwise kernel after each update."
    pointwise_constraint: Constraint | None = None
    "Projection of the pointwise kernel after each update."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        channels = self.channels(shape)
        apart, ones = channels * self.depth_multiplier, (1,) * self.rank
        ask(plan, self, "depthwise", (*self.kernel_size, channels, self.depth_multiplier), name="depthwise_kernel")
        ask(plan, self, "pointwise", (*ones, apart, self.filters), name="pointwise_kernel")
        ask(plan, self, "bias", (self.filters,), when=self.use_bias)
        return self.slid(shape, self.filters)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        apart = to_planes(self.slide_apart(x, w.depthwise_kernel), self.rank, self.data_format)
        mixed = F.conv2d(apart, torch_kernel(w.pointwise_kernel, self.rank), w.bias)
        return self.activation(from_planes(mixed, self.rank, self.data_format))

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        apart, first = self.slide_apart_by_hand(p, x, w.depthwise_kernel)
        planes, kernel = to_planes(apart, self.rank, self.data_format), torch_kernel(w.pointwise_kernel, self.rank)
        made, second = convolved(p, planes, w.pointwise_kernel, kernel, w.bias, (1, 1), (0, 0), (1, 1), 1)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            mixed = second(to_planes(slope, self.rank, self.data_format), True)
            return first(from_planes(mixed, self.rank, self.data_format), wanted)

        return self.activated(p, from_planes(made, self.rank, self.data_format), pull)


class SeparableConv1D(SeparableConv):
    """Convolution along time in two factors: each channel by itself, then across channels.

    https://keras.io/api/layers/convolution_layers/separable_convolution1d/

    Shape: (batch, steps, channels) -> (batch, new steps, filters)
    """

    aliases = ("SeparableConvolution1D",)
    rank = 1


class SeparableConv2D(SeparableConv):
    """Convolution over pictures in two factors: each channel by itself, then across channels.

    https://keras.io/api/layers/convolution_layers/separable_convolution2d/

    Shape: (batch, height, width, channels) -> (batch, new height, new width, filters)
    """

    aliases = ("SeparableConvolution2D",)
    rank = 2
