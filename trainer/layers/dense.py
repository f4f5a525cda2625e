"""Dense."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.layers.bags import Bags
from trainer.layers.base import Weights
from trainer.layers.plan import Plan
from trainer.layers.products import addmm_for, affine, is_wide, mm_for
from trainer.layers.sums import Biased, Kerneled, ask
from trainer.lazy import torch
from trainer.options import PositiveInt
from trainer.program import ListGradient, ListProduct
from trainer.shapes import Shape

if TYPE_CHECKING:
    from trainer.program import Program, Pull


class Dense(Kerneled, Biased):
    """Fully connected: activation(x @ kernel + bias) along the last axis.

    Shape: (batch, ..., features) -> (batch, ..., units)
    """

    units: PositiveInt
    "Size of the last axis of the output."

    supports_masking = True
    side_by_side = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ValueError("expected input with a features axis, (batch, ..., features), found (batch,)")
        ask(plan, self, "kernel", (shape[-1], self.units))
        ask(plan, self, "bias", (self.units,), when=self.use_bias)
        return (*shape[:-1], self.units)

    def forward(self, w: Weights, x: torch.Tensor | Bags) -> torch.Tensor:
        if isinstance(x, Bags):
            made = x.times(w.kernel)
            return self.activation(made if w.bias is None else made + w.bias)
        rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        if is_wide(rows, w.kernel):
            made = affine(rows, w.kernel, w.bias).view(*x.shape[:-1], self.units)
        elif w.bias is None:
            made = x @ w.kernel
        else:
            made = torch.addmm(w.bias, x, w.kernel) if x.dim() == 2 else x @ w.kernel + w.bias
        return self.activation(made)

    def by_hand(self, p: Program, w: Weights, x: torch.Tensor | Bags) -> tuple[torch.Tensor, Pull] | None:
        if isinstance(x, Bags):
            return self._of_bags(p, w, x)
        if p.copies > 1:
            return self._side_by_side(p, w, x)
        rows = p.laid(x).view(-1, x.shape[-1])
        if w.bias is None:
            made = p.make(mm_for(rows, w.kernel), rows, w.kernel)
        else:
            made = p.make(addmm_for(rows, w.kernel), w.bias, rows, w.kernel)
        activated = self.activation.by_hand(p, made)
        if activated is None:
            return None
        out, back = activated

        def pull(slope: torch.Tensor, wanted: bool) -> torch.Tensor | None:
            slope = back(p.laid(slope).view(-1, self.units))
            p.gradient(w.kernel, mm_for(rows.t(), slope), rows.t(), slope)
            if w.bias is not None:
                p.gradient(w.bias, torch.sum, slope, 0)
            back_on = mm_for(slope, w.kernel.t())
            return p.make(back_on, slope, w.kernel.t()).view(x.shape) if wanted else None

        return out.view(*x.shape[:-1], self.units), pull

    def _side_by_side(self, p: Program, w: Weights, x: torch.Tensor) -> tuple[torch.Tensor, Pull] | None:
        if x.dim() != 3:
            return None
        bias = None if w.bias is None else w.bias.unsqueeze(1)
        made = p.make(torch.bmm, x, w.kernel) if bias is None else p.make(torch.baddbmm, bias, x, w.kernel)
        activated = self.activation.by_hand(p, made)
        if activated is None:
            return None
        out, back = activated

        def pull(slope: torch.Tensor, wanted: bool) -> torch.Tensor | None:
            slope = back(slope)
            p.gradient(w.kernel, torch.bmm, x.mT, slope)
            if w.bias is not None:
                p.gradient(w.bias, torch.sum, slope, 1)
            return p.make(torch.bmm, slope, w.kernel.mT) if wanted else None

        return out, pull

    def _of_bags(self, p: Program, w: Weights, x: Bags) -> tuple[torch.Tensor, Pull] | None:
        made = torch.empty(x.shape[0], self.units, dtype=w.kernel.dtype)
        p.add(ListProduct(made, x, w.kernel))
        if w.bias is not None:
            p.do(made.add_, w.bias)
        activated = self.activation.by_hand(p, made)
        if activated is None:
            return None
        out, back = activated

        def pull(slope: torch.Tensor, wanted: bool) -> None:
            slope = p.laid(back(slope))
            p.fill(w.kernel, lambda into: p.add(ListGradient(into, x, slope)))
            if w.bias is not None:
                p.gradient(w.bias, torch.sum, slope, 0)

        return out, pull
