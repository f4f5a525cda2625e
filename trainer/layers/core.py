"""Activation and Identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.activations.base import Activation as Function
from trainer.layers.base import Layer, Weights

if TYPE_CHECKING:
    from torch import Tensor


class Activation(Layer):
    """activation(x), where it stands alone between layers.

    https://keras.io/api/layers/core_layers/activation/

    Shape: (batch, ...) -> (batch, ...)
    """

    activation: Function
    "Function applied to the input."

    supports_masking = True
    activates_last = True

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return self.activation(x)


class Identity(Layer):
    """x, unchanged: a place for a name, or for what an experiment left out.

    https://keras.io/api/layers/core_layers/identity/

    Shape: (batch, ...) -> (batch, ...)
    """

    supports_masking = True

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return x
