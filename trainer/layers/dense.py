"""Dense."""

from __future__ import annotations

from trainer.layers.base import Plan, Weights
from trainer.layers.sums import Biased, Kerneled, ask
from trainer.lazy import torch
from trainer.options import PositiveInt
from trainer.shapes import Shape


class Dense(Kerneled, Biased):
    """Fully connected: activation(x @ kernel + bias) along the last axis.

    Shape: (batch, ..., features) -> (batch, ..., units)
    """

    units: PositiveInt
    "Size of the last axis of the output."

    supports_masking = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ValueError("expected input with a features axis, (batch, ..., features), found (batch,)")
        ask(plan, self, "kernel", (shape[-1], self.units))
        ask(plan, self, "bias", (self.units,), when=self.use_bias)
        return (*shape[:-1], self.units)

    def forward(self, w: Weights, x: torch.Tensor) -> torch.Tensor:
        if w.bias is None:
            return self.activation(x @ w.kernel)
        if x.dim() == 2:
            return self.activation(torch.addmm(w.bias, x, w.kernel))
        return self.activation(x @ w.kernel + w.bias)
