"""LSTM and GRU as compiled code that takes a few rows of the batch through the whole sequence, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trainer.lazy import torch
from trainer.native.calls import BothWays, Call

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull

HEADER = "recurrent.h"
MOST_WEIGHTS = 1 << 17
"Numbers of both kernels up to which they stay near the processor's cores."
MOST_SEEN = 1024
"Features and units together, up to which some rows of them fit a thread's stack."
LANES, SLOTS = 16, 4
"Units that are taken together, and the numbers that each of them has."
_SIZES = ("batch", "time", "features", "units", "every", "backwards")
_TENSORS = (
    *("x", "kernel", "recurrent", "bias", "recurrent_bias"),
    *("panels", "turned", "gates", "states", "carries", "outputs", "slopes"),
    *("x_slopes", "sums", "kernel_slopes", "recurrent_slopes", "bias_slopes"),
)


class Native(NamedTuple):
    """A recurrent layer in `native/recurrent.h`."""

    name: str
    gates: int
    "Blocks of columns that the kernels have."
    biases: int
    carries: bool
    "Whether there is a second state."


LSTM = Native("lstm", 4, 1, True)
GRU = Native("gru", 3, 2, False)
"With `reset_after`."


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


class _Layer(BothWays):
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
        columns = kind.gates * units
        sizes = zip(_SIZES, (batch, time, features, units, every, backwards), strict=True)
        call = Call(HEADER, dict(sizes), _TENSORS)
        outputs = torch.empty((batch, time, units) if every else (batch, units))
        slopes = [torch.empty_like(kernel), torch.empty_like(recurrent), torch.empty(kind.biases, columns)]
        biases = [None, None] if bias is None else [*bias.view(kind.biases, -1), None][:2]
        super().__init__(call, x, outputs, list(zip((kernel, recurrent, bias), slopes, strict=True)))
        self._name = kind.name
        padded = -(-units // LANES) * LANES
        call.hold(
            x=x,
            kernel=kernel.detach(),
            recurrent=recurrent.detach(),
            bias=biases[0],
            recurrent_bias=biases[1],
            panels=torch.zeros(features + units, SLOTS * padded),
            turned=torch.zeros(SLOTS * padded, -(-features // LANES) * LANES + padded),
            gates=torch.empty(time, batch, SLOTS * padded),
            states=torch.zeros(time + 1, batch, padded),
            carries=torch.zeros(time + 1, batch, padded) if kind.carries else None,
            outputs=outputs,
            sums=torch.empty(call.threads, features + units + 1, SLOTS * padded),
            **dict(zip(("kernel_slopes", "recurrent_slopes", "bias_slopes"), slopes, strict=True)),
        )

    def there(self) -> None:
        self.call.run(f"{self._name}_forward")

    def back(self) -> None:
        self.call.run(f"{self._name}_backward")
