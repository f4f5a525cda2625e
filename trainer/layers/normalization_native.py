"""BatchNormalization of the last axis, with a relu behind it or none, as compiled code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.lazy import torch
from trainer.native.calls import BothWays, Call

if TYPE_CHECKING:
    from torch import Tensor

HEADER = "normalized.h"
LANES = 16
"Features come in whole vectors."
MOST_FEATURES = 1 << 12
"Features whose sums fit a thread's stack."
_TENSORS = (
    *("x", "gamma", "beta", "epsilon", "mean", "variance", "outputs", "slopes", "x_slopes"),
    *("room", "gamma_slopes", "beta_slopes"),
)


def can_be_native(mean: Tensor, gamma: Tensor | None, beta: Tensor | None) -> bool:
    """Whether features with these moving means, factors and shifts are for compiled code."""
    held = [t for t in (mean, gamma, beta) if t is not None]
    plain = all(t.dtype == torch.float32 and t.device.type == "cpu" and t.is_contiguous() for t in held)
    return plain and mean.numel() % LANES == 0 and mean.numel() <= MOST_FEATURES


class NormalizedBatch(BothWays):
    """The layer for batches of one shape: what is kept between the way there and back.

    `mean` and `variance` (biased) are those of the last batch, or those that were given.

    Raises:
        Uncompiled: there is no compiler, or no way to torch's threads.
    """

    overwrites = True

    def __init__(
        self,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        given: tuple[Tensor, Tensor] | None,
        epsilon: float,
        relu: bool,
    ):
        """`given` are mean and variance to normalize by; where there are none, each batch has its own.

        Shape: x (..., features), float32 or bfloat16; all others (features,)
        """
        assert x.dtype in (torch.float32, torch.bfloat16)
        features = x.shape[-1]
        self.mean, self.variance = given or torch.empty(2, features).unbind(0)
        half = x.dtype == torch.bfloat16
        sizes = {"rows": x.numel() // features, "features": features, "is_half": half, "relu": relu, "moves": not given}
        outputs, slopes = torch.empty_like(x), [torch.empty(features) for _ in range(2)]
        call = Call(HEADER, sizes, _TENSORS)
        super().__init__("normalized", call, x, outputs, list(zip((gamma, beta), slopes, strict=True)))
        call.hold(
            x=x,
            gamma=None if gamma is None else gamma.detach(),
            beta=None if beta is None else beta.detach(),
            epsilon=torch.tensor([epsilon], dtype=torch.float64),
            mean=self.mean,
            variance=self.variance,
            outputs=outputs,
            room=torch.empty(call.threads, 2, features, dtype=torch.float64),
            gamma_slopes=slopes[0],
            beta_slopes=slopes[1],
        )
