"""Whole-sequence recurrences: one product for all inputs, in-place steps, and a backward pass written by hand.

Inside, tensors lie as (time, gates * units, batch). A gate of a step is then one contiguous block, a step is a handful
of kernels into buffers that exist already, and in the backward pass all slopes that need no recurrence are computed for
the whole sequence at once. At a masked step the gates are pushed to where the state stays as it is, to the bit.

torch's own kernels take the place where they are faster still: on a GPU, and for an LSTM on oneDNN. The plain loop of
the layers computes the same with autograd; the tests hold all of them together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.layers import recurrent_native
from trainer.layers.recurrent_fused import Fused, gate_columns, gate_rows, has_kernel, lstm, rnn_relu, rnn_tanh
from trainer.layers.recurrent_native import Native
from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull

Saved = tuple[Any, ...]


@dataclass(frozen=True)
class Recurrence:
    """A kind of recurrent layer.

    `forward(x, keep, kernel, recurrent_kernel, bias)` returns the states (time + 1, units, batch), the first of them
    zeros, and what `backward(saved, last, arriving)` needs for (delta x, kernel, recurrent kernel, bias gradients).
    """

    forward: Callable[..., tuple[Tensor, Saved]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor | None]]
    fused: Fused | None = None
    "The layer as one kernel of torch's: (outputs of all steps, last states) of (x, start, the weights)."
    native: Native | None = None
    "The layer as compiled code."


def is_fused(kind: Recurrence, x: Tensor, mask: Tensor | None) -> bool:
    """Whether the layer goes through as one kernel of torch's, which knows no masks."""
    return mask is None and x.numel() > 0 and has_kernel(kind.fused, x.device, x.dtype)


def whole_sequence(
    kind: Recurrence,
    x: Tensor,
    mask: Tensor | None,
    every: bool,
    kernel: Tensor,
    recurrent: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """States of every step (batch, time, units), or the last one (batch, units), for x (batch, time, features)."""
    return _function().apply(kind, every, mask, x, kernel, recurrent, bias)


@functools.cache
def _function() -> Any:
    """The autograd function, made at first use because its base class needs torch."""
    from torch.autograd.function import Function, once_differentiable

    class WholeSequence(Function):
        @staticmethod
        def forward(
            ctx: Any, kind: Recurrence, every: bool, mask: Tensor | None, x: Tensor, *weights: Tensor | None
        ) -> Tensor:
            keep = None if mask is None else mask.t().unsqueeze(1)
            states, saved = kind.forward(x.permute(1, 2, 0).contiguous(), keep, *weights)
            ctx.kind, ctx.every = kind, every
            ctx.save_for_backward(*saved)
            return states[1:].permute(2, 0, 1) if every else states[-1].t().contiguous()

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
            if ctx.every:
                arriving = gradient.permute(1, 2, 0).contiguous()
                last = torch.zeros_like(arriving[0])
            else:
                arriving, last = None, gradient.t().clone(memory_format=torch.contiguous_format)
            x, *weights = ctx.kind.backward(ctx.saved_tensors, last, arriving, ctx.needs_input_grad[3])
            return None, None, None, None if x is None else x.permute(2, 0, 1), *weights

    return WholeSequence


def sequence_by_hand(
    p: Program, kind: Recurrence, x: Tensor, every: bool, backwards: bool, weights: Sequence[Tensor | None]
) -> tuple[Tensor, Pull]:
    """`whole_sequence` as operations of a program; read from its end if `backwards`."""
    kept: dict[str, Saved] = {}

    def forward() -> Tensor:
        sequence = x.flip(1) if backwards else x
        states, kept["saved"] = kind.forward(sequence.permute(1, 2, 0).contiguous(), None, *weights)
        return states[1:].permute(2, 0, 1) if every else states[-1].t()

    def pull(slope: Tensor, wanted: bool) -> Tensor | None:
        found = torch.empty_like(x) if wanted else None
        takes = [None if t is None else p.receiver(t) for t in weights]

        def back() -> None:
            arriving = slope.permute(1, 2, 0).contiguous() if every else None
            last = (
                slope.t().clone(memory_format=torch.contiguous_format)
                if arriving is None
                else torch.zeros_like(arriving[0])
            )
            of_x, *slopes = kind.backward(kept["saved"], last, arriving, wanted)
            for take, of_weight in zip(takes, slopes, strict=True):
                if take is not None and of_weight is not None:
                    take(of_weight)
            if found is not None and of_x is not None:
                sequence = of_x.permute(2, 0, 1)
                found.copy_(sequence.flip(1) if backwards else sequence)

        p.do(back)
        return found

    made = forward().contiguous()
    p.do(lambda: made.copy_(forward()))
    return made, pull


def project(x: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    """All input products of all steps, (time, gates * units, batch); `bias` is a single column of rows."""
    kernel = rows.expand(len(x), *rows.shape)
    return torch.bmm(kernel, x) if bias is None else torch.baddbmm(bias.unsqueeze(0), kernel, x)


def input_gradient(rows: Tensor, delta: Tensor, wanted: bool) -> Tensor | None:
    return torch.bmm(rows.t().expand(len(delta), *rows.t().shape), delta) if wanted else None


def flat_over_time(sequence: Tensor) -> Tensor:
    """(time, rows, batch) as (rows, time * batch), for one product over all steps."""
    return sequence.permute(1, 0, 2).reshape(sequence.shape[1], -1)


def empty_states(x: Tensor, units: int) -> Tensor:
    states = x.new_empty(len(x) + 1, units, x.shape[2])
    states[0].zero_()
    return states


def sigmoid_slope(factor: Tensor, value: Tensor, out: Tensor) -> None:
    """factor * value * (1 - value)"""
    torch.ops.aten.sigmoid_backward.grad_input(factor, value, grad_input=out)


def tanh_slope(factor: Tensor, value: Tensor, out: Tensor) -> None:
    """factor * (1 - value^2)"""
    torch.ops.aten.tanh_backward.grad_input(factor, value, grad_input=out)


def _passed_by(keep: Tensor, like: Tensor) -> Sequence[Tensor]:
    """1 where a step is masked, for each step."""
    return (~keep).to(like.dtype).unbind(0)


# Input, forget, candidate, output in Keras; here the candidate stands first, so that the three sigmoids are one block,
# and candidate, input and forget, which the carry's gradient reaches, are another.
_LSTM = (2, 0, 1, 3)


def _lstm_forward(
    x: Tensor, keep: Tensor | None, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, Saved]:
    steps, units = len(x), len(recurrent)
    rows, own = gate_rows(kernel, _LSTM), gate_rows(recurrent, _LSTM)
    gates = project(x, rows, None if bias is None else gate_rows(bias.unsqueeze(0), _LSTM))
    split = gates.view(steps, 4, units, -1)
    if keep is not None:
        split[:, 1].masked_fill_(~keep, -math.inf)
        split[:, 2].masked_fill_(~keep, math.inf)
    carries, hidden = empty_states(x, units), empty_states(x, units)
    squashed = torch.empty_like(hidden[1:])
    g, i, f, o = (gate.unbind(0) for gate in split.unbind(1))
    step, sigmoids, c, h, s = (a.unbind(0) for a in (gates, split[:, 1:], carries, hidden, squashed))
    kept = None if keep is None else keep.unbind(0)
    for t in range(steps):
        step[t].addmm_(own, h[t])
        sigmoids[t].sigmoid_()
        g[t].tanh_()
        torch.mul(f[t], c[t], out=c[t + 1]).addcmul_(i[t], g[t])
        torch.tanh(c[t + 1], out=s[t])
        torch.mul(o[t], s[t], out=h[t + 1])
        if kept is not None:
            torch.where(kept[t], h[t + 1], h[t], out=h[t + 1])
    return hidden, (x, keep, gates, carries, squashed, hidden, rows, own, bias)


def _lstm_slopes(gates: Tensor, carries: Tensor, squashed: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """What each gate's delta is per unit of its gradient, and the carry's gradient per unit of the output's."""
    g, i, f, o = gates.unbind(1)
    slopes, through = torch.empty_like(gates), torch.empty_like(squashed)
    tanh_slope(i, g, slopes[:, 0])
    sigmoid_slope(g, i, slopes[:, 1])
    sigmoid_slope(carries[:-1], f, slopes[:, 2])
    sigmoid_slope(squashed, o, slopes[:, 3])
    tanh_slope(o, squashed, through)
    if keep is not None:
        slopes[:, 3].mul_(keep)
        through.mul_(keep)
    return slopes, through


def _lstm_backward(saved: Saved, last: Tensor, arriving: Tensor | None, wants_x: bool) -> tuple[Any, ...]:
    x, keep, gates, carries, squashed, hidden, rows, own, bias = saved
    split = gates.view(len(x), 4, -1, gates.shape[2])
    slopes, through = _lstm_slopes(split, carries, squashed, keep)
    delta = torch.empty_like(gates)
    deltas = delta.view_as(split)
    inner, outer, whole, forget = (a.unbind(0) for a in (deltas[:, :3], deltas[:, 3], delta, split[:, 2]))
    slope, slope_o, to_carry = (a.unbind(0) for a in (slopes[:, :3], slopes[:, 3], through))
    passed = None if keep is None else _passed_by(keep, x)
    turned = own.t().contiguous()
    dh, dc = last, torch.zeros_like(last)
    for t in range(len(x) - 1, -1, -1):
        if arriving is not None:
            dh.add_(arriving[t])
        dc.addcmul_(dh, to_carry[t])
        torch.mul(dc, slope[t], out=inner[t])
        torch.mul(dh, slope_o[t], out=outer[t])
        dc.mul_(forget[t])
        if passed is None:
            torch.mm(turned, whole[t], out=dh)
        else:
            dh.mul_(passed[t]).addmm_(turned, whole[t])
    flat = flat_over_time(delta)
    d_kernel, d_own = flat @ flat_over_time(x).t(), flat @ flat_over_time(hidden[:-1]).t()
    d_bias = None if bias is None else gate_columns(flat.sum(1, keepdim=True), _LSTM).view(-1)
    return input_gradient(rows, delta, wants_x), gate_columns(d_kernel, _LSTM), gate_columns(d_own, _LSTM), d_bias


LSTM = Recurrence(_lstm_forward, _lstm_backward, lstm, recurrent_native.LSTM)


def _simple_forward(
    relu: bool, x: Tensor, keep: Tensor | None, kernel: Tensor, recurrent: Tensor, bias: Tensor | None
) -> tuple[Tensor, Saved]:
    rows, own = kernel.t().contiguous(), recurrent.t().contiguous()
    sums = project(x, rows, None if bias is None else bias.unsqueeze(1))
    hidden = empty_states(x, len(recurrent))
    a, h = sums.unbind(0), hidden.unbind(0)
    kept = None if keep is None else keep.unbind(0)
    for t in range(len(x)):
        a[t].addmm_(own, h[t])
        if relu:
            torch.clamp(a[t], min=0, out=h[t + 1])
        else:
            torch.tanh(a[t], out=h[t + 1])
        if kept is not None:
            torch.where(kept[t], h[t + 1], h[t], out=h[t + 1])
    return hidden, (x, keep, hidden, rows, own, bias)


def _simple_backward(relu: bool, saved: Saved, last: Tensor, arriving: Tensor | None, wants_x: bool) -> tuple[Any, ...]:
    x, keep, hidden, rows, own, bias = saved
    value = hidden[1:]
    slopes = (value > 0).to(value.dtype) if relu else 1 - value * value
    if keep is not None:
        slopes.mul_(keep)
    passed = None if keep is None else _passed_by(keep, x)
    delta = torch.empty_like(value)
    deltas, slope, turned = delta.unbind(0), slopes.unbind(0), own.t().contiguous()
    dh = last
    for t in range(len(x) - 1, -1, -1):
        if arriving is not None:
            dh.add_(arriving[t])
        torch.mul(dh, slope[t], out=deltas[t])
        if passed is None:
            torch.mm(turned, deltas[t], out=dh)
        else:
            dh.mul_(passed[t]).addmm_(turned, deltas[t])
    flat = flat_over_time(delta)
    d_kernel, d_own = flat_over_time(x) @ flat.t(), flat_over_time(hidden[:-1]) @ flat.t()
    return input_gradient(rows, delta, wants_x), d_kernel, d_own, None if bias is None else flat.sum(1)


SIMPLE_TANH, SIMPLE_RELU = (
    Recurrence(functools.partial(_simple_forward, relu), functools.partial(_simple_backward, relu), fused, native)
    for relu, fused, native in (
        (False, rnn_tanh, recurrent_native.SIMPLE_TANH),
        (True, rnn_relu, recurrent_native.SIMPLE_RELU),
    )
)
