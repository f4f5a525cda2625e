"""LSTM and GRU as compiled code that takes a few rows of the batch through the whole sequence, and back."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer import native
from trainer.lazy import torch
from trainer.native.compiler import library
from trainer.native.threads import team

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull

MOST_WEIGHTS = 1 << 17
"Numbers of both kernels up to which they stay near the processor's cores."
MOST_SEEN = 1024
"Features and units together, up to which some rows of them fit a thread's stack."
_SIZES = ("batch", "time", "features", "units", "every", "backwards")
_TENSORS = (
    *("x", "kernels", "bias", "recurrent_bias", "gates", "states", "carries", "outputs"),
    *("slopes", "turned", "x_slopes"),
    *("sums", "kernel_slopes", "recurrent_slopes", "bias_slopes"),
)


class Native(NamedTuple):
    """A recurrent layer in `native/recurrent.h`."""

    name: str
    gates: int
    "Blocks of columns that the kernels have."
    biases: int
    joined: bool
    "Whether input and state go through one product, and there is a second state."


LSTM = Native("lstm", 4, 1, True)
GRU = Native("gru", 3, 2, False)
"With `reset_after`."


class _Sequence(ctypes.Structure):
    """`struct sequence`."""

    _fields_ = [(name, ctypes.c_long) for name in _SIZES] + [(name, ctypes.c_void_p) for name in _TENSORS]


@cache
def _library() -> ctypes.CDLL:
    return library((Path(native.__path__[0]) / "recurrent.h").read_text(encoding="ascii"))


def get_ready() -> None:
    """Compile what is compiled.

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """
    _library()
    if torch.get_num_threads() > 1:
        team()


def can_be_native(weights: Sequence[Tensor | None]) -> bool:
    """Whether a layer with a kernel, a recurrent kernel and a bias is for compiled code."""
    held = [t for t in weights if t is not None]
    kernels = weights[:2]
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous() for t in held)
    near = sum(len(t) for t in kernels if t is not None) <= MOST_SEEN
    return plain and near and sum(t.numel() for t in kernels if t is not None) <= MOST_WEIGHTS


def native_by_hand(
    p: Program, kind: Native, x: Tensor, every: bool, backwards: bool, weights: Sequence[Any]
) -> tuple[Tensor, Pull]:
    """The layer as operations of a program: the states of every step (batch, time, units), or the last one."""
    return _Layer(kind, p.laid(x), every, backwards, *weights).operations(p)


class _Layer:
    """A layer for batches of one shape: what it keeps between the way there and the way back.

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """

    def __init__(
        self,
        kind: Native,
        x: Tensor,
        every: bool,
        backwards: bool,
        kernel: Tensor,
        recurrent: Tensor,
        bias: Tensor | None,
    ):
        (batch, time, features), units = x.shape, len(recurrent)
        self._threads = torch.get_num_threads()
        self._team = team() if self._threads > 1 else None
        self._forward, self._backward = (getattr(_library(), f"{kind.name}_{way}") for way in ("forward", "backward"))
        self._x, self.weights = x, (kernel, recurrent, bias)
        columns = kind.gates * units
        self.outputs = torch.empty((batch, time, units) if every else (batch, units))
        self.slopes = [torch.empty_like(kernel), torch.empty_like(recurrent), torch.empty(kind.biases, columns)]
        biases = [None, None] if bias is None else [*bias.view(kind.biases, -1), None][:2]
        self._kernels = torch.empty(features + units, columns)
        self._turned = torch.empty(columns, features + units)
        self._held: dict[str, Tensor | None] = {
            "x": x,
            "kernels": self._kernels,
            "bias": biases[0],
            "recurrent_bias": biases[1],
            "gates": torch.empty(time, batch, 4 * units),
            "states": torch.zeros(time + 1, batch, features + units if kind.joined else units),
            "carries": torch.zeros(time + 1, batch, units) if kind.joined else None,
            "outputs": self.outputs,
            "turned": self._turned,
            "sums": torch.empty(self._threads, (features + units + 2) * columns),
            **dict(zip(("kernel_slopes", "recurrent_slopes", "bias_slopes"), self.slopes, strict=True)),
        }
        sizes = zip(_SIZES, (batch, time, features, units, every, backwards), strict=True)
        self._call = _Sequence(**{name: int(size) for name, size in sizes})
        for name, tensor in self._held.items():
            self._hold(name, tensor)

    def operations(self, p: Program) -> tuple[Tensor, Pull]:
        """The way there, and what adds the way back."""
        p.do(self._there)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            made = torch.empty_like(self._x) if wanted else None
            self._hold("slopes", p.laid(slope))
            self._hold("x_slopes", made)
            takes = [None if weight is None else p.receiver(weight) for weight in self.weights]
            p.do(self._back, takes)
            return made

        return self.outputs, pull

    def _hold(self, name: str, tensor: Tensor | None) -> None:
        self._held[name] = tensor
        setattr(self._call, name, None if tensor is None else tensor.data_ptr())

    def _there(self) -> None:
        torch.cat(self.weights[:2], out=self._kernels)
        self._run(self._forward)

    def _run(self, function: Any) -> None:
        function(ctypes.byref(self._call), ctypes.c_long(self._threads), self._team)

    def _back(self, takes: Sequence[Callable[[Tensor], Any] | None]) -> None:
        self._turned.copy_(self._kernels.t())
        self._run(self._backward)
        for take, slope, weight in zip(takes, self.slopes, self.weights, strict=True):
            if take is not None and weight is not None:
                take(slope.view(weight.shape))
