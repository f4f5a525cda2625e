"""Conv1D, Conv2D and Conv3D."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import field_validator

from trainer.activations.elementwise import Linear, Relu
from trainer.layers.base import Layer, Weights
from trainer.layers.conv_native import HEADER, PooledConvolution, can_be_native
from trainer.layers.plan import Plan
from trainer.layers.pooling import MaxPooling1D, MaxPooling2D
from trainer.layers.spatial import split_axes
from trainer.layers.sums import Kerneled, ask
from trainer.layers.windows import Convolving
from trainer.lazy import torch
from trainer.options import PositiveInt, complaint
from trainer.shapes import Shape, same_padding, window_length

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


class Conv(Convolving, Kerneled, abstract=True):
    """A window that slides along `rank` axes: activation(sum over window and channels of x * kernel + bias).

    As everywhere in deep learning it is a cross-correlation: the kernel is not turned round.
    """

    filters: PositiveInt
    "Channels of the output."
    padding: Literal["valid", "same", "causal"] = "valid"
    "valid: whole windows only; same: zeros at the ends, so that stride 1 keeps the size; causal (Conv1D): no future."
    groups: PositiveInt = 1
    "Groups of channels that are convolved apart from each other."

    casts_inside = compiles_typed = True

    @field_validator("padding")
    @classmethod
    def _causal_in_time(cls, value: str) -> str:
        if value == "causal" and cls.rank > 1:
            raise complaint('"causal" padding is for Conv1D, which has a time axis', 'use "valid" or "same"')
        return value

    def build(self, plan: Plan, shape: Shape) -> Shape:
        _, channels = split_axes(shape, self.rank, self.data_format)
        ask(plan, self, "kernel", (*self.kernel_size, self._group_channels(channels), self.filters))
        ask(plan, self, "bias", (self.filters,), when=self.use_bias)
        return self.slid(shape, self.filters)

    def _group_channels(self, channels: int | None) -> int:
        """Channels that each filter sees.

        Raises:
            ValueError: groups don't divide the channels, or strides and dilation_rate are both above 1.
        """
        self.strides_or_dilation()
        if self.filters % self.groups:
            raise ValueError(f"filters ({self.filters}) must be a multiple of groups ({self.groups})")
        if channels is None:
            raise ValueError("the number of channels of the input must be known")
        if channels % self.groups:
            raise ValueError(f"the {channels} channels of the input must be a multiple of groups ({self.groups})")
        return channels // self.groups

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return self.activation(self.slide(x, w.kernel, w.bias, self.groups))

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        return self.activated(p, *self.slide_by_hand(p, x, w.kernel, w.kernel, w.bias, self.groups))

    def by_hand_with(
        self, p: Program, w: Weights, x: Tensor, after: Layer, its: Weights, mask: Tensor | None
    ) -> tuple[Tensor, Pull] | None:
        both = self._pooled(w, x, after, p.laid)
        return None if both is None else self.activated(p, *both.operations(p))

    def forward_with(self, w: Weights, x: Tensor, after: Layer, its: Weights, mask: Tensor | None) -> Tensor | None:
        both = self._pooled(w, x, after, torch.Tensor.contiguous)
        if both is None:
            return None
        both.there()
        return self.activation(both.outputs)

    def _pooled(self, w: Weights, x: Tensor, after: Layer, lay: Callable[[Tensor], Tensor]) -> PooledConvolution | None:
        """This layer and the pooling after it for batches like `x`, which `lay` puts in a row, without the activation.

        None where each goes alone.
        """
        if not self.compiles(w, after) or x.dtype != w.kernel.dtype:
            return None
        assert isinstance(after, (MaxPooling1D, MaxPooling2D))
        axes = list(zip(x.shape[1:-1], self.kernel_size, after.pool_size, strict=True))
        out = [(window_length(n, k, 1, self.padding) or 0) // pool for n, k, pool in axes]
        if not all(out):
            return None
        before = [same_padding(n, k, 1, 1)[0] if self.padding == "same" else 0 for n, k, _ in axes]
        return PooledConvolution(lay(x), w.kernel, w.bias, after.pool_size, before, out)

    def compiles(self, w: Weights, after: Layer | None) -> str:
        """With the largest of windows that do not overlap, before an activation that keeps which is the largest."""
        if not isinstance(after, (MaxPooling1D, MaxPooling2D)) or after.rank != self.rank:
            return ""
        whole = after.steps == after.pool_size and after.padding == "valid"
        typed = after.dtype == self.dtype in (None, "float32", "mixed_bfloat16")
        plain = {*self.strides, *self.dilation_rate, self.groups} == {1} and self.padding != "causal"
        plain = plain and self.data_format == after.data_format == "channels_last"
        fits = whole and typed and plain and isinstance(self.activation, (Relu, Linear))
        return HEADER if fits and can_be_native(w.kernel, w.bias, after.pool_size) else ""


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


class Conv3D(Conv):
    """Convolution over volumes: each output voxel sees a window of input voxels.

    https://keras.io/api/layers/convolution_layers/convolution3d/

    Shape: (batch, depth, height, width, channels) -> (batch, new depth, new height, new width, filters)
    """

    aliases = ("Convolution3D",)
    rank = 3
