"""Masking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.layers.base import Layer, Weights
from trainer.layers.plan import Plan
from trainer.options import Float
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor


class Masking(Layer):
    """Hides the steps at which every feature equals `mask_value`: zeros go on, with a mask that says so.

    https://keras.io/api/layers/core_layers/masking/

    Shape: (batch, time, ..., features) -> (batch, time, ..., features)
    """

    mask_value: Float = 0.0
    "Value of every feature of a step that is to be skipped."

    supports_masking = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ValueError("expected input with a features axis, (batch, ..., features), found (batch,)")
        return shape

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        seen = (x != self.mask_value).any(-1, keepdim=True)
        return x.masked_fill(~seen, 0)

    def compute_mask(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return (x != self.mask_value).any(-1)
