"""The steps of SimpleRNN, LSTM and GRU, for the layers and for their cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.activations.base import Activation
from trainer.activations.elementwise import Relu, Sigmoid, Tanh
from trainer.initializers.base import Initializer
from trainer.layers import recurrent_gru_kernels, recurrent_kernels
from trainer.layers.base import Weights
from trainer.layers.recurrent_kernels import Recurrence
from trainer.layers.recurrent_steps import States, Stepping, product
from trainer.lazy import np
from trainer.options import Bool

if TYPE_CHECKING:
    import numpy
    from torch import Tensor


class SimpleStep(Stepping, abstract=True):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias)."""

    def recurrence(self) -> Recurrence | None:
        if isinstance(self.activation, Tanh):
            return recurrent_kernels.SIMPLE_TANH
        return recurrent_kernels.SIMPLE_RELU if isinstance(self.activation, Relu) else None

    def step(self, w: Weights, z: Tensor, states: States, drops: Sequence[Tensor]) -> States:
        return (self.activation(z + product(states[0], w.recurrent_kernel, drops)),)


class Gated(Stepping, abstract=True):
    """A step whose gates decide what the state takes up and keeps."""

    recurrent_activation: Activation = Sigmoid()
    "Function that makes the gates."

    def standard(self) -> bool:
        """Whether the activations are those that the whole-sequence forms know."""
        return isinstance(self.activation, Tanh) and isinstance(self.recurrent_activation, Sigmoid)


class LstmStep(Gated, abstract=True):
    """The step of an LSTM."""

    unit_forget_bias: Bool = True
    "Whether the bias of the forget gate starts at 1 (Jozefowicz et al., 2015)."

    gates = 4
    carried = 2

    def bias_start(self) -> Initializer:
        return forget_at_one(self.bias_initializer, self.units) if self.unit_forget_bias else self.bias_initializer

    def recurrence(self) -> Recurrence | None:
        return recurrent_kernels.LSTM if self.standard() else None

    def step(self, w: Weights, z: Tensor, states: States, drops: Sequence[Tensor]) -> States:
        h, c = states
        i, f, g, o = (z + product(h, w.recurrent_kernel, drops)).chunk(4, 1)
        gate = self.recurrent_activation
        c = gate(f) * c + gate(i) * self.activation(g)
        return gate(o) * self.activation(c), c


class ForgetAtOne:
    """Starts an LSTM's bias from `base`, but at 1 for the forget gate, the second of four."""

    def __init__(self, base: Initializer, units: int):
        self.base, self.units, self.seed = base, units, getattr(base, "seed", None)

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        """The bias (4 * units,)."""
        first = self.base.values((self.units,), random)
        return np.concatenate([first, np.ones(self.units), self.base.values((2 * self.units,), random)])


def forget_at_one(base: Initializer, units: int) -> Any:
    """`base` as the start of an LSTM's bias whose forget gate begins open."""
    return ForgetAtOne(base, units)


class GruStep(Gated, abstract=True):
    """The step of a GRU."""

    reset_after: Bool = True
    "Whether the reset gate acts after the recurrent product (which then has a bias of its own) or before it."

    gates = 3

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def recurrence(self) -> Recurrence | None:
        if not self.standard():
            return None
        return recurrent_gru_kernels.GRU_AFTER if self.reset_after else recurrent_gru_kernels.GRU_BEFORE

    def input_bias(self, w: Weights) -> Tensor:
        return w.bias[0] if self.reset_after else w.bias

    def step(self, w: Weights, z: Tensor, states: States, drops: Sequence[Tensor]) -> States:
        (h,) = states
        gate = self.recurrent_activation
        to_update, to_reset, to_new = z.chunk(3, 1)
        if self.reset_after:
            recalled = product(h, w.recurrent_kernel, drops)
            update, reset, new = (recalled if w.bias is None else recalled + w.bias[1]).chunk(3, 1)
            update = gate(to_update + update)
            new = self.activation(to_new + gate(to_reset + reset) * new)
        else:
            both, last = w.recurrent_kernel.split((2 * self.units, self.units), 1)
            update, reset = product(h, both, drops[:2]).chunk(2, 1)
            update = gate(to_update + update)
            recalled = gate(to_reset + reset) * h
            new = self.activation(to_new + product(recalled, last, drops[2:]))
        return (update * h + (1 - update) * new,)
