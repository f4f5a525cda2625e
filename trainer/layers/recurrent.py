"""SimpleRNN, LSTM and GRU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from trainer.activations.base import Activation
from trainer.activations.elementwise import Relu, Sigmoid, Tanh
from trainer.constraints.base import Constraint
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Zeros
from trainer.initializers.random import Orthogonal
from trainer.initializers.variance import GlorotUniform
from trainer.layers import recurrent_gru_kernels, recurrent_kernels
from trainer.layers.base import Layer, Plan, Weights, need_rank
from trainer.layers.recurrent_kernels import Recurrence, whole_sequence
from trainer.lazy import np, torch
from trainer.options import Bool, Int, PositiveInt, ProperFraction
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

_KERAS_ORDER = (
    "units activation recurrent_activation use_bias kernel_initializer recurrent_initializer bias_initializer "
    "unit_forget_bias kernel_regularizer recurrent_regularizer bias_regularizer activity_regularizer "
    "kernel_constraint recurrent_constraint bias_constraint dropout recurrent_dropout seed return_sequences "
    "go_backwards reset_after"
)


class Drops(NamedTuple):
    """Dropout factors of one call, each (batch, features or units): none, one, or one a gate."""

    inputs: Sequence[Tensor] = ()
    state: Sequence[Tensor] = ()


_NO_DROPS = Drops()


class Recurrent(Layer, abstract=True):
    """A layer that reads a sequence step by step and carries a state along."""

    units: PositiveInt
    "Size of the state and of the output."
    activation: Activation = Tanh()
    "Function that makes the new state."
    use_bias: Bool = True
    "Whether a bias is added."
    kernel_initializer: Initializer = GlorotUniform()
    "First values of the kernel that meets the input."
    recurrent_initializer: Initializer = Orthogonal()
    "First values of the kernel that meets the state."
    bias_initializer: Initializer = Zeros()
    "First values of the bias."
    kernel_regularizer: Regularizer | None = None
    "Penalty on the kernel."
    recurrent_regularizer: Regularizer | None = None
    "Penalty on the recurrent kernel."
    bias_regularizer: Regularizer | None = None
    "Penalty on the bias."
    activity_regularizer: Regularizer | None = None
    "Penalty on the output."
    kernel_constraint: Constraint | None = None
    "Projection of the kernel after each update."
    recurrent_constraint: Constraint | None = None
    "Projection of the recurrent kernel after each update."
    bias_constraint: Constraint | None = None
    "Projection of the bias after each update."
    dropout: ProperFraction = 0.0
    "Share of the input features that training drops, the same ones at every step of a call."
    recurrent_dropout: ProperFraction = 0.0
    "Share of the state that training drops on its way into the gates; above 0 the layer runs slower."
    seed: Int | None = None
    "Seed of the dropout alone; by default it follows from the recipe's seed and the layer."
    return_sequences: Bool = False
    "Whether the output holds the state after every step, or after the last one only."
    go_backwards: Bool = False
    "Whether the sequence is read from its end; the output then stands in the order of reading."

    takes_mask = True
    supports_masking = True
    gates: ClassVar[int] = 1
    "How many blocks of `units` columns the kernels have."
    carried: ClassVar[int] = 1
    "How many tensors the state is."
    cell_name: ClassVar[str] = ""
    "Keras's name of the cell, which stands in the paths of the weights."

    @classmethod
    def options(cls) -> list[str]:
        """Option names in Keras's order: what only one of the layers has stands among those of all."""
        order = _KERAS_ORDER.split()
        return sorted(super().options(), key=lambda n: order.index(n) if n in order else len(order))

    def build(self, plan: Plan, shape: Shape) -> Shape:
        need_rank(shape, 3, "(batch, time, features)")
        columns = self.gates * self.units
        for name, inputs in (("kernel", shape[-1]), ("recurrent", self.units)):
            plan.weight(
                "kernel" if name == "kernel" else "recurrent_kernel",
                (inputs, columns),
                getattr(self, f"{name}_initializer"),
                regularizer=getattr(self, f"{name}_regularizer"),
                constraint=getattr(self, f"{name}_constraint"),
                group=self.cell_name,
            )
        plan.weight(
            "bias",
            self.bias_shape(),
            self.bias_start(),
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
            group=self.cell_name,
            when=self.use_bias,
        )
        return (shape[0], shape[1], self.units) if self.return_sequences else (shape[0], self.units)

    def bias_shape(self) -> tuple[int, ...]:
        """Shape of the bias."""
        return (self.gates * self.units,)

    def bias_start(self) -> Initializer:
        """What the bias starts from."""
        return self.bias_initializer

    def compute_mask(self, x: Any, mask: Any) -> Any:
        return mask if self.return_sequences else None

    def forward(self, w: Weights, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.go_backwards:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        drops = self.drops(w, x)
        kind = self.recurrence()
        if kind is None or drops.state or len(drops.inputs) > 1:
            return self.loop(w, x, mask, drops)
        if drops.inputs:
            x = x * drops.inputs[0].unsqueeze(1)
        return whole_sequence(kind, x, mask, self.return_sequences, w.kernel, w.recurrent_kernel, w.bias)

    def recurrence(self) -> Recurrence | None:
        """The whole-sequence form of this layer, None when its activations have none."""
        raise NotImplementedError

    def drops(self, w: Weights, x: Tensor) -> Drops:
        """Draw the dropout of a call; with `recurrent_dropout` each gate has its own, as in Keras."""
        if not w.training or not (self.dropout or self.recurrent_dropout):
            return _NO_DROPS
        random = w.generator(self.seed)
        count = self.gates if self.recurrent_dropout else 1

        def draw(rate: float, size: int) -> list[Tensor]:
            shape = (count if rate else 0, len(x), size)
            kept = torch.rand(shape, generator=random, device=x.device, dtype=x.dtype) >= rate
            return list(kept.to(x.dtype).div_(1 - rate).unbind(0))

        return Drops(draw(self.dropout, x.shape[2]), draw(self.recurrent_dropout, self.units))

    def loop(self, w: Weights, x: Tensor, mask: Tensor | None, drops: Drops = _NO_DROPS) -> Tensor:
        """The plain form, with autograd: any activation, dropout on the state."""
        inputs = self.add_bias(w, _product(x, w.kernel, [drop.unsqueeze(1) for drop in drops.inputs]))
        states = tuple(x.new_zeros(len(x), self.units) for _ in range(self.carried))
        outputs = []
        for t, z in enumerate(inputs.unbind(1)):
            new = self.step(w, z, states, drops.state)
            if mask is not None:
                keep = mask[:, t : t + 1]
                new = tuple(torch.where(keep, now, before) for now, before in zip(new, states, strict=True))
            states = new
            outputs.append(states[0])
        return torch.stack(outputs, 1) if self.return_sequences else outputs[-1]

    def add_bias(self, w: Weights, inputs: Tensor) -> Tensor:
        """The products of all inputs with what is added to them before any step."""
        return inputs if w.bias is None else inputs + w.bias

    def step(self, w: Weights, z: Tensor, states: tuple[Tensor, ...], drops: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The next states, the output first, from the input's products `z` (batch, gates * units)."""
        raise NotImplementedError


def _product(x: Tensor, kernel: Tensor, drops: Sequence[Tensor]) -> Tensor:
    """x @ kernel, where `drops` act on x: one for all gates, or one for the columns of each gate."""
    if len(drops) < 2:
        return (x * drops[0] if drops else x) @ kernel
    blocks = zip(drops, kernel.chunk(len(drops), 1), strict=True)
    return torch.cat([(x * drop) @ block for drop, block in blocks], -1)


class SimpleRNN(Recurrent):
    """Fully connected recurrence: h = activation(x @ kernel + h @ recurrent_kernel + bias).

    https://keras.io/api/layers/recurrent_layers/simple_rnn/

    Shape: (batch, time, features) -> (batch, units), or (batch, time, units) with return_sequences
    """

    cell_name = "simple_rnn_cell"

    def recurrence(self) -> Recurrence | None:
        if isinstance(self.activation, Tanh):
            return recurrent_kernels.SIMPLE_TANH
        return recurrent_kernels.SIMPLE_RELU if isinstance(self.activation, Relu) else None

    def step(self, w: Weights, z: Tensor, states: tuple[Tensor, ...], drops: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (self.activation(z + _product(states[0], w.recurrent_kernel, drops)),)


class Gated(Recurrent, abstract=True):
    """A recurrent layer whose gates decide what the state takes up and keeps."""

    recurrent_activation: Activation = Sigmoid()
    "Function that makes the gates."

    def standard(self) -> bool:
        """Whether the activations are those that the whole-sequence forms know."""
        return isinstance(self.activation, Tanh) and isinstance(self.recurrent_activation, Sigmoid)


class LSTM(Gated):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997).

    i, f, o = recurrent_activation(x @ W + h @ U + b), g = activation(x @ W + h @ U + b), each with its own columns;
    c = f * c + i * g, h = o * activation(c). The columns stand in the order i, f, g, o.
    https://keras.io/api/layers/recurrent_layers/lstm/

    Shape: (batch, time, features) -> (batch, units), or (batch, time, units) with return_sequences
    """

    unit_forget_bias: Bool = True
    "Whether the bias of the forget gate starts at 1 (Jozefowicz et al., 2015)."

    gates = 4
    carried = 2
    cell_name = "lstm_cell"

    def bias_start(self) -> Initializer:
        return _forget_at_one(self.bias_initializer, self.units) if self.unit_forget_bias else self.bias_initializer

    def recurrence(self) -> Recurrence | None:
        return recurrent_kernels.LSTM if self.standard() else None

    def step(self, w: Weights, z: Tensor, states: tuple[Tensor, ...], drops: Sequence[Tensor]) -> tuple[Tensor, ...]:
        h, c = states
        i, f, g, o = (z + _product(h, w.recurrent_kernel, drops)).chunk(4, 1)
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


def _forget_at_one(base: Initializer, units: int) -> Any:
    return ForgetAtOne(base, units)


class GRU(Gated):
    """Gated recurrent unit (Cho et al., 2014).

    z, r = recurrent_activation(x @ W + h @ U + b); g = activation(x @ W + r * (h @ U + b_recurrent) + b), or with
    reset_after false g = activation(x @ W + (r * h) @ U + b); h = z * h + (1 - z) * g. The columns stand in the order
    z, r, g. https://keras.io/api/layers/recurrent_layers/gru/

    Shape: (batch, time, features) -> (batch, units), or (batch, time, units) with return_sequences
    """

    reset_after: Bool = True
    "Whether the reset gate acts after the recurrent product (which then has a bias of its own) or before it."

    gates = 3
    cell_name = "gru_cell"

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def recurrence(self) -> Recurrence | None:
        if not self.standard():
            return None
        return recurrent_gru_kernels.GRU_AFTER if self.reset_after else recurrent_gru_kernels.GRU_BEFORE

    def add_bias(self, w: Weights, inputs: Tensor) -> Tensor:
        if w.bias is None:
            return inputs
        return inputs + (w.bias[0] if self.reset_after else w.bias)

    def step(self, w: Weights, z: Tensor, states: tuple[Tensor, ...], drops: Sequence[Tensor]) -> tuple[Tensor, ...]:
        (h,) = states
        gate = self.recurrent_activation
        to_update, to_reset, to_new = z.chunk(3, 1)
        if self.reset_after:
            recalled = _product(h, w.recurrent_kernel, drops)
            update, reset, new = (recalled if w.bias is None else recalled + w.bias[1]).chunk(3, 1)
            update = gate(to_update + update)
            new = self.activation(to_new + gate(to_reset + reset) * new)
        else:
            both, last = w.recurrent_kernel.split((2 * self.units, self.units), 1)
            update, reset = _product(h, both, drops[:2]).chunk(2, 1)
            update = gate(to_update + update)
            recalled = gate(to_reset + reset) * h
            new = self.activation(to_new + _product(recalled, last, drops[2:]))
        return (update * h + (1 - update) * new,)
