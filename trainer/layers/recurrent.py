"""SimpleRNN, LSTM and GRU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from trainer.layers.base import Layer, Weights, Words, need_rank
from trainer.layers.plan import Plan
from trainer.layers.recurrent_gates import GruStep, LstmStep, SimpleStep
from trainer.layers.recurrent_kernels import is_fused, sequence_by_hand
from trainer.layers.recurrent_native import Native, native_by_hand, native_of_words, native_sequence_of_words
from trainer.layers.recurrent_sequences import Sequenced, several_given, turned
from trainer.layers.recurrent_steps import Stepping
from trainer.lazy import torch
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


MOST_WORDS = 16
"Words for each id of a batch from which on their places take longer to note than the vectors to look up."


class Recurrent(Stepping, Sequenced, abstract=True):
    """A layer that is its own cell."""

    activity_regularizer: Regularizer | None = None
    "Penalty on the output."

    compiles_typed = True

    cell_name: ClassVar[str] = ""
    "Keras's name of the cell, which stands in the paths of the weights."

    def plan_step(self, plan: Plan, shape: Shape) -> tuple[Shape, list[Shape]]:
        need_rank(shape, 3, "(batch, time, features)")
        self.weights(plan, shape[-1], self.cell_name)
        state = (shape[0], self.units)
        return state, [state] * self.carried

    def state_count(self) -> int:
        return self.carried

    def by_hand(self, p: Program, w: Weights, x: Any) -> tuple[Tensor, Pull] | None:
        """For the compiled and the whole-sequence forms; oneDNN's LSTM has its own way back, which autograd knows."""
        kind = self.recurrence()
        if kind is None or not self._goes_through() or several_given(x):
            return None
        found = self._compiled(p, w, x, None)
        if found is not None or is_fused(kind, x, None):
            return found
        return sequence_by_hand(p, kind, x, self.return_sequences, self.go_backwards, _weights(w))

    def by_hand_masked(self, p: Program, w: Weights, x: Any, mask: Any) -> tuple[Tensor, Pull] | None:
        """For the compiled form alone."""
        plain = self._goes_through() and not several_given(x) and mask.dim() == 2
        return self._compiled(p, w, x, mask) if plain else None

    def _compiled(self, p: Program, w: Weights, x: Any, mask: Tensor | None) -> tuple[Tensor, Pull] | None:
        native = self.native(w, alone=mask is not None) if p.compiles else None
        if native is None or x.dtype != torch.float32 or not x.numel():
            return None
        made = native_by_hand(p, native, x, mask, self.return_sequences, self.go_backwards, _weights(w))
        return self._zeroed(p, *made, mask)

    def _zeroed(self, p: Program, made: Tensor, pull: Pull, mask: Tensor | None) -> tuple[Tensor, Pull]:
        """With zeros at masked steps, where that is said."""
        if mask is None or not self.zero_output_for_mask:
            return made, pull
        seen = turned(p, mask) if self.go_backwards else mask
        seen = (seen if self.return_sequences else seen[:, -1]).unsqueeze(-1)
        zero = p.constant(0.0, made)

        def back(slope: Tensor, wanted: bool) -> Tensor | None:
            return pull(p.make(torch.where, seen, slope, zero), wanted)

        return p.make(torch.where, seen, made, zero), back

    def looked_up_by_hand(self, p: Program, w: Weights, words: Words) -> tuple[Tensor, Pull] | None:
        native = self._of_words(w, words) if p.compiles else None
        if native is None:
            return None
        made = native_of_words(p, native, words, self.return_sequences, self.go_backwards, _weights(w))
        return self._zeroed(p, *made, words.mask)

    def looked_up(self, w: Weights, words: Words) -> Tensor | None:
        native = self._of_words(w, words)
        if native is None:
            return None
        made = native_sequence_of_words(native, words, self.return_sequences, self.go_backwards, _weights(w))
        mask = words.mask.flip(1) if words.mask is not None and self.go_backwards else words.mask
        return self.zeros_where_masked(made, mask)

    def _of_words(self, w: Weights, words: Words) -> Native | None:
        """The layer as compiled code, where that may look vectors up."""
        plain = words.ids.dim() == 2 and self._goes_through() and len(words.table) <= MOST_WORDS * words.ids.numel()
        return self.native(w, alone=words.mask is not None) if plain else None

    def compiles(self, w: Weights, after: Layer | None) -> str:
        native = self.native(w, alone=False)
        return "" if native is None else native.header

    def computes_in(self, w: Weights, dtype: torch.dtype) -> torch.dtype:
        """float32 where it is compiled code, which knows nothing else."""
        compiled = w.compiles and bool(self.compiles_for_autograd(w, w.masked, True))
        return torch.promote_types(dtype, torch.float32) if compiled else dtype

    def _goes_through(self) -> bool:
        """Whether a step needs nothing but its input and the state before it."""
        return not (self.dropout or self.recurrent_dropout or self.return_state or self.stateful)


def _weights(w: Weights) -> tuple[Tensor, Tensor, Tensor | None]:
    return w.kernel, w.recurrent_kernel, w.bias


class SimpleRNN(SimpleStep, Recurrent):
    """Fully connected recurrence: h = activation(x @ kernel + h @ recurrent_kernel + bias).

    The last state is h. https://keras.io/api/layers/recurrent_layers/simple_rnn/

    Shape: (batch, time, features) -> (batch, units), or (batch, time, units) with return_sequences
    """

    cell_name = "simple_rnn_cell"
    keras_order = Stepping.keras_order.replace(" seed", "") + " seed"


class LSTM(LstmStep, Recurrent):
    """Reads a sequence with a memory that gates keep, write and read: long short-term memory.

    Hochreiter and Schmidhuber, 1997.

    i, f, o = recurrent_activation(x @ W + h @ U + b), g = activation(x @ W + h @ U + b), each with its own columns;
    c = f * c + i * g, h = o * activation(c). The columns stand in the order i, f, g, o; the last states are h and c.
    https://keras.io/api/layers/recurrent_layers/lstm/

    Shape: (batch, time, features) -> (batch, units), or (batch, time, units) with return_sequences
    """

    cell_name = "lstm_cell"


class GRU(GruStep, Recurrent):
    """Reads a sequence with a state that gates keep or renew: gated recurrent unit (Cho et al., 2014).

    z, r = recurrent_activation(x @ W + h @ U + b); g = activation(x @ W + r * (h @ U + b_recurrent) + b), or with
    reset_after false g = activation(x @ W + (r * h) @ U + b); h = z * h + (1 - z) * g. The columns stand in the order
    z, r, g; the last state is h. https://keras.io/api/layers/recurrent_layers/gru/

    Shape: (batch, time, features) -> (batch, units), or (batch, time, units) with return_sequences
    """

    cell_name = "gru_cell"
