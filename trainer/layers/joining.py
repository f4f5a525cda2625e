"""Concatenate and Dot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from trainer.errors import RecipeError
from trainer.layers.axes import place
from trainer.layers.base import Layer, Weights
from trainer.layers.merging import Masks, all_shapes, same_batch, several
from trainer.layers.plan import Plan
from trainer.lazy import torch
from trainer.options import Bool, Int, Rule, integer
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull

_LEAST_NORM = 1e-7
"Keras's backend epsilon: no vector is divided by less."


class Concatenate(Layer):
    """The inputs one after the other along one axis.

    https://keras.io/api/layers/merging_layers/concatenate/

    Shape: (batch, ..., features), (batch, ..., features), ... -> (batch, ..., all features)
    """

    axis: Int = -1
    "The axis along which they are joined; they agree in the others."

    supports_masking = True
    reads_several = True

    def build(self, plan: Plan, shape: Any) -> Shape:
        shapes = several(shape, "")
        axis = place(self.axis, shapes[0])
        same_batch(shapes)
        others = [s[:axis] + s[axis + 1 :] for s in shapes]
        if len({len(s) for s in shapes}) > 1 or any(len({*sizes} - {None}) > 1 for sizes in zip(*others, strict=False)):
            raise ValueError(f"expected inputs that agree in all axes but {axis}, found {all_shapes(shapes)}")
        sizes = [s[axis] for s in shapes]
        total = None if None in sizes else sum(n for n in sizes if n is not None)
        return (*shapes[0][:axis], total, *shapes[0][axis + 1 :])

    def forward(self, w: Weights, x: list[Tensor]) -> Tensor:
        return torch.cat(x, self.axis)

    def by_hand(self, p: Program, w: Weights, x: list[Tensor]) -> tuple[Tensor, Pull]:
        sizes = [t.shape[self.axis] for t in x]
        return p.make(torch.cat, x, self.axis), lambda slope, wanted: list(slope.split(sizes, self.axis))

    def starts_mask(self) -> bool:
        return False

    def compute_mask(self, x: list[Tensor], mask: Masks | None) -> Tensor | None:
        """The masks, joined as the inputs are; an input without one counts everywhere.

        Raises:
            RecipeError: a mask that has not one axis less than its input.
        """
        if not mask or all(m is None for m in mask):
            return None
        whole = [_whole(m, v) for m, v in zip(mask, x, strict=True)]
        return torch.cat(whole, self.axis).any(-1)


def _whole(mask: Tensor | None, x: Tensor) -> Tensor:
    """A mask in the shape of its input."""
    if mask is None:
        return torch.ones_like(x, dtype=torch.bool)
    if mask.dim() != x.dim() - 1:
        raise RecipeError(
            f"Concatenate: expected a mask with one axis less than its input, found {mask.dim()} axes for {x.dim()}",
            hint="join before the axes are added, or turn the mask off (mask_zero: false)",
        )
    return mask.unsqueeze(-1).expand_as(x)


def _dot_axes(value: object) -> int | tuple[int, int]:
    if isinstance(value, (list, tuple)):
        first, second = value
        return integer(first), integer(second)
    return integer(value)


_PAIR = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
DotAxes = Annotated[
    int | tuple[int, int],
    Rule("an integer or a list of two integers", _dot_axes, {"anyOf": [{"type": "integer"}, _PAIR]}),
]


class Dot(Layer):
    """Sums of products of two inputs over one axis of each, sample by sample.

    https://keras.io/api/layers/merging_layers/dot/

    Shape: (batch, ..., n), (batch, ..., n) -> (batch, axes left of the first, axes left of the second), or (batch, 1)
    """

    axes: DotAxes
    "The axis of both inputs over which products are summed, or one for each."
    normalize: Bool = False
    "Whether both are brought to norm 1 along it first: the output is then their cosine."

    supports_masking = True
    reads_several = True

    def build(self, plan: Plan, shape: Any) -> Shape:
        shapes = several(shape, "", most=2)
        first, second = self._places(shapes)
        sizes = {shapes[0][first], shapes[1][second]} - {None}
        if len(sizes) > 1:
            found = f"{shapes[0][first]} (axis {first}) and {shapes[1][second]} (axis {second})"
            raise ValueError(f"expected axes of equal size, found {found} of {all_shapes(shapes)}")
        left = shapes[0][1:first] + shapes[0][first + 1 :] + shapes[1][1:second] + shapes[1][second + 1 :]
        return (same_batch(shapes), *(left or (1,)))

    def _places(self, shapes: list[Shape]) -> tuple[int, int]:
        first, second = self.axes if isinstance(self.axes, tuple) else (self.axes, self.axes)
        return place(first, shapes[0]), place(second, shapes[1])

    def forward(self, w: Weights, x: list[Tensor]) -> Tensor:
        first, second = self._places([tuple(v.shape) for v in x])
        a, b = x[0].movedim(first, -1), x[1].movedim(second, 1)
        if self.normalize:
            a, b = _unit(a, -1), _unit(b, 1)
        n = a.shape[-1]
        left = (*a.shape[1:-1], *b.shape[2:])
        rows, columns = math.prod(a.shape[1:-1]), math.prod(b.shape[2:])
        out = a.reshape(a.shape[0], rows, n) @ b.reshape(b.shape[0], n, columns)
        return out.reshape(a.shape[0], *(left or (1,)))

    def starts_mask(self) -> bool:
        return False

    def compute_mask(self, x: Any, mask: Any) -> Any:
        return None


def _unit(x: Tensor, axis: int) -> Tensor:
    return x / torch.linalg.vector_norm(x, dim=axis, keepdim=True).clamp_min(_LEAST_NORM)
