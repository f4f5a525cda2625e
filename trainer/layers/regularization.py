"""Layers that work in training alone: dropouts and noises, and ActivityRegularization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainer.layers.base import Layer, Weights
from trainer.layers.drawing import Seeded, beside
from trainer.layers.plan import Plan
from trainer.layers.spatial import DataFormat, Spatial, split_axes
from trainer.lazy import torch
from trainer.options import Fraction, NonNegativeFloat, ProperFraction, Rule, integer
from trainer.regularizers.base import Regularizer
from trainer.regularizers.norms import L1L2
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Generator, Tensor

    from trainer.program import Program, Pull


def _noise_shape(value: Any) -> tuple[int | None, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    sizes = tuple(None if v is None else integer(v) for v in value)
    if any(n is not None and n < 1 for n in sizes):
        raise ValueError
    return sizes


_SIZE = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
NoiseShape = Annotated[
    tuple[int | None, ...],
    Rule("a list of integers of 1 or more and nulls", _noise_shape, {"type": "array", "items": _SIZE}),
]


def fits(noise: Sequence[int | None] | None, shape: Shape) -> None:
    """Refuse a noise shape that does not broadcast to the input's.

    Raises:
        ValueError: an axis is missing, or has another size.
    """
    if noise is None:
        return
    good = [a in (None, 1, b) or b is None for a, b in zip(noise, shape, strict=False)]
    if len(noise) != len(shape) or not all(good):
        raise ValueError(
            f"noise_shape {text(tuple(noise))} does not fit input of shape {text(shape)}; "
            "give every axis, the batch included, the input's size, 1 or null"
        )


def kept(
    x: Tensor, rate: float, generator: Generator, noise: Sequence[int | None] | None = None, scale: float = 1.0
) -> Tensor:
    """`scale` where a draw stays and 0 where it falls, which is at `rate` of the entries; broadcasts to `x`."""
    sizes = [b if a is None else a for a, b in zip(noise or [None] * x.dim(), x.shape, strict=True)]
    # A uniform draw and a comparison in place take half the time of bernoulli_.
    draws = torch.rand(sizes, device=x.device, generator=beside(generator, x))
    return draws.ge_(rate).mul_(scale).to(x.dtype)


def dropped(x: Tensor, rate: float, generator: Generator, noise: Sequence[int | None] | None = None) -> Tensor:
    """x m / (1 - rate), where m is 0 at `rate` of the entries and 1 elsewhere; zeros at a rate of 1."""
    return x * kept(x, rate, generator, noise, 0.0 if rate == 1 else 1 / (1 - rate))


def dropped_by_hand(
    layer: Dropout | SpatialDropping, p: Program, w: Weights, x: Tensor, noise: Sequence[int | None] | None
) -> tuple[Tensor, Pull]:
    """`dropped` as operations of a program."""
    generator = torch.Generator(x.device)
    # Copies of a model draw what each of them would draw alone.
    factors = kept(x[0] if p.copies > 1 else x, layer.rate, generator, noise)
    # Drawn in float32 whatever the number type.
    draws, sizes = torch.empty_like(factors, dtype=torch.float32), factors.shape
    rate, scale = p.constant(layer.rate, draws), p.constant(0.0 if layer.rate == 1 else 1 / (1 - layer.rate), draws)

    def draw(into: Tensor) -> None:
        generator.manual_seed(w.draw_seed(layer.seed))
        torch.rand(sizes, generator=generator, out=into)

    p.draw(draws, draw)
    p.do(torch.ge, draws, rate, out=factors)
    p.do(factors.mul_, scale)
    return p.make(torch.mul, x, factors), times(p, factors)


def drawn(p: Program, draw: Callable[[], Tensor]) -> Tensor:
    """What `draw` gives, drawn anew by every run."""
    made = draw()
    p.draw(made, lambda into: into.copy_(draw()))
    return made


def times(p: Program, factors: Tensor) -> Pull:
    """The way back through a product."""

    def pull(slope: Tensor, wanted: bool) -> Tensor | None:
        if wanted:
            p.do(slope.mul_, factors)
        return slope if wanted else None

    return pull


def unchanged(slope: Tensor, wanted: bool) -> Tensor | None:
    """The way back through a layer that does nothing, or adds what does not depend on its input."""
    return slope if wanted else None


def _normal(x: Tensor, generator: Generator) -> Tensor:
    """Standard normal draws in the shape of `x`."""
    return torch.randn(x.shape, device=x.device, dtype=x.dtype, generator=beside(generator, x))


class Noise(Seeded, abstract=True):
    """Changes entries by chance in training, and none otherwise."""

    supports_masking = True
    keras_order = "rate noise_shape data_format ... seed"


class ShapedNoise(Noise, abstract=True):
    """Draws 0 or 1 for each entry, or for several at once."""

    noise_shape: NoiseShape | None = None
    "Shape of m, batch first: 1 where an axis shares its draws, null where it has the input's size."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        fits(self.noise_shape, shape)
        return shape


class Dropout(ShapedNoise):
    """In training, x m / (1 - rate), where m is 0 with probability `rate` and 1 otherwise; x when not training.

    Srivastava et al., 2014 (https://jmlr.org/papers/v15/srivastava14a.html);
    https://keras.io/api/layers/regularization_layers/dropout/

    Shape: (batch, ...) -> (batch, ...)
    """

    side_by_side = True

    rate: Fraction
    "Share of the entries that are set to zero."

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if not w.training or self.rate == 0:
            return x
        return dropped(x, self.rate, w.generator(self.seed), self.noise_shape)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return dropped_by_hand(self, p, w, x, self.noise_shape) if self.rate else (x, unchanged)


class SpatialDropping(Noise, Spatial, abstract=True):
    """Drops whole channels of a sample, since neighbours in a series or picture say much the same."""

    not_keras = ("trainable",)

    rate: Fraction
    "Share of the channels that are set to zero."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        split_axes(shape, self.rank, self.channels_at())
        return shape

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if not w.training or self.rate == 0:
            return x
        return dropped(x, self.rate, w.generator(self.seed), self._noise())

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return dropped_by_hand(self, p, w, x, self._noise()) if self.rate else (x, unchanged)

    def _noise(self) -> tuple[int | None, ...]:
        ones = (1,) * self.rank
        return (None, None, *ones) if self.channels_at() == "channels_first" else (None, *ones, None)


class FormattedDropping(SpatialDropping, abstract=True):
    """Takes the channels at either place."""

    data_format: DataFormat = "channels_last"
    "Whether the channels stand last or first after the batch."

    def channels_at(self) -> str:
        return self.data_format


class SpatialDropout1D(SpatialDropping):
    """In training, zeros in whole channels of a series, the others divided by 1 - rate; x when not training.

    Tompson et al., 2015 (https://arxiv.org/abs/1411.4280);
    https://keras.io/api/layers/regularization_layers/spatial_dropout1d/

    Shape: (batch, length, channels) -> (batch, length, channels)
    """

    rank = 1


class SpatialDropout2D(FormattedDropping):
    """In training, zeros in whole channels of a picture, the others divided by 1 - rate; x when not training.

    Tompson et al., 2015 (https://arxiv.org/abs/1411.4280);
    https://keras.io/api/layers/regularization_layers/spatial_dropout2d/

    Shape: (batch, height, width, channels) -> (batch, height, width, channels)
    """

    rank = 2


class SpatialDropout3D(FormattedDropping):
    """In training, zeros in whole channels of a volume, the others divided by 1 - rate; x when not training.

    Tompson et al., 2015 (https://arxiv.org/abs/1411.4280);
    https://keras.io/api/layers/regularization_layers/spatial_dropout3d/

    Shape: (batch, depth, height, width, channels) -> (batch, depth, height, width, channels)
    """

    rank = 3


_SELU_FLOOR = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946
"What selu tends to far below zero."


class AlphaDropout(ShapedNoise):
    """Dropout after `selu`: in training, entries fall to selu's lowest value, and mean and variance stay.

    a (x m + floor (1 - m)) + b, with floor = -1.758, a = ((1 - rate)(1 + rate floor^2))^(-1/2), b = -a floor rate, and
    m 0 with probability `rate` and 1 otherwise (Klambauer et al., 2017, https://arxiv.org/abs/1706.02515).
    https://keras.io/api/layers/regularization_layers/alpha_dropout/

    Shape: (batch, ...) -> (batch, ...)
    """

    rate: ProperFraction
    "Share of the entries that fall."

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if not w.training or self.rate == 0:
            return x
        m, a = kept(x, self.rate, w.generator(self.seed), self.noise_shape), self._scale()
        return a * (x * m + _SELU_FLOOR * (1 - m)) - a * _SELU_FLOOR * self.rate

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        if self.rate == 0:
            return x, unchanged
        a, m = self._scale(), drawn(p, lambda: kept(x, self.rate, w.generator(self.seed), self.noise_shape))
        fallen, made = p.make(torch.sub, p.constant(1.0, m), m), p.make(torch.mul, x, m)
        p.do(fallen.mul_, _SELU_FLOOR)
        p.do(made.add_, fallen)
        p.do(made.mul_, a)
        p.do(made.sub_, a * _SELU_FLOOR * self.rate)
        p.do(m.mul_, a)
        return made, times(p, m)

    def _scale(self) -> float:
        return ((1 - self.rate) * (1 + self.rate * _SELU_FLOOR**2)) ** -0.5


class GaussianDropout(Noise):
    """In training, x times a normal draw with mean 1 and variance rate / (1 - rate), dropout's own; x otherwise.

    Srivastava et al., 2014 (https://jmlr.org/papers/v15/srivastava14a.html);
    https://keras.io/api/layers/regularization_layers/gaussian_dropout/

    Shape: (batch, ...) -> (batch, ...)
    """

    rate: ProperFraction
    "Share of the entries that dropout of the same variance would set to zero."

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if not w.training or self.rate == 0:
            return x
        return x * self._factors(w, x)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        if self.rate == 0:
            return x, unchanged
        factors = drawn(p, lambda: self._factors(w, x))
        return p.make(torch.mul, x, factors), times(p, factors)

    def _factors(self, w: Weights, x: Tensor) -> Tensor:
        return 1 + (self.rate / (1 - self.rate)) ** 0.5 * _normal(x, w.generator(self.seed))


class GaussianNoise(Noise):
    """In training, x plus a normal draw with mean 0; x when not training.

    https://keras.io/api/layers/regularization_layers/gaussian_noise/

    Shape: (batch, ...) -> (batch, ...)
    """

    stddev: Fraction
    "Standard deviation of the noise."

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if not w.training or self.stddev == 0:
            return x
        return x + self.stddev * _normal(x, w.generator(self.seed))

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        if self.stddev == 0:
            return x, unchanged
        noise = drawn(p, lambda: self.stddev * _normal(x, w.generator(self.seed)))
        return p.make(torch.add, x, noise), unchanged


class ActivityRegularization(Layer):
    """x, with a penalty on it: l1 sum(|x|) + l2 sum(x^2), a mean over the batch, is added to the loss.

    https://keras.io/api/layers/regularization_layers/activity_regularization/

    Shape: (batch, ...) -> (batch, ...)
    """

    l1: NonNegativeFloat = 0.0
    "Factor of the sum of absolute values."
    l2: NonNegativeFloat = 0.0
    "Factor of the sum of squares."

    supports_masking = True

    @property
    def activity_regularizer(self) -> Regularizer:
        """The penalty on the output, as other layers have it among their options."""
        return L1L2(l1=self.l1, l2=self.l2)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return x
