"""Activation and Identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.activations.base import Activation as Function
from trainer.activations.elementwise import Linear
from trainer.layers.base import Layer, Weights
from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


class Activation(Layer):
    """activation(x), where it stands alone between layers.

    https://keras.io/api/layers/core_layers/activation/

    Shape: (batch, ...) -> (batch, ...)
    """

    activation: Function
    "Function applied to the input."

    supports_masking = True
    activates_last = True
    side_by_side = True

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return self.activation(x)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        if isinstance(self.activation, Linear):
            return x, _same
        activated = self.activation.by_hand(p, p.make(torch.mul, x, p.constant(1.0, x)))
        if activated is None:
            return None
        made, back = activated
        return made, lambda slope, wanted: back(slope) if wanted else None


class Identity(Layer):
    """x, unchanged: a place for a name, or for what an experiment left out.

    https://keras.io/api/layers/core_layers/identity/

    Shape: (batch, ...) -> (batch, ...)
    """

    supports_masking = True
    side_by_side = True

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return x

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return x, _same


def _same(slope: Tensor, wanted: bool) -> Tensor:
    return slope
