"""What recurrent layers and their cells share: options, weights, dropout, and the way through a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from trainer.activations.base import Activation
from trainer.activations.elementwise import Tanh
from trainer.constraints.base import Constraint
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Zeros
from trainer.initializers.random import Orthogonal
from trainer.initializers.variance import GlorotUniform
from trainer.layers.base import Layer, Weights
from trainer.layers.plan import Plan
from trainer.layers.recurrent_fused import has_kernel
from trainer.layers.recurrent_kernels import Recurrence, is_fused, whole_sequence
from trainer.layers.recurrent_native import Native, can_be_native, native_sequence
from trainer.layers.sums import ask
from trainer.lazy import torch
from trainer.options import Bool, Int, PositiveInt, ProperFraction
from trainer.regularizers.base import Regularizer

if TYPE_CHECKING:
    from torch import Tensor

States = tuple["Tensor", ...]


class Drops(NamedTuple):
    """Dropout factors of one call, each in the shape of a step's input or state: none, one, or one a gate."""

    inputs: Sequence[Tensor] = ()
    state: Sequence[Tensor] = ()


NO_DROPS = Drops()


def dropout_of_a_call(count: int, rate: float, like: Tensor, shape: Sequence[int], random: Any) -> list[Tensor]:
    """`count` tensors of that shape: 0 with probability `rate`, 1 / (1 - rate) otherwise; none at rate 0."""
    drawn = (count if rate else 0, *shape)
    kept = torch.rand(drawn, generator=random, device=like.device, dtype=like.dtype) >= rate
    return list(kept.to(like.dtype).div_(1 - rate).unbind(0))


def product(x: Tensor, kernel: Tensor, drops: Sequence[Tensor]) -> Tensor:
    """x @ kernel, where `drops` act on x: one for all gates, or one for the columns of each gate."""
    if len(drops) < 2:
        return (x * drops[0] if drops else x) @ kernel
    blocks = zip(drops, kernel.chunk(len(drops), 1), strict=True)
    return torch.cat([(x * drop) @ block for drop, block in blocks], -1)


def go_through(
    step: Callable[[Tensor, States], States],
    inputs: Sequence[Tensor],
    mask: Tensor | None,
    start: States,
    every: bool,
    fresh: bool,
) -> tuple[Tensor, States]:
    """(output of each step, or of the last one; last states) with autograd.

    A masked step keeps states and output; before the first step that counts the output is zero, which is the state
    when that is `fresh`.
    """
    states, outputs = start, [torch.zeros_like(start[0])]
    for t, z in enumerate(inputs):
        new = step(z, states)
        out = new[0]
        if mask is not None:
            keep = mask[:, t].reshape(-1, *(1,) * (out.dim() - 1))
            new = tuple(torch.where(keep, now, before) for now, before in zip(new, states, strict=True))
            out = new[0] if fresh else torch.where(keep, out, outputs[-1])
        states = new
        outputs.append(out)
    return torch.stack(outputs[1:], 1) if every else outputs[-1], states


class Gates(Layer, abstract=True):
    """Options of everything whose step has a kernel for the input and one for the state."""

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

    gates: ClassVar[int] = 1
    "How many blocks of columns the kernels have."
    carried: ClassVar[int] = 1
    "How many tensors the state is."
    keras_order: ClassVar[str] = (
        "units filters kernel_size strides padding data_format dilation_rate activation recurrent_activation use_bias "
        "kernel_initializer recurrent_initializer bias_initializer unit_forget_bias kernel_regularizer "
        "recurrent_regularizer bias_regularizer activity_regularizer kernel_constraint recurrent_constraint "
        "bias_constraint dropout recurrent_dropout seed return_sequences return_state go_backwards stateful unroll "
        "reset_after zero_output_for_mask"
    )
    "What only one of the classes has stands among the options of all."

    def ask(
        self, plan: Plan, kernel: tuple[int | None, ...], recurrent: tuple[int, ...], bias: tuple[int, ...], group: str
    ) -> None:
        """Ask for both kernels and the bias."""
        ask(plan, self, "kernel", kernel, group=group)
        ask(plan, self, "recurrent", recurrent, name="recurrent_kernel", group=group)
        ask(plan, self, "bias", bias, initializer=self.bias_start(), group=group, when=self.use_bias)

    def bias_start(self) -> Initializer:
        """What the bias starts from."""
        return self.bias_initializer

    def rates(self, w: Weights) -> tuple[float, float]:
        """What is dropped of input and state in this phase."""
        return (self.dropout, self.recurrent_dropout) if w.training else (0.0, 0.0)


class Stepping(Gates, abstract=True):
    """The mathematics of a layer or cell whose state is `units` numbers."""

    units: PositiveInt
    "Size of the state and of the output."

    def weights(self, plan: Plan, features: int | None, group: str = "") -> None:
        """Ask for the weights; `group` is the cell's name in their paths."""
        columns = self.gates * self.units
        self.ask(plan, (features, columns), (self.units, columns), self.bias_shape(), group)

    def bias_shape(self) -> tuple[int, ...]:
        """Shape of the bias."""
        return (self.gates * self.units,)

    def recurrence(self) -> Recurrence | None:
        """The whole-sequence form, None when the activations have none."""
        raise NotImplementedError

    def native(self, w: Weights, *, alone: bool) -> Native | None:
        """The layer as compiled code; `alone`: no kernel of torch's could take the whole sequence."""
        kind = self.recurrence()
        native = None if kind is None else kind.native
        weights = (w.kernel, w.recurrent_kernel, w.bias)
        return native if native is not None and can_be_native(native, weights, alone=alone) else None

    def compiles_for_autograd(self, w: Weights, masked: bool, trains: bool) -> str:
        kind = self.recurrence()
        rivalled = kind is not None and has_kernel(kind.fused, w.kernel.device, w.kernel.dtype)
        native = self.native(w, alone=masked or bool(self.recurrent_dropout) or not rivalled)
        return "" if native is None else native.header

    def drops(self, w: Weights, x: Tensor) -> Drops:
        """Draw the dropout of a call; with `recurrent_dropout` each gate has its own, as in Keras."""
        of_input, of_state = self.rates(w)
        if not (of_input or of_state):
            return NO_DROPS
        random = w.generator(self.seed)
        count = self.gates if self.recurrent_dropout else 1
        return Drops(
            dropout_of_a_call(count, of_input, x, (len(x), x.shape[-1]), random),
            dropout_of_a_call(count, of_state, x, (len(x), self.units), random),
        )

    def through(
        self, w: Weights, x: Tensor, mask: Tensor | None, start: States | None, every: bool, final: bool
    ) -> tuple[Tensor, States]:
        """(outputs of all steps or of the last one, last states if `final`) for a sequence (batch, time, features)."""
        drops, kind, weights = self.drops(w, x), self.recurrence(), (w.kernel, w.recurrent_kernel, w.bias)
        once = len(drops.inputs) == 1
        dropped = x * drops.inputs[0].unsqueeze(1) if once else x
        native = None
        if w.compiles and kind is not None and not torch.compiler.is_compiling():
            native = self.native(w, alone=bool(drops.state) or not is_fused(kind, x, mask))
        if native is not None and all(t.dtype == torch.float32 for t in (x, *(start or ()))) and x.numel():
            each = (() if once else drops.inputs, drops.state)
            return native_sequence(native, dropped, mask, start or (), every, weights, each)
        if kind is None or drops.state or len(drops.inputs) > 1:
            return self.loop(w, x, mask, drops, start, every)
        if torch.compiler.is_compiling() and (mask is not None or kind.fused is None):
            # What follows a model to export it can't look into kernels of our own.
            return self.loop(w, x, mask, drops, start, every)
        if kind.fused is not None and (torch.compiler.is_compiling() or is_fused(kind, x, mask)):
            outputs, last = kind.fused(dropped, start, *weights)
            return outputs if every else last[0], last
        # The other whole-sequence forms begin at zero and give back the first of the states alone.
        if start is not None or (final and self.carried > 1):
            return self.loop(w, x, mask, drops, start, every)
        out = whole_sequence(kind, dropped, mask, every, *weights)
        return out, ((out[:, -1] if every else out,) if final else ())

    def loop(
        self,
        w: Weights,
        x: Tensor,
        mask: Tensor | None,
        drops: Drops = NO_DROPS,
        start: States | None = None,
        every: bool = False,
    ) -> tuple[Tensor, States]:
        """The plain form, with autograd: any activation, any first state, dropout on the state."""
        inputs = self.projected(w, x, [drop.unsqueeze(1) for drop in drops.inputs]).unbind(1)
        first = start or tuple(x.new_zeros(x.shape[0], self.units) for _ in range(self.carried))
        return go_through(
            lambda z, states: self.step(w, z, states, drops.state), inputs, mask, first, every, start is None
        )

    def projected(self, w: Weights, x: Tensor, drops: Sequence[Tensor]) -> Tensor:
        """The products of inputs with the kernel, and what is added to them before any step."""
        inputs = product(x, w.kernel, drops)
        return inputs if w.bias is None else inputs + self.input_bias(w)

    def input_bias(self, w: Weights) -> Tensor:
        """The part of the bias that is added to the input's products."""
        return w.bias

    def step(self, w: Weights, z: Tensor, states: States, drops: Sequence[Tensor]) -> States:
        """The next states, the output first, from the input's products `z` (batch, gates * units)."""
        raise NotImplementedError
