"""A graph of kernels without a GPU: what torch is asked for is noted once and done again on the same tensors.

As in a CUDA graph, only tensors and generators connect one playing with the next: a number that Python computed, or
that was read off a tensor, stays as it was at the recording. What a GPU refuses during a recording is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

REFUSED = ("_local_scalar_dense", "nonzero", "lift_fresh", "masked_select", "unique", "_unique2", "bincount", "equal")
"Operations that wait for the GPU, or bring numbers from the host."


class Notes(TorchDispatchMode):
    """Notes every operation with what it was given and what it made."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[tuple[int, Tensor]]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in REFUSED:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        # As they are now: an operation may change how a tensor lies in its memory (`squeeze_`), which is done once.
        held = tree_map_only(Tensor, Tensor.detach, (args, kwargs))
        found = func(*args, **kwargs)
        if torch.Tag.inplace_view not in func.tags:
            given = {t.untyped_storage().data_ptr() for t in tree_leaves(held) if isinstance(t, Tensor)}
            made = list(enumerate(tree_leaves(found)))
            own = [(i, t.detach()) for i, t in made if isinstance(t, Tensor)]
            fresh = [(i, t) for i, t in own if t.untyped_storage().data_ptr() not in given]
            self.made.append((func, *held, fresh))
        return found


class NotedTape:
    """A Tape for the CPU."""

    def __init__(self, device: torch.device):
        self.notes = Notes()

    def rehearse(self, function: Callable[[], Any]) -> None:
        function()

    def record(self, function: Callable[[], Any], generators: Sequence[Generator]) -> Any:
        with self.notes:
            return function()

    def play(self) -> None:
        with torch.enable_grad(), torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, fresh in self.notes.made:
                found = tree_leaves(func(*args, **kwargs))
                for place, tensor in fresh:
                    tensor.copy_(found[place])
