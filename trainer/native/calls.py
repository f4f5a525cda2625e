"""Calls of the C that stands under this folder: sizes and tensors go there as one structure."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

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

    def addresses(self, name: str) -> tuple[int, int]:
        """Where the function of a thread's share lies, and the structure that it is given."""
        function = ctypes.cast(getattr(self._library, f"{name}_share"), ctypes.c_void_p)
        return function.value or 0, ctypes.addressof(self._given)


class Run(NamedTuple):
    """A call as an operation of a program."""

    call: Call
    name: str

    def __call__(self) -> None:
        self.call.run(self.name)


class BothWays:
    """A layer of one input as two calls of a structure that has `slopes` and `x_slopes`: the way there, and back."""

    overwrites: ClassVar[bool] = False
    "Whether the slopes of the input may take the place of those of the outputs."

    def __init__(
        self, name: str, call: Call, x: Tensor, outputs: Tensor, weights: Sequence[tuple[Tensor | None, Tensor]]
    ):
        """The calls are `name`_forward and `name`_backward; `weights` are with the tensors that the latter fills."""
        self.call, self.outputs = call, outputs
        self.x, self._weights = x, list(weights)
        self._there, self._back = Run(call, f"{name}_forward"), Run(call, f"{name}_backward")

    def before_there(self) -> Iterable[tuple[Tensor, Tensor]]:
        """(to, from): what is copied before the way there."""
        return ()

    def before_back(self) -> Iterable[tuple[Tensor, Tensor]]:
        """(to, from): what is copied before the way back."""
        return ()

    def there(self) -> None:
        """From the input to the outputs."""
        for to, source in self.before_there():
            to.copy_(source)
        self._there()

    def back(self) -> None:
        """From the slopes of the outputs to those of the weights and, where they are wanted, of the input."""
        for to, source in self.before_back():
            to.copy_(source)
        self._back()

    def operations(self, p: Program) -> tuple[Tensor, Pull]:
        """The way there, and what adds the way back."""
        for to, source in self.before_there():
            p.do(to.copy_, source)
        p.add(self._there)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            slope = p.laid(slope)
            made = slope if self.overwrites else torch.empty_like(self.x)
            self.call.hold(slopes=slope, x_slopes=made if wanted else None)
            self.add_back(p)
            return made if wanted else None

        return self.outputs, pull

    def add_back(self, p: Program) -> None:
        """The way back as operations, to the gradients of the weights that have one."""
        for to, source in self.before_back():
            p.do(to.copy_, source)
        p.add(self._back)
        for weight, slopes in self._weights:
            take = None if weight is None else p.receiver(weight)
            if take is not None and weight is not None:
                p.do(take, slopes.view(weight.shape))
