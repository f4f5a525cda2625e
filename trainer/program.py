"""A training step as a row of operations on tensors that are made once: without autograd, without new memory.

Layers, activations, losses and regularizers that know their own gradient say it as operations of a Program (`by_hand`,
beside what they compute). The numbers are those of autograd; what falls away is its bookkeeping, which costs more than
the arithmetic of a small step.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

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
    function: Callable[[Tensor], Any]
    "Fills a tensor."

    def __call__(self) -> None:
        self.function(self.into)


class Known(NamedTuple):
    """That all ids of a step are rows of a table."""

    ids: Tensor
    count: int
    "Rows of the table."
    refused: Callable[[Tensor], Exception]
    "What is raised where some are not."

    def __call__(self) -> None:
        least, most = torch.aminmax(self.ids)
        if least < 0 or most >= self.count:
            raise self.refused(self.ids)


class LookUp(NamedTuple):
    """Rows of a table by their ids, written `into` a tensor."""

    into: Tensor
    table: Tensor
    ids: Tensor
    refused: Callable[[Tensor], Exception]
    "What is raised where some are no rows of it."

    def __call__(self) -> None:
        try:
            torch.index_select(self.table, 0, self.ids, out=self.into)
        except IndexError:
            raise self.refused(self.ids) from None


class Penalizes(Protocol):
    """A regularizer, as far as a program asks."""

    def penalty(self, x: Tensor) -> Tensor:
        """A scalar."""
        ...

    def slope(self, x: Tensor) -> Tensor:
        """Gradient of the penalty."""
        ...

    def factors(self) -> tuple[float, float] | None:
        """(l1, l2) of a penalty l1 sum(|x|) + l2 sum(x^2); None for any other one."""
        ...


class Penalty(NamedTuple):
    """The penalty on a weight, added to a total, and its slope, a part of the weight's gradient."""

    regularizer: Penalizes
    weight: Tensor
    total: Tensor
    gradient: Tensor
    first: bool
    "Whether nothing else is written to the gradient before."

    def __call__(self) -> None:
        self.total.add_(self.regularizer.penalty(self.weight))
        slope = self.regularizer.slope(self.weight)
        if self.first:
            self.gradient.copy_(slope)
        else:
            self.gradient.add_(slope)


class AddUp(NamedTuple):
    """For each row of `into` the sum of the vectors that have its number for an id, in their order."""

    into: Tensor
    vectors: Tensor
    ids: Tensor

    def __call__(self) -> None:
        self.into.zero_().index_add_(0, self.ids, self.vectors)


class Lists(Protocol):
    """Rows of zeros with ones at some places, as lists of the places."""

    def product(self, kernel: Tensor) -> Tensor:
        """rows @ kernel."""
        ...

    def transposed_product(self, slope: Tensor) -> Tensor:
        """transpose(rows) @ slope."""
        ...


class ListProduct(NamedTuple):
    """rows @ kernel, written `into` a tensor."""

    into: Tensor
    rows: Lists
    kernel: Tensor

    def __call__(self) -> None:
        self.into.copy_(self.rows.product(self.kernel))


class ListGradient(NamedTuple):
    """transpose(rows) @ slope, written `into` a tensor."""

    into: Tensor
    rows: Lists
    slope: Tensor

    def __call__(self) -> None:
        self.into.copy_(self.rows.transposed_product(self.slope))


class Reverse(NamedTuple):
    """A sequence (batch, time, ...) from its end, written `into` a tensor."""

    into: Tensor
    sequence: Tensor

    def __call__(self) -> None:
        self.into.copy_(self.sequence.flip(1))


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

    def add(self, operation: Callable[[], Any]) -> None:
        """An operation of a kind of its own."""
        operation()
        self.operations.append(operation)

    def draw(self, into: Tensor, function: Callable[[Tensor], Any]) -> None:
        """An operation that fills a tensor by random numbers that follow from the position in training alone."""
        self.add(Draw(into, function))

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
        self.fill(weight, lambda into: self.do(function, *args, out=into, **options))

    def fill(self, weight: Tensor, add: Callable[[Tensor], Any]) -> None:
        """`add(into)` adds what writes a part of the weight's gradient; nothing happens for a frozen weight."""
        own = self.gradients.get(id(weight))
        if own is None:
            return
        into = torch.empty_like(own) if id(weight) in self._written else own
        add(into)
        if into is not own:
            self.do(own.add_, into)
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

    def penalize(self, regularizer: Penalizes, weight: Tensor, total: Tensor) -> None:
        """Add the penalty on a weight that moves to a total, and its slope to the weight's gradient."""
        key = id(weight)
        self.add(Penalty(regularizer, weight.detach(), total, self.gradients[key], key not in self._written))
        self._written.add(key)

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
