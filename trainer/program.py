"""A training step as a row of operations on tensors that are made once: without autograd, without new memory.

Layers, activations, losses and regularizers that know their own gradient say it as operations of a Program (`by_hand`,
beside what they compute). The numbers are those of autograd; what falls away is its bookkeeping, which costs more than
the arithmetic of a small step.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Pull = Callable[["Tensor", Any], Any]
"""Adds the operations that take the gradient at an output back to the weights and, if that is wanted, to the input.

It is given the gradient, which it may overwrite, and whether that of the input is wanted (a list, for a layer of
several inputs); what it gives back (a list likewise) is of no further use to it, and no two of them are one tensor.
"""


class Draw(NamedTuple):
    """Random numbers of a step, which nothing that the step computes has a part in."""

    into: Tensor
    function: Callable[[], Any]

    def __call__(self) -> None:
        self.function()


class Program:
    """Operations, each run once as it is added and then, in order, by every `run`.

    `gradients` says, by number of the weight (`id`), where its gradient is to be written. With several `copies` of a
    model side by side, weights, inputs and all that is made of them have one more axis in front, of that length.
    """

    def __init__(self, gradients: Mapping[int, Tensor], copies: int = 1, *, compiles: bool = False):
        """`compiles`: a layer may be compiled code of its own."""
        self.gradients, self.copies, self.compiles = gradients, copies, compiles
        self._written: set[int] = set()
        self.operations: list[Callable[[], Any]] = []

    def within(self, gradients: Mapping[int, Tensor], *, compiles: bool) -> Program:
        """The same program for a part of it that works on weights of its own, whose gradients go to `gradients`.

        `gradients` may still grow; those of other weights go where they went.
        """
        compiles = compiles and self.compiles
        made = Program(ChainMap(cast("Any", gradients), cast("Any", self.gradients)), self.copies, compiles=compiles)
        made.operations, made._written = self.operations, self._written
        return made

    def wrote(self, weight: Tensor) -> bool:
        """Whether the weight has been given a gradient."""
        return id(weight) in self._written

    def make(self, function: Callable[..., Tensor], *args: Any, **options: Any) -> Tensor:
        """What `function(*args, **options)` gives, written anew into the same tensor by every run."""
        made = function(*args, **options)
        self.operations.append(partial(function, *args, out=made, **options))
        return made

    def do(self, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        """An operation that works in place, or says itself where it writes."""
        function(*args, **options)
        self.operations.append(partial(function, *args, **options))

    def draw(self, into: Tensor, function: Callable[[], Any]) -> None:
        """An operation that fills a tensor by random numbers that follow from the position in training alone."""
        function()
        self.operations.append(Draw(into, function))

    def constant(self, value: float, like: Tensor) -> Tensor:
        """A number as a tensor, which torch takes in half the time of a Python number."""
        return torch.full((), value, dtype=like.dtype, device=like.device)

    def cast(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """A tensor in a number type: itself where it has it, or is none of floating point (nor a tensor, as Bags)."""
        if not isinstance(x, torch.Tensor) or x.dtype == dtype or not x.is_floating_point():
            return x
        made = torch.empty_like(x, dtype=dtype)
        self.do(made.copy_, x)
        return made

    def laid(self, x: Tensor) -> Tensor:
        """`x` with its numbers in a row, so that it can be viewed under other shapes."""
        if x.is_contiguous():
            return x
        row = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        self.do(row.copy_, x)
        return row

    def gradient(self, weight: Tensor, function: Callable[..., Tensor], *args: Any, **options: Any) -> None:
        """`function(*args, **options)` is a part of the weight's gradient; nothing happens for a frozen weight."""
        into = self.gradients.get(id(weight))
        if into is None:
            return
        if id(weight) in self._written:
            self.do(into.add_, self.make(function, *args, **options))
        else:
            self.do(function, *args, out=into, **options)
            self._written.add(id(weight))

    def receiver(self, weight: Tensor) -> Callable[[Tensor], Any] | None:
        """What takes a part of the weight's gradient, once in each run; None for a frozen weight."""
        into = self.gradients.get(id(weight))
        if into is None:
            return None
        if id(weight) in self._written:
            return into.add_
        self._written.add(id(weight))
        return into.copy_

    def complete(self) -> bool:
        """Whether every weight has been given a gradient."""
        return self._written >= set(self.gradients)

    def run(self) -> None:
        """All operations once."""
        for operation in self.operations:
            operation()


@cache
def native(name: str, overload: str = "default") -> Any:
    """One of torch's own operations, such as `threshold_backward`, in one of its forms, such as `grad_input`."""
    return getattr(getattr(torch.ops.aten, name), overload)
