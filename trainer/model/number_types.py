"""Number types of layers: what is cast where a tensor enters a layer, where it leaves it, and where weights are used.

What a layer computes in is as a rule the type that it is told, or else what it says itself (`computes_in`).

A layer that says no type takes tensors and weights as they are, so a model in plain float32 has none of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trainer.layers.base import Layer

if TYPE_CHECKING:
    from trainer.model.cell import Cell

COMPUTE = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "mixed_float16": torch.float16,
    "mixed_bfloat16": torch.bfloat16,
}
"Name of a number type to that of a layer's computations."

KEPT = {name: dtype for name, dtype in COMPUTE.items() if not name.startswith("mixed")}
"Name of a number type to that of a layer's weights, where it is not float32."


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Tensors of floating point in that type; everything else, such as ids, as it is."""
    if isinstance(value, (list, tuple)):
        return type(value)(cast(v, dtype) for v in value)
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def kept(value: torch.Tensor, layer: Layer) -> torch.Tensor:
    """A weight in the type that the layer keeps weights in."""
    return value.to(KEPT.get(layer.dtype or "", value.dtype)) if value.dtype == torch.float32 else value


def typed(layer: Layer) -> Layer | Typed:
    """What computes as the layer says: the layer itself, when it says no number type."""
    return layer if layer.dtype is None else Typed(layer, COMPUTE[layer.dtype])


def hands_words(layer: Layer, its: Cell, dtype: torch.dtype) -> bool:
    """Whether a layer may hand ids on to the one after it, whose weights and sums then are float32."""
    return layer.looks_up and its.layer.words_in(its, dtype) == torch.float32


class Typed:
    """A layer between casts: float inputs come in its type, and its output has it."""

    def __init__(self, layer: Layer, dtype: torch.dtype):
        self.layer, self.dtype = layer, dtype
        self.takes_mask, self.compute_mask = layer.takes_mask, layer.compute_mask

    def forward(self, w: Cell, x: Any, *args: Any, **options: Any) -> Any:
        """The layer's output for the input `x`."""
        weights = self._weights(w)
        if not self.layer.reads_integers:
            # Ids that came as floats would no longer be told apart in half precision.
            x = cast(cast(x, self.dtype), weights.dtype)
        out = self.layer.forward(weights, x, *args, **options)
        return out if self.layer.types_its_output else cast(out, self.dtype)

    def forward_with(self, w: Cell, x: Any, after: Layer, its: Cell, mask: torch.Tensor | None) -> Any:
        """What the layer and the one after it make of the input at once; None where each goes alone."""
        if hands_words(self.layer, its, self.dtype):
            made = self.layer.forward_with(w, x, after, its, mask)
            return None if made is None else cast(made, self.dtype)
        if not self.layer.casts_inside:
            return None
        return self.layer.forward_with(self._weights(w), cast(x, self.dtype), after, its, mask)

    def _weights(self, w: Cell) -> Any:
        inner = self.layer.computes_in(w, self.dtype)
        return InType(w, inner, compiles=self.layer.compiles_typed and inner == torch.float32 and w.compiles)


class InType:
    """The weights of a cell, cast where they are used; gradients go through to the weights as they are kept.

    What is no weight that training moves (statistics, states) is handed out itself: it is there to be overwritten.
    """

    def __init__(self, cell: Any, dtype: torch.dtype, *, compiles: bool = False):
        self._cell, self.dtype, self.own, self.compiles = cell, dtype, cell.own, compiles

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cell, name)
        if isinstance(value, nn.Parameter):
            value = cast(value, self.dtype)
        elif isinstance(value, nn.Module):
            value = InType(value, self.dtype)
        if isinstance(value, (torch.Tensor, InType)):
            # Found without this function from now on: recurrent layers ask at every step.
            self.__dict__[name] = value
        return value

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._cell(*args, **options)
