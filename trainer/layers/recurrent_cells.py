"""SimpleRNNCell, LSTMCell, GRUCell, StackedRNNCells, and RNN, which takes cells over a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from trainer.activations.base import Activation
from trainer.layers.base import Layer, Weights, need_rank
from trainer.layers.nested import described, inner_name, inner_names, named
from trainer.layers.plan import Plan
from trainer.layers.recurrent_gates import GruStep, LstmStep, SimpleStep
from trainer.layers.recurrent_sequences import Sequenced, check_given, first_and_rest
from trainer.layers.recurrent_steps import States, Stepping
from trainer.options import complaint
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor


class RecurrentCell(Layer, abstract=True):
    """One step of a recurrence, from a step's input and the states before it to the output and the states after it."""

    reads_several = True

    def state_sizes(self) -> list[int]:
        """Sizes of the states."""
        raise NotImplementedError

    def output_size(self) -> int:
        """Size of the output."""
        return self.state_sizes()[0]

    def plan_cell(self, plan: Plan, shape: Shape) -> None:
        """Ask for the weights, for a step's input of that shape."""
        raise NotImplementedError

    def through(
        self, w: Weights, x: Tensor, mask: Tensor | None, start: States | None, every: bool, final: bool
    ) -> tuple[Tensor, States]:
        """(outputs of all steps or of the last one, last states if `final`) for a whole sequence."""
        raise NotImplementedError

    def build(self, plan: Plan, shape: Any) -> Any:
        one, given = first_and_rest(shape)
        states = [(one[0], size) for size in self.state_sizes()]
        if not given:
            raise ValueError(
                f"expected a step and its states; in a model, write {{RNN: {{cell: {type(self).__name__}}}}}"
            )
        need_rank(one, 2, "(batch, features)")
        check_given(given, states)
        self.plan_cell(plan, one)
        return [(one[0], self.output_size()), *states]

    def forward(self, w: Weights, x: Any) -> list[Tensor]:
        one, states = first_and_rest(x)
        out, new = self.through(w, one.unsqueeze(1), None, tuple(states), False, True)
        return [out, *new]


class SteppingCell(Stepping, RecurrentCell, abstract=True):
    """The step of a recurrent layer by itself."""

    def state_sizes(self) -> list[int]:
        return [self.units] * self.carried

    def plan_cell(self, plan: Plan, shape: Shape) -> None:
        self.weights(plan, shape[-1])


class SimpleRNNCell(SimpleStep, SteppingCell):
    """A step of SimpleRNN: h = activation(x @ kernel + h @ recurrent_kernel + bias).

    https://keras.io/api/layers/recurrent_layers/simple_rnn_cell/

    Shape: (batch, features), (batch, units) -> (batch, units), (batch, units)
    """


class LSTMCell(LstmStep, SteppingCell):
    """A step of LSTM (Hochreiter and Schmidhuber, 1997); the states are h and c.

    https://keras.io/api/layers/recurrent_layers/lstm_cell/

    Shape: (batch, features), (batch, units), (batch, units) -> (batch, units), (batch, units), (batch, units)
    """


class GRUCell(GruStep, SteppingCell):
    """A step of GRU (Cho et al., 2014).

    https://keras.io/api/layers/recurrent_layers/gru_cell/

    Shape: (batch, features), (batch, units) -> (batch, units), (batch, units)
    """

    keras_order = Stepping.keras_order.replace(" seed", "").replace("reset_after", "reset_after seed")


def _need_cell(value: Layer) -> Layer:
    if not isinstance(value, RecurrentCell):
        name = type(value).__name__
        hint = f"write {name}Cell" if f"{name}Cell" in Layer.catalogue else "cells are SimpleRNNCell, LSTMCell, GRUCell"
        raise complaint(f"expected a cell, found {name}", hint)
    return value


class StackedRNNCells(RecurrentCell):
    """Cells one on top of the other, as one cell: each reads what the one before it gives.

    The states are those of the first cell, then those of the second, and so on.
    https://keras.io/api/layers/recurrent_layers/stacked_rnn_cell/

    Shape: (batch, features), states -> (batch, units of the last cell), states
    """

    cells: tuple[Layer, ...]
    "The cells, the first to read the input first."

    @field_validator("cells")
    @classmethod
    def _are_cells(cls, value: tuple[Layer, ...]) -> tuple[Layer, ...]:
        if not value:
            raise complaint("expected at least one cell, found none")
        given = [cell.name for cell in value if cell.name]
        if len(set(given)) < len(given):
            raise complaint("two of the cells have one name", "give each a name of its own, or none")
        return tuple(_need_cell(cell) for cell in value)

    def _cells(self) -> list[RecurrentCell]:
        return [cell for cell in self.cells if isinstance(cell, RecurrentCell)]

    @property
    def activation(self) -> Activation | None:
        """The last cell's, for checks of the loss."""
        return getattr(self.cells[-1], "activation", None)

    def keras_config(self) -> dict[str, Any]:
        cells = [described(cell, name, self) for cell, name in zip(self.cells, inner_names(self.cells), strict=True)]
        return {**super().keras_config(), "cells": cells}

    def state_sizes(self) -> list[int]:
        return [size for cell in self._cells() for size in cell.state_sizes()]

    def output_size(self) -> int:
        return self._cells()[-1].output_size()

    def plan_cell(self, plan: Plan, shape: Shape) -> None:
        for number, (cell, name) in enumerate(zip(self._cells(), inner_names(self.cells), strict=True)):
            states = [(shape[0], size) for size in cell.state_sizes()]
            shape = plan.child(f"cell_{number}", named(cell, name), [shape, *states])[0]

    def through(
        self, w: Weights, x: Tensor, mask: Tensor | None, start: States | None, every: bool, final: bool
    ) -> tuple[Tensor, States]:
        """Cell by cell over the whole sequence: what a masked step gives to the next cell is masked there too."""
        states: list[Tensor] = []
        given = list(start or ())
        cells = self._cells()
        for number, cell in enumerate(cells):
            count = len(cell.state_sizes())
            own, given = given[:count], given[count:]
            inner, whole = getattr(w, f"cell_{number}"), every or number < len(cells) - 1
            x, new = cell.through(inner, x, mask, tuple(own) or None, whole, final)
            states += new
        return x, tuple(states)


class RNN(Sequenced):
    """Takes a cell over a sequence; a list of cells is a stack of them.

    RNN with an LSTMCell computes what LSTM does, just as fast; a stack goes cell by cell over the whole sequence.
    https://keras.io/api/layers/recurrent_layers/rnn/

    Shape: (batch, time, features) -> (batch, units), or (batch, time, units) with return_sequences
    """

    keras_order = "cell"

    cell: Layer
    "The cell, or a list of cells that stand on top of each other."

    @field_validator("cell", mode="before")
    @classmethod
    def _stack(cls, value: Any) -> Any:
        return {"StackedRNNCells": {"cells": value}} if isinstance(value, (list, tuple)) else value

    @field_validator("cell")
    @classmethod
    def _is_cell(cls, value: Layer) -> Layer:
        return _need_cell(value)

    @property
    def activation(self) -> Activation | None:
        """The cell's, for checks of the loss."""
        return getattr(self.cell, "activation", None)

    def keras_config(self) -> dict[str, Any]:
        return {**super().keras_config(), "cell": described(self.cell, inner_name(self.cell), self)}

    def _cell(self) -> RecurrentCell:
        assert isinstance(self.cell, RecurrentCell)
        return self.cell

    def plan_step(self, plan: Plan, shape: Shape) -> tuple[Shape, list[Shape]]:
        need_rank(shape, 3, "(batch, time, features)")
        states = [(shape[0], size) for size in self._cell().state_sizes()]
        output, *states = plan.child("cell", named(self._cell()), [(shape[0], shape[2]), *states])
        return output, states

    def state_count(self) -> int:
        return len(self._cell().state_sizes())

    def through(
        self, w: Weights, x: Tensor, mask: Tensor | None, start: States | None, every: bool, final: bool
    ) -> tuple[Tensor, States]:
        return self._cell().through(w.cell, x, mask, start, every, final)
