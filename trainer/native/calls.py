"""Calls of the C that stands under this folder: sizes and tensors go there as one structure."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.lazy import torch
from trainer.native.compiler import library
from trainer.native.threads import team

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


@cache
def _library(header: str) -> ctypes.CDLL:
    return library(Path(__file__).with_name(header).read_text(encoding="ascii"))


def get_ready(header: str) -> None:
    """Compile a header.

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """
    _library(header)
    if torch.get_num_threads() > 1:
        team()


@cache
def _structure(sizes: tuple[str, ...], tensors: tuple[str, ...]) -> type[ctypes.Structure]:
    fields = [*((name, ctypes.c_long) for name in sizes), *((name, ctypes.c_void_p) for name in tensors)]
    return type("structure", (ctypes.Structure,), {"_fields_": fields})


class Call:
    """A structure of numbers, then of addresses, and the functions of a header that are given it.

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """

    def __init__(self, header: str, sizes: Mapping[str, int], tensors: Sequence[str]):
        """`tensors` are the names of the addresses, in the structure's order."""
        self.threads = torch.get_num_threads()
        self._team = team() if self.threads > 1 else None
        self._library = _library(header)
        self._given = _structure(tuple(sizes), tuple(tensors))(**{name: int(size) for name, size in sizes.items()})
        self._held: dict[str, Tensor | None] = {}

    def hold(self, **tensors: Tensor | None) -> None:
        """Hand tensors over, which must lie in a row, and keep them."""
        self._held.update(tensors)
        for name, tensor in tensors.items():
            assert tensor is None or tensor.is_contiguous(), name
            setattr(self._given, name, None if tensor is None else tensor.data_ptr())

    def run(self, name: str) -> None:
        """Call a function, with all threads."""
        getattr(self._library, name)(ctypes.byref(self._given), ctypes.c_long(self.threads), self._team)


class BothWays:
    """A layer of one input as two calls of a structure that has `slopes` and `x_slopes`: the way there, and back."""

    overwrites: ClassVar[bool] = False
    "Whether the slopes of the input may take the place of those of the outputs."

    def __init__(self, call: Call, x: Tensor, outputs: Tensor, weights: Sequence[tuple[Tensor | None, Tensor]]):
        """`weights` are with the tensors that the way back fills with their slopes."""
        self.call, self.outputs = call, outputs
        self.x, self._weights = x, list(weights)

    def there(self) -> None:
        """From the input to the outputs."""
        raise NotImplementedError

    def back(self) -> None:
        """From the slopes of the outputs to those of the weights and, where they are wanted, of the input."""
        raise NotImplementedError

    def operations(self, p: Program) -> tuple[Tensor, Pull]:
        """The way there, and what adds the way back."""
        p.do(self.there)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            slope = p.laid(slope)
            made = slope if self.overwrites else torch.empty_like(self.x)
            self.call.hold(slopes=slope, x_slopes=made if wanted else None)
            takes = self._takes(p)
            p.do(self._back_and_over, takes)
            return made if wanted else None

        return self.outputs, pull

    def _takes(self, p: Program) -> list[Callable[[Tensor], Any] | None]:
        """What takes the slopes of each weight."""
        return [None if weight is None else p.receiver(weight) for weight, _ in self._weights]

    def _back_and_over(self, takes: Sequence[Callable[[Tensor], Any] | None]) -> None:
        self.back()
        self._hand_over(takes)

    def _hand_over(self, takes: Sequence[Callable[[Tensor], Any] | None]) -> None:
        for take, (weight, slope) in zip(takes, self._weights, strict=True):
            if take is not None and weight is not None:
                take(slope.view(weight.shape))
