"""What convolution and pooling share: sizes along each axis, data formats, and the way to torch's axis order and back.

Both compute on planes (batch, channels, height, width), or volumes (batch, channels, depth, height, width), that are
views: the memory stays channels last, which is what torch's kernels read fastest, and nothing is copied. One spatial
axis is a plane of height 1, because torch has no channels-last form of its 1D kernels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from trainer.layers.base import Layer
from trainer.options import Rule, complaint, ints, shown
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("channels_last", "channels_first")
AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"Names of the spatial axes."


def _data_format(value: Any) -> str:
    value = FORMATS[0] if value is None else value
    if value not in FORMATS:
        raise ValueError
    return value


DataFormat = Annotated[
    str,
    Rule('"channels_last", "channels_first" or null', _data_format, {"enum": [*FORMATS, None]}),
]
Sizes = Annotated[tuple[int, ...], ints()]
Margins = Annotated[tuple[int, ...], ints(least=0)]


class Spatial(Layer, abstract=True):
    """A layer with spatial axes, behind which the channels stand unless an option says otherwise."""

    rank: ClassVar[int] = 0
    "Number of spatial axes."

    def channels_at(self) -> str:
        """Where the channels stand, as `data_format` says it."""
        return FORMATS[0]


class EitherFormat(Spatial, abstract=True):
    """Takes the channels at either place."""

    data_format: DataFormat = "channels_last"
    "Where the channels stand: channels_last or channels_first."

    keras_order = "... data_format"

    def channels_at(self) -> str:
        return self.data_format


def one_for_all(value: int) -> Any:
    """A default that stands for every spatial axis, however many the class has."""
    return Field(default=value, validate_default=True)


def for_each_axis(value: Any, rank: int, least: int = 1) -> Any:
    """An integer of `least` or more as a tuple of `rank` of them; used before the type's own check.

    Raises:
        PydanticCustomError: a list of another length.
    """
    if isinstance(value, int) and value >= least and not isinstance(value, bool):
        return (value,) * rank
    if isinstance(value, (list, tuple)) and len(value) != rank:
        raise complaint(f"expected an integer or a list of {rank}, found {shown(value)}")
    return value


def flat(values: tuple[int, ...], fill: int = 1) -> tuple[int, ...]:
    """`values` for both axes of a plane; the height of a sequence is left alone by `fill`."""
    return (fill,) * (2 - len(values)) + values


def to_planes(x: Tensor, rank: int, data_format: str) -> Tensor:
    """A view (batch, channels, height, width) or (batch, channels, depth, height, width) of the layer's input."""
    first = data_format == "channels_first"
    if rank == 1:
        x = x.unsqueeze(2 if first else 1)
    if first:
        return x
    return x.permute(0, 4, 1, 2, 3) if rank == 3 else x.permute(0, 3, 1, 2)


def from_planes(y: Tensor, rank: int, data_format: str) -> Tensor:
    """A view of planes or volumes in the layer's own axis order."""
    if data_format == "channels_last":
        y = y.permute(0, 2, 3, 4, 1) if rank == 3 else y.permute(0, 2, 3, 1)
        return y.squeeze(1) if rank == 1 else y
    return y.squeeze(2) if rank == 1 else y


def split_axes(shape: Shape, rank: int, data_format: str) -> tuple[Shape, int | None]:
    """(spatial sizes, channels) of an input.

    Raises:
        ValueError: the input has another rank; the message names the usual remedy.
    """
    first = data_format == "channels_first"
    if len(shape) != rank + 2:
        axes = ("channels", *AXES[rank]) if first else (*AXES[rank], "channels")
        raise ValueError(
            f"expected input of shape (batch, {', '.join(axes)}), found {text(shape)}{_remedy(shape, rank, first)}"
        )
    return (shape[2:], shape[1]) if first else (shape[1:-1], shape[-1])


def joined(batch: int | None, spatial: Shape, channels: int | None, data_format: str) -> Shape:
    """The opposite of `split_axes`."""
    return (batch, channels, *spatial) if data_format == "channels_first" else (batch, *spatial, channels)


def _remedy(shape: Shape, rank: int, first: bool) -> str:
    """What usually helps against an input of another rank; empty when it can't be guessed."""
    spatial, channels = tuple(shape[1:]), 1
    if len(spatial) == 1 and rank == 2 and spatial[0]:
        side, channels = _picture(spatial[0])
        spatial = (side, side) if side else ()
    if len(spatial) != rank or None in spatial:
        return ""
    target = (channels, *spatial) if first else (*spatial, channels)
    return f"; add {{Reshape: {{target_shape: [{', '.join(map(str, target))}]}}}} before it"


def _picture(values: int) -> tuple[int, int]:
    """(side, channels) of the square picture, grey or in colours, that has as many values; (0, 0) without one."""
    for channels in (1, 3):
        side = math.isqrt(values // channels)
        if side * side * channels == values:
            return side, channels
    return 0, 0
