"""ZeroPadding and Cropping: entries added to, or taken from, the ends of the spatial axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from trainer.layers.base import Weights
from trainer.layers.plan import Plan
from trainer.layers.spatial import AXES, EitherFormat, Margins, Spatial, for_each_axis, joined, split_axes
from trainer.layers.windows import padded_by_hand
from trainer.lazy import F, torch
from trainer.options import Rule, ints
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull

Pair = tuple[int, int]


def _pairs(value: Any) -> tuple[Pair, ...]:
    before_after = ints(2, least=0).read
    return tuple(before_after(v) for v in (value if isinstance(value, (list, tuple)) else [value]))


_MARGIN = {"type": "integer", "minimum": 0}
_PAIR = {"type": "array", "items": _MARGIN, "minItems": 2, "maxItems": 2}
Pairs = Annotated[
    tuple[Pair, ...],
    Rule(
        "an integer of 0 or more, or for each axis an integer or [before, after]",
        _pairs,
        {"anyOf": [_MARGIN, {"type": "array", "items": {"anyOf": [_MARGIN, _PAIR]}}]},
    ),
]


def _default(value: Any) -> Any:
    """A default as Keras writes it, read as a recipe's value is."""
    return Field(default=value, validate_default=True)


class Borders(Spatial, abstract=True):
    """A layer that moves the ends of its spatial axes and leaves batch and channels alone."""

    margins: ClassVar[str] = ""
    "The option that says by how much: (before, after) of the one axis, or of each."

    @field_validator("padding", "cropping", mode="before", check_fields=False)
    @classmethod
    def _for_each_end(cls, value: Any) -> Any:
        return for_each_axis(value, max(cls.rank, 2), least=0)

    @property
    def ends(self) -> tuple[Pair, ...]:
        """(before, after) for each spatial axis."""
        found = getattr(self, self.margins)
        return (found,) if self.rank == 1 else found

    def moved(self, shape: Shape, sign: int) -> Shape:
        """The output's shape, each axis longer (sign 1) or shorter (sign -1) by its ends."""
        spatial, channels = split_axes(shape, self.rank, self.channels_at())
        made = tuple(None if n is None else n + sign * sum(e) for n, e in zip(spatial, self.ends, strict=True))
        return joined(shape[0], made, channels, self.channels_at())


class ZeroPadding(EitherFormat, Borders, abstract=True):
    """Zeros before and after."""

    margins = "padding"

    def build(self, plan: Plan, shape: Shape) -> Shape:
        return self.moved(shape, 1)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return F.pad(x, self._zeros())

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        room, inside = padded_by_hand(p, x, self._zeros())
        return room, lambda slope, wanted: slope[inside] if wanted else None

    def _zeros(self) -> list[int]:
        """As `pad` takes them: before and after each axis, the last one first."""
        zeros = [n for pair in reversed(self.ends) for n in pair]
        return zeros if self.channels_at() == "channels_first" else [0, 0, *zeros]


class ZeroPadding1D(ZeroPadding):
    """Zeros before the first step and after the last.

    https://keras.io/api/layers/reshaping_layers/zero_padding1d/

    Shape: (batch, steps, channels) -> (batch, before + steps + after, channels)
    """

    rank = 1

    padding: Margins = _default(1)
    "Zeros at each end, or [before, after]."


class ZeroPadding2D(ZeroPadding):
    """Zeros round each picture.

    https://keras.io/api/layers/reshaping_layers/zero_padding2d/

    Shape: (batch, height, width, channels) -> (batch, top + height + bottom, left + width + right, channels)
    """

    rank = 2

    padding: Pairs = _default((1, 1))
    "Zeros at every end, or for height and width an integer or [before, after]."


class ZeroPadding3D(ZeroPadding):
    """Zeros round each volume.

    https://keras.io/api/layers/reshaping_layers/zero_padding3d/

    Shape: (batch, depth, height, width, channels) -> (batch, ..., channels), each axis longer by its two ends
    """

    rank = 3

    padding: Pairs = _default(((1, 1), (1, 1), (1, 1)))
    "Zeros at every end, or for depth, height and width an integer or [before, after]."


class Cropping(Borders, abstract=True):
    """A view without the first and last entries."""

    margins = "cropping"

    def build(self, plan: Plan, shape: Shape) -> Shape:
        spatial, _ = split_axes(shape, self.rank, self.channels_at())
        for axis, n, ends in zip(AXES[self.rank], spatial, self.ends, strict=True):
            if n is not None and sum(ends) >= n:
                raise ValueError(f"cropping {list(ends)} leaves nothing of the {axis} of {n}")
        return self.moved(shape, -1)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        first = 2 if self.channels_at() == "channels_first" else 1
        for axis, (before, after) in enumerate(self.ends, first):
            x = x.narrow(axis, before, x.shape[axis] - before - after)
        return x

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            if not wanted:
                return None
            room = torch.zeros_like(x)
            # What reads it may have written to its ends.
            p.do(room.zero_)
            p.do(self.forward(w, room).copy_, slope)
            return room

        return self.forward(w, x), pull


class Cropping1D(Cropping):
    """The steps without the first and the last.

    https://keras.io/api/layers/reshaping_layers/cropping1d/

    Shape: (batch, steps, channels) -> (batch, steps - before - after, channels)
    """

    rank = 1

    cropping: Margins = _default((1, 1))
    "Steps taken from each end, or [before, after]."


class Cropping2D(EitherFormat, Cropping):
    """The middle of each picture.

    https://keras.io/api/layers/reshaping_layers/cropping2d/

    Shape: (batch, height, width, channels) -> (batch, height - top - bottom, width - left - right, channels)
    """

    rank = 2

    cropping: Pairs = _default(((0, 0), (0, 0)))
    "Entries taken from every end, or for height and width an integer or [before, after]."


class Cropping3D(EitherFormat, Cropping):
    """The middle of each volume.

    https://keras.io/api/layers/reshaping_layers/cropping3d/

    Shape: (batch, depth, height, width, channels) -> (batch, ..., channels), each axis shorter by its two ends
    """

    rank = 3

    cropping: Pairs = _default(((1, 1), (1, 1), (1, 1)))
    "Entries taken from every end, or for depth, height and width an integer or [before, after]."
