"""What autograd does between operations in a row: layers and losses that do not say their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainer.losses.base import Loss
from trainer.losses.shaping import floating
from trainer.program import Program, Pull
from trainer.train.backward import gradients


class Unable(Exception):
    """A batch of this shape must go through autograd."""


def island(
    p: Program, function: Callable[[Any], Tensor], x: Any, weights: list[Tensor], wanted: list[bool]
) -> tuple[Tensor, Pull]:
    """`function(x)`, differentiated by autograd, as operations of a program.

    Raises:
        Unable: it makes no single tensor, or one without a gradient.
    """
    xs = x if isinstance(x, list) else [x]
    kept: dict[str, Any] = {}

    def forward() -> Tensor:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(need) for t, need in zip(xs, wanted, strict=True)]
            made = function(leaves if isinstance(x, list) else leaves[0])
        if not isinstance(made, Tensor):
            raise Unable
        kept.update(made=made, leaves=leaves)
        return made.detach()

    out = forward().clone()
    p.operations.append(lambda: out.copy_(forward()))

    def pull(slope: Tensor, asked: Any) -> Any:
        slopes = [torch.empty_like(t) if need else None for t, need in zip(xs, wanted, strict=True)]
        takes = [take for take in map(p.receiver, weights) if take is not None]
        takes += [s.copy_ for s in slopes if s is not None]

        def back() -> None:
            leaves = [leaf for leaf in kept["leaves"] if leaf.requires_grad]
            found = gradients([kept["made"]], [slope], [*weights, *leaves])
            for take, gradient in zip(takes, found, strict=True):
                if gradient is None:
                    raise Unable
                take(gradient)
            # What autograd kept goes before the next step makes it anew.
            kept.clear()

        if not kept["made"].requires_grad:
            raise Unable
        p.do(back)
        return slopes if isinstance(x, list) else slopes[0]

    return out, pull


def through_autograd(
    p: Program,
    loss: Loss,
    y: Tensor,
    out: Tensor,
    scores: Tensor | None,
    weight: Tensor | None,
    mask: Tensor | None,
    share: float,
) -> tuple[Tensor, Tensor]:
    """(the gradient of `share` times the loss at the scores, or else at the output, the loss), as operations."""
    slope, kept = torch.empty_like(out), torch.zeros((), dtype=floating(out).dtype)

    def judge() -> None:
        with torch.enable_grad():
            leaf = (out if scores is None else scores).detach().requires_grad_()
            value = loss(y, leaf if scores is None else out, weight, mask, None if scores is None else leaf)
            (found,) = gradients([value], [torch.full_like(value, share)], [leaf])
        if found is None:
            raise Unable
        slope.copy_(found)
        kept.copy_(value.detach())

    p.do(judge)
    return slope, kept
