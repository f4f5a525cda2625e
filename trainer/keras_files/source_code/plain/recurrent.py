"""Recurrent layers step by step as Keras has them: any activation, masks, dropout, first and last states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]
Drops = tuple[list[Tensor], list[Tensor]]


def factors(count: int, rate: float, like: Tensor) -> list[Tensor]:
    """`count` dropout factors in the shape of a tensor; none at rate 0."""
    return [(torch.rand_like(like) >= rate).to(like.dtype) / (1 - rate) for _ in range(count if rate else 0)]


def product(x: Tensor, kernel: Tensor, drops: list[Tensor]) -> Tensor:
    """x @ kernel, where dropout acts on x: one factor for all gates, or one for the columns of each."""
    if len(drops) < 2:
        return (x * drops[0] if drops else x) @ kernel
    blocks = zip(drops, kernel.chunk(len(drops), 1), strict=True)
    return torch.cat([(x * drop) @ block for drop, block in blocks], -1)


class RecurrentCell(nn.Module):
    """The weights of one step, with the gates side by side, and the dropout of a call."""

    gates, carried = 1, 1

    def __init__(
        self,
        inputs: int,
        units: int,
        activation: Function = torch.tanh,
        gate: Function = torch.sigmoid,
        bias: tuple[int, ...] | None = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.units, self.activation, self.gate = units, activation, gate
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        self.kernel = nn.Parameter(torch.empty(inputs, self.gates * units))
        self.recurrent_kernel = nn.Parameter(torch.empty(units, self.gates * units))
        self.bias = None if bias is None else nn.Parameter(torch.zeros(bias))

    def begin(self, x: Tensor) -> list[Tensor]:
        """The first states for a step's input: zeros."""
        return [x.new_zeros(x.shape[0], self.units)] * self.carried

    def draw(self, x: Tensor) -> Drops:
        """What dropout leaves of input and state throughout a call."""
        if not self.training:
            return [], []
        count = self.gates if self.recurrent_dropout else 1
        return factors(count, self.dropout, x), factors(count, self.recurrent_dropout, self.begin(x)[0])


class SimpleRNNCell(RecurrentCell):
    """h = activation(x @ kernel + h @ recurrent_kernel + bias)"""

    def forward(self, x: Tensor, states: list[Tensor], drops: Drops) -> tuple[Tensor, list[Tensor]]:
        z = product(x, self.kernel, drops[0])
        z = z if self.bias is None else z + self.bias
        h = self.activation(z + product(states[0], self.recurrent_kernel, drops[1]))
        return h, [h]


class LSTMCell(RecurrentCell):
    """Gates in the order input, forget, new, output: c = f * c + i * g, h = o * activation(c)."""

    gates, carried = 4, 2

    def forward(self, x: Tensor, states: list[Tensor], drops: Drops) -> tuple[Tensor, list[Tensor]]:
        h, c = states
        z = product(x, self.kernel, drops[0]) + product(h, self.recurrent_kernel, drops[1])
        i, f, g, o = (z if self.bias is None else z + self.bias).chunk(4, 1)
        c = self.gate(f) * c + self.gate(i) * self.activation(g)
        h = self.gate(o) * self.activation(c)
        return h, [h, c]


class GRUCell(RecurrentCell):
    """Gates in the order update, reset, new: h = z * h + (1 - z) * g; the reset acts after the recurrent product."""

    gates = 3

    def forward(self, x: Tensor, states: list[Tensor], drops: Drops) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        a, b = product(x, self.kernel, drops[0]), product(h, self.recurrent_kernel, drops[1])
        if self.bias is not None:
            a, b = a + self.bias[0], b + self.bias[1]
        (az, ar, ag), (bz, br, bg) = a.chunk(3, 1), b.chunk(3, 1)
        z = self.gate(az + bz)
        h = z * h + (1 - z) * self.activation(ag + self.gate(ar + br) * bg)
        return h, [h]


class GRUCellBefore(RecurrentCell):
    """A GRU whose reset gate acts on the state before the recurrent product (`reset_after: false`)."""

    gates = 3

    def forward(self, x: Tensor, states: list[Tensor], drops: Drops) -> tuple[Tensor, list[Tensor]]:
        (h,) = states
        a = product(x, self.kernel, drops[0])
        az, ar, ag = (a if self.bias is None else a + self.bias).chunk(3, 1)
        both, new = self.recurrent_kernel.split((2 * self.units, self.units), 1)
        bz, br = product(h, both, drops[1][:2]).chunk(2, 1)
        z = self.gate(az + bz)
        h = z * h + (1 - z) * self.activation(ag + product(self.gate(ar + br) * h, new, drops[1][2:]))
        return h, [h]


class StackedCells(nn.Module):
    """Cells on top of each other as one: each reads what the one below gives."""

    cells: Any

    def __init__(self, *cells: RecurrentCell) -> None:
        super().__init__()
        self.cells = nn.ModuleList(cells)

    def begin(self, x: Tensor) -> list[Tensor]:
        """The first states of all cells."""
        return [state for cell in self.cells for state in cell.begin(x)]

    def draw(self, x: Tensor) -> list[Drops]:
        """The dropout of each cell; those above the first read the state of the one below."""
        below = [x, *(cell.begin(x)[0] for cell in self.cells)]
        return [cell.draw(read) for cell, read in zip(self.cells, below, strict=False)]

    def forward(self, x: Tensor, states: list[Tensor], drops: list[Drops]) -> tuple[Tensor, list[Tensor]]:
        after: list[Tensor] = []
        for cell, drop in zip(self.cells, drops, strict=True):
            own = states[len(after) : len(after) + cell.carried]
            x, new = cell(x, own, drop)
            after += new
        return x, after


class ConvLSTMCell(nn.Module):
    """An LSTM's step whose products are convolutions: `inputs` of the step, `state` of the state, of all gates."""

    carried = 2

    def __init__(
        self,
        inputs: nn.Module,
        state: nn.Module,
        channels: int,
        activation: Function = torch.tanh,
        gate: Function = torch.sigmoid,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.inputs, self.state, self.channels = inputs, state, channels
        self.activation, self.gate = activation, gate
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout

    def begin(self, x: Tensor) -> list[Tensor]:
        """The first states for a step's input: zeros."""
        return [torch.zeros_like(self.inputs(x).chunk(4, self.channels)[0])] * 2

    def draw(self, x: Tensor) -> Drops:
        """No factors: dropout is left out."""
        return [], []

    def forward(self, x: Tensor, states: list[Tensor], drops: Drops) -> tuple[Tensor, list[Tensor]]:
        h, c = states
        i, f, g, o = (self.inputs(x) + self.state(h)).chunk(4, self.channels)
        c = self.gate(f) * c + self.gate(i) * self.activation(g)
        h = self.gate(o) * self.activation(c)
        return h, [h, c]


class Recurrent(nn.Module):
    """Takes a cell over a sequence (batch, time, ...); a masked step keeps the states and the output before it.

    It gives the outputs of all steps, or the last one, and behind them the last states if asked.
    """

    cell: Any

    def __init__(
        self,
        cell: nn.Module,
        sequences: bool = False,
        states: bool = False,
        backwards: bool = False,
        zero_masked: bool = False,
    ) -> None:
        super().__init__()
        self.cell, self.sequences, self.states = cell, sequences, states
        self.backwards, self.zero_masked = backwards, zero_masked

    def forward(self, x: Tensor, *start: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        if self.backwards:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        states = list(start) or self.cell.begin(x[:, 0])
        drops = self.cell.draw(x[:, 0])
        outputs: list[Tensor] = []
        for t, step in enumerate(x.unbind(1)):
            out, new = self.cell(step, states, drops)
            if mask is not None:
                keep = mask[:, t].reshape(-1, *(1,) * (out.dim() - 1))
                out = torch.where(keep, out, outputs[-1] if outputs else 0.0)
                new = [torch.where(keep, now, before) for now, before in zip(new, states, strict=True)]
            states = new
            outputs.append(out)
        made = torch.stack(outputs, 1) if self.sequences else outputs[-1]
        if self.zero_masked and mask is not None:
            seen = mask if self.sequences else mask[:, -1]
            made = made * seen.reshape(*seen.shape, *(1,) * (made.dim() - seen.dim()))
        return (made, *states) if self.states else made


class Bidirectional(nn.Module):
    """A layer that reads forwards and one that reads backwards; the outputs are those of both, step by step."""

    backwards: Any

    def __init__(self, forwards: nn.Module, backwards: nn.Module, merge: str | None = "concat") -> None:
        super().__init__()
        self.forwards, self.backwards, self.merge = forwards, backwards, merge

    def forward(self, x: Tensor, *start: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        half = len(start) // 2
        made = self.forwards(x, *start[:half], mask=mask), self.backwards(x, *start[half:], mask=mask)
        (a, *states), (b, *others) = ([m] if isinstance(m, Tensor) else m for m in made)
        b = b.flip(1) if self.backwards.sequences else b
        merged = [a, b] if self.merge is None else [self.merged(a, b)]
        whole = [*merged, *states, *others]
        return tuple(whole) if len(whole) > 1 else whole[0]

    def merged(self, a: Tensor, b: Tensor) -> Tensor:
        """Both outputs as one."""
        if self.merge == "concat":
            return torch.cat([a, b], -1)
        if self.merge == "mul":
            return a * b
        return a + b if self.merge == "sum" else (a + b) / 2
