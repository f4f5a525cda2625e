"""The two whole-sequence GRUs: the reset gate after the recurrent product (Keras's default), or before it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trainer.layers import recurrent_native
from trainer.layers.recurrent_fused import gate_columns, gate_rows, gru
from trainer.layers.recurrent_kernels import (
    Recurrence,
    Saved,
    empty_states,
    flat_over_time,
    input_gradient,
    project,
    sigmoid_slope,
    tanh_slope,
)
from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

# Update, reset, candidate in Keras; here the candidate stands first, then update and reset.
_GRU = (2, 0, 1)


def _gru_gates(
    x: Tensor, keep: Tensor | None, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    rows, own = gate_rows(kernel, _GRU), gate_rows(recurrent, _GRU)
    gates = project(x, rows, bias)
    if keep is not None:
        # An update gate of exactly 1 keeps the state and lets no gradient into the gates.
        gates.view(len(x), 3, len(recurrent), -1)[:, 1].masked_fill_(~keep, math.inf)
    return gates, rows, own


def _gru_after_forward(
    x: Tensor, keep: Tensor | None, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, Saved]:
    steps, units = len(x), len(recurrent)
    inputs = inner = None
    if bias is not None:
        outside, inside = gate_rows(bias, _GRU).unbind(1)
        # The recurrent biases of update and reset are only ever added to the input's.
        inputs = torch.cat([outside[:units], outside[units:] + inside[units:]]).unsqueeze(1)
        inner = inside[:units].unsqueeze(1)
    gates, rows, own = _gru_gates(x, keep, kernel, recurrent, inputs)
    hidden = empty_states(x, units)
    recalled = torch.zeros_like(hidden[1:])
    if inner is not None:
        recalled += inner
    both = gates[:, units:]
    n, z, r = (gate.unbind(0) for gate in gates.view(steps, 3, units, -1).unbind(1))
    pair, m, h = both.unbind(0), recalled.unbind(0), hidden.unbind(0)
    for t in range(steps):
        pair[t].addmm_(own[units:], h[t])
        pair[t].sigmoid_()
        m[t].addmm_(own[:units], h[t])
        n[t].addcmul_(r[t], m[t]).tanh_()
        torch.lerp(n[t], h[t], z[t], out=h[t + 1])
    return hidden, (x, gates, recalled, hidden, rows, own, bias)


def _gru_slopes(split: Tensor, hidden: Tensor) -> Tensor:
    """Deltas of candidate and update per unit of the state's gradient."""
    n, z, _ = split.unbind(1)
    slopes = torch.empty_like(split[:, :2])
    tanh_slope(1 - z, n, slopes[:, 0])
    sigmoid_slope(hidden[:-1] - n, z, slopes[:, 1])
    return slopes


def _gru_after_backward(saved: Saved, last: Tensor, arriving: Tensor | None, wants_x: bool) -> tuple[Any, ...]:
    x, gates, recalled, hidden, rows, own, bias = saved
    steps, units = len(x), hidden.shape[1]
    split = gates.view(steps, 3, units, -1)
    slopes, to_reset = _gru_slopes(split, hidden), torch.empty_like(split[:, :2])
    sigmoid_slope(recalled, split[:, 2], to_reset[:, 0])
    to_reset[:, 1] = split[:, 2]
    # Candidate, update, reset, recalled: the first three face the input, the last three the state.
    delta = x.new_empty(steps, 4, units, x.shape[2])
    first, second, candidate = (a.unbind(0) for a in (delta[:, :2], delta[:, 2:], delta[:, :1]))
    facing = delta.view(steps, 4 * units, -1)
    towards, update = facing[:, units:].unbind(0), split[:, 1].unbind(0)
    slope, reset = slopes.unbind(0), to_reset.unbind(0)
    turned = torch.cat([own[units:], own[:units]]).t().contiguous()
    dh = last
    for t in range(steps - 1, -1, -1):
        if arriving is not None:
            dh.add_(arriving[t])
        torch.mul(dh, slope[t], out=first[t])
        torch.mul(candidate[t], reset[t], out=second[t])
        dh.mul_(update[t]).addmm_(turned, towards[t])
    flat = flat_over_time(facing)
    outside, inside = flat[: 3 * units], flat[units:].roll(units, 0)
    d_kernel, d_own = outside @ flat_over_time(x).t(), inside @ flat_over_time(hidden[:-1]).t()
    d_bias = None
    if bias is not None:
        d_bias = gate_columns(torch.stack([outside.sum(1), inside.sum(1)], 1), _GRU)
    d_x = input_gradient(rows, facing[:, : 3 * units], wants_x)
    return d_x, gate_columns(d_kernel, _GRU), gate_columns(d_own, _GRU), d_bias


GRU_AFTER = Recurrence(_gru_after_forward, _gru_after_backward, gru, recurrent_native.GRU)


def _gru_before_forward(
    x: Tensor, keep: Tensor | None, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, Saved]:
    steps, units = len(x), len(recurrent)
    column = None if bias is None else gate_rows(bias.unsqueeze(0), _GRU)
    gates, rows, own = _gru_gates(x, keep, kernel, recurrent, column)
    hidden = empty_states(x, units)
    recalled = torch.empty_like(hidden[1:])
    n, z, r = (gate.unbind(0) for gate in gates.view(steps, 3, units, -1).unbind(1))
    pair, m, h = gates[:, units:].unbind(0), recalled.unbind(0), hidden.unbind(0)
    for t in range(steps):
        pair[t].addmm_(own[units:], h[t])
        pair[t].sigmoid_()
        torch.mul(r[t], h[t], out=m[t])
        n[t].addmm_(own[:units], m[t]).tanh_()
        torch.lerp(n[t], h[t], z[t], out=h[t + 1])
    return hidden, (x, gates, recalled, hidden, rows, own, bias)


def _gru_before_backward(saved: Saved, last: Tensor, arriving: Tensor | None, wants_x: bool) -> tuple[Any, ...]:
    x, gates, recalled, hidden, rows, own, bias = saved
    steps, units = len(x), hidden.shape[1]
    split = gates.view(steps, 3, units, -1)
    slopes, to_reset = _gru_slopes(split, hidden), torch.empty_like(recalled)
    sigmoid_slope(hidden[:-1], split[:, 2], to_reset)
    delta = torch.empty_like(gates)
    deltas = delta.view_as(split)
    first, candidate, third = (a.unbind(0) for a in (deltas[:, :2], deltas[:, 0], deltas[:, 2]))
    pair, update, r = (a.unbind(0) for a in (delta[:, units:], split[:, 1], split[:, 2]))
    slope, reset = slopes.unbind(0), to_reset.unbind(0)
    to_recalled, to_state = own[:units].t().contiguous(), own[units:].t().contiguous()
    dh, dm = last, torch.empty_like(last)
    for t in range(steps - 1, -1, -1):
        if arriving is not None:
            dh.add_(arriving[t])
        torch.mul(dh, slope[t], out=first[t])
        torch.mm(to_recalled, candidate[t], out=dm)
        torch.mul(dm, reset[t], out=third[t])
        dh.mul_(update[t]).addcmul_(dm, r[t]).addmm_(to_state, pair[t])
    flat = flat_over_time(delta)
    d_own = torch.cat([flat[:units] @ flat_over_time(recalled).t(), flat[units:] @ flat_over_time(hidden[:-1]).t()])
    d_bias = None if bias is None else gate_columns(flat.sum(1, keepdim=True), _GRU).view(-1)
    d_kernel = flat @ flat_over_time(x).t()
    return input_gradient(rows, delta, wants_x), gate_columns(d_kernel, _GRU), gate_columns(d_own, _GRU), d_bias


GRU_BEFORE = Recurrence(_gru_before_forward, _gru_before_backward)
