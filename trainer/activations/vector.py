"""Activations over the last axis as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.activations.base import Activation
from trainer.lazy import F, torch
from trainer.program import native

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.activations.base import Back
    from trainer.program import Program


def over_last(
    p: Program, x: torch.Tensor, function: Callable[..., torch.Tensor], operation: Any, out: str
) -> tuple[torch.Tensor, Back]:
    """`function` along the last axis and torch's own way back, which writes to what it calls `out`."""
    # The kernels take what they write to for contiguous.
    x = p.laid(x)
    made = p.make(function, x, -1)

    def back(slope: torch.Tensor) -> torch.Tensor:
        p.do(operation, p.laid(slope), made, -1, x.dtype, **{out: x})
        return x

    return made, back


class Softmax(Activation):
    """exp(x) / sum(exp(x)) along the last axis: probabilities that sum to 1"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, -1)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return over_last(p, x, torch.softmax, native("_softmax_backward_data", "out"), "grad_input")


class LogSoftmax(Activation):
    """x - log(sum(exp(x))) along the last axis"""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(x, -1)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        return over_last(p, x, torch.log_softmax, native("_log_softmax_backward_data", "out"), "out")


class Sparsemax(Activation):
    """max(x - tau, 0) along the last axis, after Martins and Astudillo, 2016 (https://arxiv.org/abs/1602.02068).

    tau is Keras's, so that a model predicts there what it predicts here: it sums the running totals over the support
    where the paper takes the last of them, so a row sums to 1 only when a single entry is above zero.
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        ordered = torch.sort(x, dim=-1, descending=True).values
        totals = torch.cumsum(ordered, dim=-1)
        ranks = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        support = ordered - (totals - 1) / ranks > 0
        total = torch.where(support, totals, torch.zeros_like(totals)).sum(-1, keepdim=True)
        return torch.clamp(x - (total - 1) / support.sum(-1, keepdim=True), min=0)


class Glu(Activation):
    """a sigmoid(b), where a and b are the halves of the last axis, which gets half as long.

    Keras has it as a function only: its layers take it for one that keeps the shape, so ours refuse it.
    Dauphin et al., 2017 (https://arxiv.org/abs/1612.08083).
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.glu(x, -1)
