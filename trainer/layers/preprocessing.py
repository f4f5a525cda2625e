"""Rescaling and Normalization."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from trainer.errors import DataError
from trainer.initializers.constant import Ones, Zeros
from trainer.layers.arrays import constants
from trainer.layers.base import Layer, Weights
from trainer.layers.plan import Plan
from trainer.lazy import np
from trainer.options import Bool, Rule, integer, number
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

EPSILON = 1e-7
"Keras's backend epsilon: no standard deviation counts as smaller."


def _numbers(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return number(value)
    found = tuple(_numbers(v) for v in value)
    if len({extent(v) for v in found}) != 1:
        raise ValueError
    return found


def extent(value: Any) -> tuple[int, ...]:
    """The shape of nested tuples of numbers; a number has none."""
    return (len(value), *extent(value[0])) if isinstance(value, tuple) else ()


def _axes(value: Any) -> int | tuple[int, ...]:
    return tuple(integer(v) for v in value) if isinstance(value, (list, tuple)) else integer(value)


_INTEGER = {"type": "integer"}
_PLAIN = {"type": ["number", "string", "array"]}
Numbers = Annotated[Any, Rule("a number or a list of them", _numbers, _PLAIN)]
Axes = Annotated[
    int | tuple[int, ...],
    Rule("an integer or a list of integers", _axes, {"anyOf": [_INTEGER, {"type": "array", "items": _INTEGER}]}),
]


class Rescaling(Layer):
    """x * scale + offset

    https://keras.io/api/layers/preprocessing_layers/image_preprocessing/rescaling/

    Shape: (batch, ...) -> (batch, ...)
    """

    scale: Numbers
    "Factor; a list has one for each entry of the last axis."
    offset: Numbers = 0.0
    "What is added afterwards; a list has one for each entry of the last axis."

    supports_masking = True
    preprocessing = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        for name, value in (("scale", self.scale), ("offset", self.offset)):
            have = extent(value)
            pairs = list(zip(reversed(have), reversed(shape), strict=False))
            if len(have) > len(shape) or any(n not in (1, m) and m is not None for n, m in pairs):
                raise ValueError(f"{name} of shape {text(have)} does not fit input of shape {text(shape)}")
        return shape

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        values, scale = x.float(), _factor(self.scale, x)
        # What was cast is ours to overwrite, which halves the time for pictures of bytes.
        scaled = values * scale if values is x else values.mul_(scale)
        return scaled if self.offset == 0 else scaled + _factor(self.offset, x)


def _factor(value: Any, x: Tensor) -> Any:
    return constants(value, x.device) if isinstance(value, tuple) else value


class Normalization(Layer):
    """(x - mean) / max(sqrt(variance), 1e-7), with the mean and variance of the training rows.

    https://keras.io/api/layers/preprocessing_layers/numerical/normalization/

    Shape: (batch, ...) -> (batch, ...)
    """

    axis: Axes | None = -1
    "Axis or axes whose entries each have a mean of their own; null: one mean for all."
    mean: Numbers | None = None
    "The mean, when it is known beforehand (together with variance)."
    variance: Numbers | None = None
    "The variance, when it is known beforehand."
    invert: Bool = False
    "Whether normalized values are turned back instead: x * sqrt(variance) + mean."

    supports_masking = True
    preprocessing = True
    fitted = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        kept = tuple(shape[d] for d in self._kept(len(shape)))
        if None in kept:
            raise ValueError(f"the sizes of axis {self.axis} must be known, found input of shape {text(shape)}")
        self._check_given(kept)
        if self.mean is None:
            plan.weight("mean", kept, Zeros(), trainable=False)
            plan.weight("variance", kept, Ones(), trainable=False)
            # Keras keeps it for older files only, and at 0.
            plan.weight("count", (), Zeros(), trainable=False, dtype="int32")
        return shape

    def _kept(self, rank: int) -> tuple[int, ...]:
        """The axes of `axis`, counted from the front, in order.

        Raises:
            ValueError: the input has no such axis.
        """
        axes = () if self.axis is None else self.axis if isinstance(self.axis, tuple) else (self.axis,)
        if any(not -rank <= a < rank for a in axes):
            raise ValueError(f"axis {self.axis} is not among the {rank} axes of the input")
        return tuple(sorted(a % rank for a in axes))

    def _check_given(self, kept: Shape) -> None:
        """
        Raises:
            ValueError: mean and variance are not given together, or don't fit the axes.
        """
        if (self.mean is None) != (self.variance is None):
            raise ValueError(
                "mean and variance must be given together, or neither, to take them from the training rows"
            )
        have = extent(self.mean)
        if have != extent(self.variance):
            raise ValueError(f"mean has shape {text(have)}, but variance {text(extent(self.variance))}")
        pairs = zip(reversed(have), reversed(kept), strict=False)
        if len(have) > len(kept) or any(n not in (1, m) for n, m in pairs):
            raise ValueError(f"mean of shape {text(have)} does not fit axis {self.axis} of shape {text(kept)}")

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if self.mean is None:
            mean, variance = w.mean, w.variance
        else:
            mean, variance = (constants(v, x.device) for v in (self.mean, self.variance))
        mean, variance = self._along(mean, x.dim()), self._along(variance, x.dim())
        deviation = variance.sqrt().clamp(min=EPSILON)
        values = x.float()
        return values * deviation + mean if self.invert else (values - mean) / deviation

    def _along(self, values: Tensor, rank: int) -> Tensor:
        """Statistics with an axis for each of the input's, so that they broadcast."""
        sizes = [1] * rank
        for n, axis in zip(reversed(values.shape), reversed(self._kept(rank)), strict=False):
            sizes[axis] = n
        return values.reshape(sizes)

    def adapt(self, batches: Iterable[ndarray], shape: Shape) -> dict[str, ndarray]:
        """The weights for these rows, batch after batch, in float64.

        Means and sums of squares are merged as in Chan et al., 1979, which loses nothing to a large mean.

        Raises:
            DataError: there are no rows, or one holds NaN or an infinity.
        """
        gone = tuple(d for d in range(len(shape)) if d not in self._kept(len(shape)))
        rows = count = 0
        mean, squares = np.zeros(()), np.zeros(())
        for batch in batches:
            values = np.asarray(batch, "float64")
            if not values.size:
                continue
            here = values.mean(gone)
            many = values.size // here.size
            if not np.isfinite(here).all():
                raise not_finite(values, rows, "normalize")
            moved, share = here - mean, many / (count + many)
            squares = squares + values.var(gone) * many + moved**2 * (count * share)
            mean, rows, count = mean + moved * share, rows + len(values), count + many
        if not count:
            raise DataError("Normalization found no rows to take the mean and variance from")
        found = {"mean": mean, "variance": squares / count}
        return {**{k: np.asarray(v, "float32") for k, v in found.items()}, "count": np.zeros((), "int32")}


def not_finite(values: ndarray, rows: int, what: str) -> DataError:
    """What is wrong with a batch of numbers to `what`, the first of them in training row `rows`."""
    place = np.argwhere(~np.isfinite(values))[0]
    return DataError(
        f"expected finite numbers to {what}, found {values[tuple(place)]} in training row {rows + place[0]}",
        hint="leave such rows out, or fill the gaps before training",
    )
