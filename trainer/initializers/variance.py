"""Initializers whose spread follows from the number of inputs and outputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, model_validator

from trainer.initializers.base import Random, fans
from trainer.initializers.random import truncated
from trainer.options import PositiveFloat, complaint, ints, raise_all
from trainer.shapes import text

if TYPE_CHECKING:
    import numpy

Fan = Literal["fan_in", "fan_out", "fan_avg"]
Spread = Literal["truncated_normal", "untruncated_normal", "uniform"]
Axes = Annotated[tuple[int, ...], ints(least=-16)]

TRUNCATED_STDDEV = 0.87962566103423978
"Standard deviation of a standard normal variable that is kept within ±2."


class Scaling(Random, abstract=True):
    """Values of variance scale / n, with n the fan in, the fan out or their mean."""

    input_axes: Axes | None = None
    "Axes of the weight whose sizes multiply to the fan in; by default all but the last (Keras's kernels)."
    output_axes: Axes | None = None
    "Axes of the weight whose sizes multiply to the fan out; given together with `input_axes`."

    @model_validator(mode="after")
    def _axes_in_pairs(self) -> Self:
        if (self.input_axes is None) != (self.output_axes is None):
            missing = "output_axes" if self.output_axes is None else "input_axes"
            raise_all([(complaint("input_axes and output_axes go together, found only one of them"), (missing,))])
        return self

    def fans(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(fan_in, fan_out) of a weight, by Keras's kernel layout or by the given axes.

        Raises:
            ValueError: the weight has no such axis.
        """
        if self.input_axes is None or self.output_axes is None:
            return fans(shape)
        for axis in (*self.input_axes, *self.output_axes):
            if not -len(shape) <= axis < len(shape):
                raise ValueError(f"expected axes of a weight of shape {text(shape)}, found axis {axis}")
        fan_in, fan_out = (math.prod(shape[a] for a in axes) for axes in (self.input_axes, self.output_axes))
        return fan_in, fan_out

    def draw(
        self, shape: tuple[int, ...], random: numpy.random.Generator, scale: float, fan: str, spread: str
    ) -> numpy.ndarray:
        """Values of `shape` and variance scale / n."""
        fan_in, fan_out = self.fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[fan]
        stddev = math.sqrt(scale / max(1.0, n))
        if spread == "uniform":
            values = random.random(shape)
            # In place, since there are as many of them as weights.
            values *= 2
            values -= 1
            values *= math.sqrt(3) * stddev
            return values
        if spread == "untruncated_normal":
            return random.normal(0, stddev, shape)
        return stddev / TRUNCATED_STDDEV * truncated(shape, random)


def _full_name(value: Any) -> Any:
    return "truncated_normal" if value == "normal" else value


class VarianceScaling(Scaling):
    """Mean 0 and variance scale / n, with n the number of inputs, of outputs, or their mean."""

    keras_order = "scale mode distribution seed"

    scale: PositiveFloat = 1.0
    "Factor of the variance."
    mode: Fan = "fan_in"
    "What n counts: the inputs, the outputs, or the mean of both."
    distribution: Annotated[Spread, BeforeValidator(_full_name)] = "truncated_normal"
    "Shape of the distribution (`normal` is `truncated_normal`, as in Keras)."

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        return self.draw(shape, random, self.scale, self.mode, self.distribution)


class FixedScaling(Scaling, abstract=True):
    """A published choice of scale, n and distribution."""

    factor: ClassVar[float] = 1.0
    fan: ClassVar[Fan] = "fan_in"
    spread: ClassVar[Spread] = "uniform"

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        return self.draw(shape, random, self.factor, self.fan, self.spread)


class GlorotUniform(FixedScaling):
    """Uniform in ±sqrt(6 / (fan_in + fan_out)).

    Glorot and Bengio, 2010 (https://proceedings.mlr.press/v9/glorot10a.html).
    """

    fan = "fan_avg"


class GlorotNormal(FixedScaling):
    """Truncated normal with standard deviation sqrt(2 / (fan_in + fan_out)).

    Glorot and Bengio, 2010 (https://proceedings.mlr.press/v9/glorot10a.html).
    """

    fan = "fan_avg"
    spread = "truncated_normal"


class HeUniform(FixedScaling):
    """Uniform in ±sqrt(6 / fan_in) (He et al., 2015, https://arxiv.org/abs/1502.01852)."""

    factor = 2.0


class HeNormal(FixedScaling):
    """Truncated normal with standard deviation sqrt(2 / fan_in) (He et al., 2015, https://arxiv.org/abs/1502.01852)."""

    factor = 2.0
    spread = "truncated_normal"


class LecunUniform(FixedScaling):
    """Uniform in ±sqrt(3 / fan_in) (Klambauer et al., 2017, https://arxiv.org/abs/1706.02515)."""


class LecunNormal(FixedScaling):
    """Truncated normal, standard deviation sqrt(1 / fan_in) (Klambauer et al., 2017, https://arxiv.org/abs/1706.02515)."""

    spread = "truncated_normal"
