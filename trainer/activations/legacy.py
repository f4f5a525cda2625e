"""Activations whose name means another function in Keras today; files that older releases wrote still mean these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.activations.base import Activation
from trainer.lazy import torch

if TYPE_CHECKING:
    from trainer.activations.base import Back
    from trainer.program import Program


class LegacyHardSigmoid(Activation, keras=""):
    """x / 5 + 1/2, kept within 0 and 1: what Keras 1, 2 and tf.keras call hard_sigmoid.

    It is their default for the gates of LSTM and GRU up to Keras 2.3. Keras 3 knows x / 6 + 1/2 by that name and has no
    name for this one.
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x * 0.2 + 0.5, 0, 1)

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back]:
        made = p.make(torch.mul, x, 0.2)
        p.do(made.add_, 0.5)
        p.do(made.clamp_, 0, 1)

        def back(slope: torch.Tensor) -> torch.Tensor:
            # On the slope where |x| <= 2.5, ends included, as autograd has it for a clamp.
            p.do(x.abs_)
            p.do(x.le_, 2.5)
            p.do(x.mul_, 0.2)
            p.do(slope.mul_, x)
            return slope

        return made, back
