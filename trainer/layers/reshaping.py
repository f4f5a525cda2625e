"""Flatten, Reshape, Permute and RepeatVector: the same values under another shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from trainer.layers.base import Layer, Weights, need_rank
from trainer.layers.plan import Plan
from trainer.layers.spatial import DataFormat
from trainer.lazy import torch
from trainer.options import PositiveInt, Rule, integer
from trainer.shapes import Shape, size, text

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


def _target(value: Any) -> tuple[int, ...]:
    sizes = tuple(integer(v) for v in (value if isinstance(value, (list, tuple)) else [value]))
    if any(n < -1 for n in sizes) or sizes.count(-1) > 1:
        raise ValueError
    return sizes


def _permutation(value: Any) -> tuple[int, ...]:
    axes = tuple(integer(v) for v in (value if isinstance(value, (list, tuple)) else [value]))
    if sorted(axes) != list(range(1, len(axes) + 1)):
        raise ValueError
    return axes


_INTEGERS = {"type": "array", "items": {"type": "integer"}}
Target = Annotated[
    tuple[int, ...],
    Rule("a list of sizes of 0 or more, one of which may be -1", _target, {"anyOf": [{"type": "integer"}, _INTEGERS]}),
]
Permutation = Annotated[
    tuple[int, ...],
    Rule("a list that holds each of 1, 2, … once", _permutation, {"anyOf": [{"type": "integer"}, _INTEGERS]}),
]


def reshaped(p: Program, x: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Pull]:
    """`x` under another shape, as operations of a program."""

    def pull(slope: Tensor, wanted: bool) -> Tensor | None:
        return p.laid(slope).view(x.shape) if wanted else None

    return p.laid(x).view(shape), pull


class Flatten(Layer):
    """All axes but the batch as one, the channels varying fastest.

    https://keras.io/api/layers/reshaping_layers/flatten/

    Shape: (batch, a, b, ...) -> (batch, a * b * ...); (batch,) -> (batch, 1)
    """

    data_format: DataFormat = "channels_last"
    "Where the channels stand: channels_last, or channels_first (they are moved to the end before flattening)."

    preprocessing = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        return shape[0], size(shape[1:])

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if x.dim() == 1:
            return x.unsqueeze(1)
        if self.data_format == "channels_first":
            x = x.movedim(1, -1)
        return x.flatten(1)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        if x.dim() < 2 or self.data_format == "channels_first":
            return None
        return reshaped(p, x, (x.shape[0], math.prod(x.shape[1:])))


class Reshape(Layer):
    """The same values in the same order under another shape.

    https://keras.io/api/layers/reshaping_layers/reshape/

    Shape: (batch, ...) -> (batch, *target_shape)
    """

    target_shape: Target
    "Sizes without the batch; one may be -1 and follows from the others."

    preprocessing = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        total = size(shape[1:])
        if total is not None:
            return shape[0], *self._sizes(total)
        return shape[0], *(None if n == -1 else n for n in self.target_shape)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self._sizes(math.prod(x.shape[1:])))

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return reshaped(p, x, (x.shape[0], *self._sizes(math.prod(x.shape[1:]))))

    def _sizes(self, total: int) -> tuple[int, ...]:
        """The target with -1 replaced, for `total` values a row.

        Raises:
            ValueError: that many values can't have the shape.
        """
        known = math.prod(n for n in self.target_shape if n != -1)
        inferred = -1 in self.target_shape
        fits = known > 0 and total % known == 0 if inferred else total == known
        if not fits:
            holds = f"a multiple of {known}" if inferred else str(known)
            raise ValueError(
                f"a row of {total} values can't take the shape {text(self.target_shape)}, which holds {holds}"
            )
        return tuple(total // known if n == -1 else n for n in self.target_shape)


class Permute(Layer):
    """The axes in another order: axis i of the output is axis dims[i] of the input.

    https://keras.io/api/layers/reshaping_layers/permute/

    Shape: (batch, ...) -> (batch, ...), its axes permuted
    """

    dims: Permutation
    "Order of the axes, counted from 1 without the batch: [2, 1] swaps the first two."

    preprocessing = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        need_rank(shape, len(self.dims) + 1, f"(batch, and {len(self.dims)} axes to permute)")
        return shape[0], *(shape[d] for d in self.dims)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return x.permute(0, *self.dims)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        back = [self.dims.index(axis) + 1 for axis in range(1, x.dim())]
        return x.permute(0, *self.dims), lambda slope, wanted: slope.permute(0, *back) if wanted else None


class RepeatVector(Layer):
    """The vector `n` times along a new axis.

    https://keras.io/api/layers/reshaping_layers/repeat_vector/

    Shape: (batch, features) -> (batch, n, features)
    """

    n: PositiveInt
    "How often it is repeated."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        need_rank(shape, 2, "(batch, features)")
        return shape[0], self.n, shape[1]

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return x.unsqueeze(1).expand(-1, self.n, -1)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return self.forward(w, x), lambda slope, wanted: p.make(torch.sum, slope, 1) if wanted else None
