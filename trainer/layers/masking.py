"""Masking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.layers.base import Layer, Weights
from trainer.layers.plan import Plan
from trainer.lazy import torch
from trainer.options import Float
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


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

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        seen, zero = self.mask_by_hand(p, x, None).unsqueeze(-1), p.constant(0.0, x)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            return p.make(torch.where, seen, slope, zero) if wanted else None

        return p.make(torch.where, seen, x, zero), pull

    def mask_by_hand(self, p: Program, x: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
        return p.make(torch.any, p.make(torch.ne, x, self.mask_value), -1)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        seen = (x != self.mask_value).any(-1, keepdim=True)
        return x.masked_fill(~seen, 0)

    def compute_mask(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return (x != self.mask_value).any(-1)
