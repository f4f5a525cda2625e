"""Cross-entropies of a last sigmoid or softmax, differentiated with respect to the scores before it.

The slope of the two together is p - y. Through the probability it would be 0 / 0 where that is 0 or 1 in float32, and
Keras's clipping makes it 0: a network whose first outputs are that sure, and wrong, never learns (Keras on torch and
JAX). Keras on TensorFlow goes to the scores, and so do we; the value stays the clipped one that all of them document.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@functools.cache
def _function() -> Any:
    class AtScores(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, scores: Tensor, value: Tensor, slope: Tensor) -> Tensor:
            ctx.slope, ctx.dtype = slope, scores.dtype
            return value

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
            gradient = gradients[0].unsqueeze(-1) if gradients[0].dim() else gradients[0]
            return (ctx.slope * gradient).to(ctx.dtype), None, None

    return AtScores.apply


def differentiated(scores: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """`value`, whose gradient with respect to `scores` is `slope`.

    Shape: value () or slope's without the last axis; scores and slope alike
    """
    return _function()(scores, value, slope)
