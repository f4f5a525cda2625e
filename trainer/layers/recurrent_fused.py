"""Recurrent layers as one kernel of torch's: cuDNN's on a GPU, oneDNN's LSTM on a processor.

Keras's kernels lie as (inputs, gates * units), torch's as (gates * units, inputs) with the gates in an order of its own
and always two biases. Autograd goes through the rearrangement, so gradients arrive as Keras's kernels lie.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Fused = Callable[..., tuple["Tensor", tuple["Tensor", ...]]]


def has_kernel(fused: Fused | None, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `fused` is the fastest way there.

    On a GPU always: torch takes cuDNN's kernel, and a fused step of its own for what cuDNN has not. On a processor only
    oneDNN's LSTM, which is for float32; torch's other loops are slower there than the whole-sequence forms.
    """
    if fused is None or device.type != "cpu":
        return fused is not None and device.type == "cuda" and dtype.is_floating_point
    return fused is lstm and dtype == torch.float32 and has_onednn()


@functools.cache
def has_onednn() -> bool:
    """Whether this torch computes with oneDNN on this processor."""
    return torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")


def gate_rows(kernel: Tensor, order: Sequence[int]) -> Tensor:
    """A Keras kernel (inputs, gates * units) as rows (gates * units, inputs), its gates in another order."""
    gates = kernel.reshape(len(kernel), len(order), -1).unbind(1)
    return torch.stack([gates[gate] for gate in order]).transpose(1, 2).reshape(-1, len(kernel))


def gate_columns(rows: Tensor, order: Sequence[int]) -> Tensor:
    """The way back from `gate_rows`."""
    parts = rows.view(len(order), -1, rows.shape[1]).unbind()
    own = torch.stack([parts[order.index(gate)] for gate in range(len(order))])
    return own.permute(2, 0, 1).reshape(rows.shape[1], -1)


def lstm(
    x: Tensor, start: Sequence[Tensor] | None, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(outputs of all steps, last h and c) of an LSTM; torch has the gates in Keras's order."""
    return _one_kernel(torch.lstm, 2, x, start, kernel.t(), recurrent.t(), _with_zeros(bias))


# Update, reset, candidate in Keras; reset, update, candidate in torch.
_GRU = (1, 0, 2)


def gru(
    x: Tensor, start: Sequence[Tensor] | None, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(outputs of all steps, last state) of a GRU with `reset_after`, whose bias (2, 3 * units) is torch's two."""
    biases = None if bias is None else [b.reshape(-1) for b in bias.view(2, 3, -1)[:, _GRU].unbind(0)]
    return _one_kernel(torch.gru, 1, x, start, gate_rows(kernel, _GRU), gate_rows(recurrent, _GRU), biases)


def rnn_tanh(
    x: Tensor, start: Sequence[Tensor] | None, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(outputs of all steps, last state) of a SimpleRNN with tanh."""
    return _one_kernel(torch.rnn_tanh, 1, x, start, kernel.t(), recurrent.t(), _with_zeros(bias))


def rnn_relu(
    x: Tensor, start: Sequence[Tensor] | None, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(outputs of all steps, last state) of a SimpleRNN with relu."""
    return _one_kernel(torch.rnn_relu, 1, x, start, kernel.t(), recurrent.t(), _with_zeros(bias))


def _with_zeros(bias: Tensor | None) -> list[Tensor] | None:
    """Keras's bias, and the second one that torch has, which stays at zero."""
    return None if bias is None else [bias, torch.zeros_like(bias)]


def _one_kernel(
    run: Callable[..., Any],
    carried: int,
    x: Tensor,
    start: Sequence[Tensor] | None,
    rows: Tensor,
    own: Tensor,
    biases: list[Tensor] | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    if start is None:
        first = [x.new_zeros(1, x.shape[0], own.shape[1])] * carried
    else:
        first = [state.unsqueeze(0).contiguous() for state in start]
    weights = [rows, own, *(biases or ())]
    if x.is_cuda:
        weights = in_one_piece(weights)
    # One layer, no dropout, ready for a backward pass, in one direction, the batch first.
    how = (len(weights) > 2, 1, 0.0, True, False, True)
    outputs, *last = run(x, first if carried > 1 else first[0], weights, *how)
    return outputs, tuple(state[0] for state in last)


def in_one_piece(weights: Sequence[Tensor]) -> list[Tensor]:
    """The weights, and zeros for biases that are missing, one after the other in one tensor.

    That is how cuDNN wants them; torch would copy them together at every call, and warn of it.
    """
    rows = len(weights[0])
    given = [*weights, *(weights[0].new_zeros(rows) for _ in range(4 - len(weights)))]
    pieces = torch.cat([w.reshape(-1) for w in given]).split([w.numel() for w in given])
    return [piece.view(w.shape) for piece, w in zip(pieces, given, strict=True)]
