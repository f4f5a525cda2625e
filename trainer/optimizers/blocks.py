"""The weights of one number type: one flat tensor for them all, and one for each thing that is kept for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.lazy import torch
from trainer.optimizers.base import Slots, UpdateRule
from trainer.optimizers.kernels import flatten, kernel

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 1 << 16
"Up to so many weights a new gradient buffer a step is cheaper than Python's part in filling the kept one."
PIECE = 1 << 19
"Weights that are moved at a time on a processor; the numbers are those of all at once."


class Block:
    """Weights of one number type on one device, as views of one flat tensor, `weight`, and what is kept for them.

    `places` are their numbers among all weights.
    """

    def __init__(self, rule: UpdateRule, places: Sequence[int], weights: Sequence[Tensor], paths: Sequence[str]):
        self.rule, self.places, self.parameters = rule, list(places), list(weights)
        self.weight = torch.cat([p.detach().reshape(-1) for p in weights])
        self.sizes = [p.numel() for p in weights]
        for parameter, piece in zip(weights, self.weight.split(self.sizes), strict=True):
            parameter.data = piece.view(parameter.shape)
        self.slots: Slots = {}
        self.each: list[Slots] = [{} for _ in weights]
        for name in rule.slots():
            self._make(name, paths)
        self.average = torch.zeros_like(self.weight) if rule.use_ema else None
        self.accumulator = torch.zeros_like(self.weight) if rule.gradient_accumulation_steps else None
        self._gradient = torch.empty_like(self.weight) if len(self.weight) > SMALL else None

    def _make(self, name: str, paths: Sequence[str]) -> None:
        """A slot as one flat tensor, and as a view of it for each weight that has it."""
        weights = zip(self.parameters, paths, strict=True)
        firsts = [self.rule.first(name, weight.detach(), path) for weight, path in weights]
        there = [(views, first) for views, first in zip(self.each, firsts, strict=True) if first is not None]
        flat = torch.cat([first.reshape(-1) for _, first in there]) if there else self.weight.new_empty(0)
        pieces = flat.split([first.numel() for _, first in there])
        for (views, first), piece in zip(there, pieces, strict=True):
            views[name] = piece.view(first.shape)
        self.slots[name] = flat

    def shared(self) -> Mapping[str, list[Tensor]]:
        """Averages and accumulated gradients, where they are kept, as views for each weight."""
        kept = {"average": self.average, "gradient_accumulator": self.accumulator}
        return {name: self._pieces(flat) for name, flat in kept.items() if flat is not None}

    def _pieces(self, flat: Tensor) -> list[Tensor]:
        return [piece.view(p.shape) for piece, p in zip(flat.split(self.sizes), self.parameters, strict=True)]

    def gradient(self) -> tuple[Tensor, list[Tensor]]:
        """The tensor that keeps the gradient of these weights, and its part for each of them."""
        if self._gradient is None:
            self._gradient = torch.zeros_like(self.weight)
        return self._gradient, self._pieces(self._gradient)

    def gathered(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Gradients of these weights as one tensor, which the next step overwrites."""
        if self._gradient is None:
            return flatten()(gradients)
        return torch.cat([g.reshape(-1) for g in gradients if g is not None], out=self._gradient)

    def norms(self, gradient: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        """The gradient of each weight and their norms."""
        pieces = gradient.split(self.sizes)
        return pieces, torch.stack(kernel("_foreach_norm")(pieces))

    def move(self, gradient: Tensor, rate: float, step: int) -> None:
        """Decay the weights and update them."""
        if self.rule.flat:
            for weight, piece, slots in self._parts(gradient):
                self.rule.decay(weight, slots, rate)
                self.rule.update(weight, piece, slots, rate, step)
            return
        for parameter, piece, slots in zip(self.parameters, gradient.split(self.sizes), self.each, strict=True):
            self.rule.decay(parameter.data, slots, rate)
            self.rule.update(parameter.data, piece.view(parameter.shape), slots, rate, step)

    def _parts(self, gradient: Tensor) -> Iterator[tuple[Tensor, Tensor, Slots]]:
        """Weights, gradient and slots as one, or in pieces: what a rule does in several operations then stays in the
        caches, and what it puts between them takes the memory of a piece."""
        count = len(self.weight)
        if self.rule.one_pass or count <= PIECE or self.weight.device.type != "cpu":
            yield self.weight, gradient, self.slots
            return
        for start in range(0, count, PIECE):
            part = slice(start, start + PIECE)
            yield self.weight[part], gradient[part], {name: slot[part] for name, slot in self.slots.items()}


def blocks_of(rule: UpdateRule, weights: Sequence[Tensor], paths: Sequence[str]) -> list[Block]:
    """A block for each number type, in the order in which they come.

    Raises:
        ValueError: there are no weights, or they are on several devices.
    """
    devices = {w.device for w in weights}
    if len(devices) != 1:
        found = ", ".join(sorted(map(str, devices))) or "none"
        raise ValueError(f"expected trainable weights on one device, found {found}")
    types = list(dict.fromkeys(w.dtype for w in weights))
    places = ([i for i, w in enumerate(weights) if w.dtype == dtype] for dtype in types)
    return [Block(rule, mine, [weights[i] for i in mine], [paths[i] for i in mine]) for mine in places]
