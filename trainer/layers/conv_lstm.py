"""ConvLSTM1D, ConvLSTM2D and ConvLSTM3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from trainer.activations.base import Activation
from trainer.activations.elementwise import Sigmoid
from trainer.initializers.base import Initializer
from trainer.layers.base import Weights
from trainer.layers.plan import Plan
from trainer.layers.recurrent_gates import forget_at_one
from trainer.layers.recurrent_sequences import Sequenced
from trainer.layers.recurrent_steps import (
    NO_DROPS,
    Drops,
    Gates,
    States,
    dropout_of_a_call,
    go_through,
)
from trainer.layers.spatial import AXES, Sizes, flat, from_planes, one_for_all, split_axes, to_planes
from trainer.layers.windows import Windowed, torch_kernel
from trainer.lazy import F, torch
from trainer.options import Bool, PositiveInt
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor


class ConvLSTM(Gates, Windowed, Sequenced, abstract=True):
    """An LSTM whose products are convolutions over `rank` axes (Shi et al., 2015).

    i, f, o = recurrent_activation(x * W + h * U + b), g = activation(x * W + h * U + b), where * is a convolution;
    c = f c + i g, h = o activation(c). The window over the state keeps its size.
    """

    filters: PositiveInt
    "Channels of the output and of the states."
    kernel_size: Sizes
    "Size of both windows along each axis."
    strides: Sizes = one_for_all(1)
    "Steps of the window over the input along each axis."
    padding: Literal["valid", "same"] = "valid"
    "valid: whole windows only; same: zeros at the ends of the input, so that stride 1 keeps the size."
    dilation_rate: Sizes = one_for_all(1)
    "Distance between the taps of the window over the input along each axis."
    recurrent_activation: Activation = Sigmoid()
    "Function that makes the gates."
    unit_forget_bias: Bool = True
    "Whether the bias of the forget gate starts at 1 (Jozefowicz et al., 2015)."
    activity_regularizer: Regularizer | None = None
    "Penalty on the output."

    gates = 4
    carried = 2

    def plan_step(self, plan: Plan, shape: Shape) -> tuple[Shape, list[Shape]]:
        if len(shape) != self.rank + 3:
            first = self.data_format == "channels_first"
            axes = ", ".join(("channels", *AXES[self.rank]) if first else (*AXES[self.rank], "channels"))
            raise ValueError(f"expected input of shape (batch, time, {axes}), found {text(shape)}")
        self.strides_or_dilation()
        one = (shape[0], *shape[2:])
        spatial, channels = split_axes(one, self.rank, self.data_format)
        if None in spatial or channels is None:
            raise ValueError(f"all axes but batch and time must be known, found {text(shape)}")
        columns = 4 * self.filters
        kernel, recurrent = ((*self.kernel_size, inputs, columns) for inputs in (channels, self.filters))
        self.ask(plan, kernel, recurrent, (columns,), "conv_lstm_cell")
        state = self.slid(one, self.filters)
        return state, [state, state]

    def bias_start(self) -> Initializer:
        return forget_at_one(self.bias_initializer, self.filters) if self.unit_forget_bias else self.bias_initializer

    def state_count(self) -> int:
        return 2

    def through(
        self, w: Weights, x: Tensor, mask: Tensor | None, start: States | None, every: bool, final: bool
    ) -> tuple[Tensor, States]:
        state = [x.shape[0], *(n or 0 for n in self.slid((None, *x.shape[2:]), self.filters)[1:])]
        drops = self.drops(w, x, state)
        inputs = self._projected(w, x, drops.inputs)
        first = start or (x.new_zeros(state), x.new_zeros(state))
        own = torch_kernel(w.recurrent_kernel, self.rank)

        def step(z: Tensor, states: States) -> States:
            h, c = states
            i, f, g, o = (z + self._recalled(h, own, drops.state)).chunk(4, self._channels)
            gate = self.recurrent_activation
            c = gate(f) * c + gate(i) * self.activation(g)
            return gate(o) * self.activation(c), c

        return go_through(step, inputs.unbind(1), mask, first, every, start is None)

    @property
    def _channels(self) -> int:
        return 1 if self.data_format == "channels_first" else -1

    def drops(self, w: Weights, x: Tensor, state: Sequence[int]) -> Drops:
        """Draw the dropout of a call: each gate has its own, over places and channels."""
        of_input, of_state = self.rates(w)
        if not (of_input or of_state):
            return NO_DROPS
        random = w.generator(self.seed)
        one = (len(x), *x.shape[2:])
        return Drops(dropout_of_a_call(4, of_input, x, one, random), dropout_of_a_call(4, of_state, x, state, random))

    def _projected(self, w: Weights, x: Tensor, drops: Sequence[Tensor]) -> Tensor:
        """The input's convolution at all steps at once, bias included."""
        if not drops:
            return self.slide(x.flatten(0, 1), w.kernel, w.bias, 1).unflatten(0, x.shape[:2])
        biases = [None] * 4 if w.bias is None else w.bias.chunk(4)
        made = [
            self.slide((x * drop.unsqueeze(1)).flatten(0, 1), kernel, bias, 1)
            for drop, kernel, bias in zip(drops, w.kernel.chunk(4, -1), biases, strict=True)
        ]
        return torch.cat(made, self._channels).unflatten(0, x.shape[:2])

    def _recalled(self, h: Tensor, kernel: Tensor, drops: Sequence[Tensor]) -> Tensor:
        """The state's convolution, whose output is as large as the state."""
        if drops:
            made = [self._same(h * drop, part) for drop, part in zip(drops, kernel.chunk(4, 0), strict=True)]
            return torch.cat(made, self._channels)
        return self._same(h, kernel)

    def _same(self, h: Tensor, kernel: Tensor) -> Tensor:
        planes = to_planes(h, self.rank, self.data_format)
        before = [(k - 1) // 2 for k in flat(self.kernel_size)]
        if all(k % 2 for k in self.kernel_size):
            convolve = F.conv3d if self.rank == 3 else F.conv2d
            made = convolve(planes, kernel, None, 1, before)
        else:
            ends = [n for b, k in zip(before, flat(self.kernel_size), strict=True) for n in (k - 1 - b, b)]
            padded = F.pad(planes, ends[::-1])
            made = F.conv3d(padded, kernel) if self.rank == 3 else F.conv2d(padded, kernel)
        return from_planes(made, self.rank, self.data_format)


class ConvLSTM1D(ConvLSTM):
    """An LSTM whose products are convolutions over the places of each step (Shi et al., 2015).

    https://keras.io/api/layers/recurrent_layers/conv_lstm1d/

    Shape: (batch, time, length, channels) -> (batch, new length, filters), with time when it returns sequences
    """

    rank = 1


class ConvLSTM2D(ConvLSTM):
    """An LSTM whose products are convolutions over the pictures of a film (Shi et al., 2015).

    https://arxiv.org/abs/1506.04214, https://keras.io/api/layers/recurrent_layers/conv_lstm2d/

    Shape: (batch, time, height, width, channels) -> (batch, new height, new width, filters), with time when it
    returns sequences
    """

    rank = 2


class ConvLSTM3D(ConvLSTM):
    """An LSTM whose products are convolutions over a row of volumes (Shi et al., 2015).

    https://keras.io/api/layers/recurrent_layers/conv_lstm3d/

    Shape: (batch, time, depth, height, width, channels) -> (batch, new depth, new height, new width, filters), with
    time when it returns sequences
    """

    rank = 3
