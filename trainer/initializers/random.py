"""Initializers that draw from one distribution whatever the weight's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.initializers.base import Random
from trainer.lazy import np
from trainer.options import Float, NonNegativeFloat
from trainer.shapes import text

if TYPE_CHECKING:
    import numpy


class RandomNormal(Random):
    """Normal with the given mean and standard deviation."""

    aliases = ("normal",)
    keras_order = "mean stddev seed"

    mean: Float = 0.0
    "Centre of the distribution."
    stddev: NonNegativeFloat = 0.05
    "Standard deviation."

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        return random.normal(self.mean, self.stddev, shape)


class TruncatedNormal(Random):
    """Normal, with values beyond two standard deviations drawn again."""

    keras_order = "mean stddev seed"

    mean: Float = 0.0
    "Centre of the distribution."
    stddev: NonNegativeFloat = 0.05
    "Standard deviation before truncation; that of the values is 0.88 of it."

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        return self.mean + self.stddev * truncated(shape, random)


class RandomUniform(Random):
    """Uniform from `minval` to below `maxval`."""

    aliases = ("uniform",)
    keras_order = "minval maxval seed"

    minval: Float = -0.05
    "Lower end."
    maxval: Float = 0.05
    "Upper end."

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        return self.minval + (self.maxval - self.minval) * random.random(shape)


class Orthogonal(Random):
    """A matrix with orthonormal columns (rows, when it is wider than high) times `gain`.

    A weight with more than two axes is that matrix with all axes but the last flattened into one. Drawn as the Q of a
    normal matrix, its signs made those of R's diagonal, so that every rotation is as likely as every other
    (Saxe et al., 2014, https://arxiv.org/abs/1312.6120).

    Raises:
        ValueError: the weight has fewer than two axes.
    """

    aliases = ("OrthogonalInitializer",)
    keras_order = "gain seed"

    gain: Float = 1.0
    "Factor of the matrix."

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal needs two axes or more, found a weight of shape {text(shape)}")
        columns = shape[-1]
        rows = int(np.prod(shape[:-1]))
        q, r = np.linalg.qr(random.normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))
        return self.gain * (q.T if rows < columns else q).reshape(shape)


def truncated(shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
    """Standard normal values within ±2."""
    values = np.asarray(random.normal(size=shape))
    flat = values.reshape(-1)
    outside = np.flatnonzero(np.abs(flat) > 2)
    while outside.size:
        flat[outside] = random.normal(size=outside.size)
        outside = outside[np.abs(flat[outside]) > 2]
    return values
