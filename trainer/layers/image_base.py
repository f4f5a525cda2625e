"""What layers on pictures share: their options, ranges of values, and the two halves of a random one.

A random layer is `draw(generator, shape)`, which makes numbers for every picture of a batch, and `apply(x, drawn)`,
which changes the pictures by them and draws nothing. Both see the pictures as (batch, height, width, channels) in
floating numbers, whatever the layer's data_format; names and shapes in `drawn` are those of the transformation that
Keras's own layer draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from trainer.layers.base import Weights
from trainer.layers.drawing import Seeded, beside
from trainer.layers.plan import Plan
from trainer.layers.spatial import DataFormat, Spatial, joined, split_axes
from trainer.lazy import torch
from trainer.options import Rule, integer, number, number_schema
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Generator, Tensor

Factor = float | tuple[float, float]
Drawn = dict[str, Any]
"What was drawn for a batch: tensors by name, or, in a layer that joins several, what each of them drew."


def _pair(value: Any, one: Callable[[Any], Any]) -> Any:
    if isinstance(value, (list, tuple)):
        first, second = value
        return one(first), one(second)
    return one(value)


def factor(least: float, most: float, *, above: bool = False, whole: bool = False) -> Rule:
    """A number, or a list of two to draw between, each from `least` to `most` (`above`: but not `least` itself)."""
    read = integer if whole else number

    def one(value: Any) -> float:
        found = read(value)
        if not least <= found <= most or (above and found == least):
            raise ValueError
        return found

    bound = {"exclusiveMinimum" if above else "minimum": least, "maximum": most}
    schema = {"type": "integer", **bound} if whole else number_schema(**bound)
    what = f"{'an integer' if whole else 'a number'} {'above' if above else 'from'} {least:g} "
    what += f"{'and up ' if above else ''}to {most:g}, or a list of two"
    pair = {"type": "array", "items": schema, "minItems": 2, "maxItems": 2}
    return Rule(what, lambda value: _pair(value, one), {"anyOf": [schema, pair]})


def _value_range(value: Any) -> tuple[float, float]:
    low, high = (number(v) for v in value)
    if not low < high:
        raise ValueError
    return low, high


Signed = Annotated[Factor, factor(-1, 1)]
"Drawn from -f to f when it is one number."
Share = Annotated[Factor, factor(0, 1)]
"Drawn from 0 to f when it is one number."
_RANGE = {"type": "array", "items": number_schema(), "minItems": 2, "maxItems": 2}
ValueRange = Annotated[tuple[float, float], Rule("a list of two numbers, the lower one first", _value_range, _RANGE)]


def between(value: Factor, least: float | None = None) -> tuple[float, float]:
    """The two ends of a factor: those given, in order, or `least` (by default -f) and f."""
    if isinstance(value, tuple):
        return min(value), max(value)
    return (-abs(value) if least is None else least), abs(value)


def uniform(generator: Generator, shape: tuple[int, ...], ends: tuple[float, float]) -> Tensor:
    """Uniform draws from `ends`, where the generator draws."""
    low, high = ends
    return (high - low) * torch.rand(shape, generator=generator, device=generator.device) + low


def by_chance(generator: Generator, pictures: int, chance: Factor) -> Tensor:
    """Which pictures are changed, each with a chance that is drawn too: from 0 to f, or between the two given."""
    chances = uniform(generator, (pictures,), between(chance, 0.0))
    return uniform(generator, (pictures,), (0.0, 1.0)) < chances


def each(values: Tensor) -> Tensor:
    """A value a picture, with axes of 1 for height, width and channels."""
    return values.reshape(-1, 1, 1, 1)


def rescaled(x: Tensor, had: tuple[float, float], wanted: tuple[float, float]) -> Tensor:
    """Values in the range `had`, moved to the range `wanted`."""
    if had == wanted:
        return x
    return (x - had[0]) / (had[1] - had[0]) * (wanted[1] - wanted[0]) + wanted[0]


BYTES = (0.0, 255.0)
"The range in which tables of values and bits count."


class ImageLayer(Spatial, abstract=True):
    """A layer on pictures; `change` says what it does to them."""

    rank = 2
    computes_in_full = True
    keras_order = "value_range ... data_format"

    channels: ClassVar[tuple[int, ...]] = ()
    "Numbers of channels that it can take; empty when any."
    keeps_integers: ClassVar[bool] = False
    "Whether integers stay integers, as Keras leaves them; otherwise they become float32."

    def sized(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        """Height and width of the output.

        Raises:
            ValueError: pictures of that size can't be taken.
        """
        return height, width

    def build(self, plan: Plan, shape: Shape) -> Shape:
        (height, width), channels = split_axes(shape, self.rank, self.channels_at())
        if self.channels and channels is not None and channels not in self.channels:
            allowed = " or ".join(map(str, self.channels))
            raise ValueError(f"expected pictures of {allowed} channels, found {channels} in input {text(shape)}")
        return joined(shape[0], self.sized(height, width), channels, self.channels_at())

    def change(self, w: Weights, x: Tensor) -> Tensor:
        """The output for pictures (batch, height, width, channels)."""
        raise NotImplementedError

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        first = self.channels_at() == "channels_first"
        if not (self.keeps_integers or x.is_floating_point()):
            x = x.float()
        made = self.change(w, x.permute(0, 2, 3, 1) if first else x)
        return made.permute(0, 3, 1, 2) if first else made


class Ranged(ImageLayer, abstract=True):
    """Must know which values pixels can have."""

    value_range: ValueRange = (0.0, 255.0)
    "Lowest and highest value that a pixel can have."


class Clipped(ImageLayer, abstract=True):
    """Cuts what it makes to the values that pixels can have."""

    value_range: ValueRange = (0.0, 255.0)
    "Lowest and highest value that a pixel can have; what is beyond is cut off."


class AnyFormat(ImageLayer, abstract=True):
    """Takes the channels at either place."""

    data_format: DataFormat = "channels_last"
    "Whether the channels stand last or first after the batch."

    def channels_at(self) -> str:
        return self.data_format


SEED_BEFORE_FORMAT = "... value_range seed data_format"
"`keras_order` of those random layers for which Keras has it so."


class RandomImageLayer(Seeded, ImageLayer, abstract=True):
    """Changes pictures by numbers that are drawn anew for each batch in training, and lets them be otherwise."""

    preprocessing = True
    draws = True

    keras_order = "... value_range data_format seed"

    def draw(self, generator: Generator, shape: tuple[int, ...]) -> Drawn:
        """What to do to each picture of a batch of that shape, (batch, height, width, channels)."""
        raise NotImplementedError

    def apply(self, x: Tensor, drawn: Drawn) -> Tensor:
        """The pictures, changed by what was drawn."""
        raise NotImplementedError

    def unchanged(self, x: Tensor) -> Tensor:
        """What is made of the pictures when not training."""
        return x

    def change(self, w: Weights, x: Tensor) -> Tensor:
        if not w.training:
            return self.unchanged(x)
        return self.apply(x, self.draw(beside(w.generator(self.seed), x), tuple(x.shape)))
