"""Discretization: numbers to the number of the bin that holds them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import model_validator

from trainer.errors import DataError
from trainer.layers.arrays import constants
from trainer.layers.base import Weights
from trainer.layers.categories import encode, encoded_shape
from trainer.layers.host import Dense, Learner
from trainer.layers.plan import Plan
from trainer.layers.preprocessing import not_finite
from trainer.lazy import np, torch
from trainer.options import PositiveFloat, PositiveInt, Rule, complaint, number, number_schema, raise_all
from trainer.shapes import Shape

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor


def _rising(value: Any) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise TypeError
    found = tuple(number(v) for v in value)
    if any(a > b for a, b in itertools.pairwise(found)):
        raise ValueError
    return found


Boundaries = Annotated[
    tuple[float, ...],
    Rule(
        "a list of numbers, none below the one before it",
        _rising,
        {"type": "array", "items": number_schema(), "minItems": 1},
    ),
]


class Discretization(Learner):
    """The number of the bin of each value: the boundaries that it is not below.

    Boundaries [0, 1] make the bins below 0, from 0 to below 1, and from 1 on. With num_bins they are quantiles of the
    training rows, found as Keras does it, by a summary of at most 1 / epsilon values.
    https://keras.io/api/layers/preprocessing_layers/numerical/discretization/

    Shape: (batch, ...) -> (batch, ...) for int; (batch, ..., bins) for one_hot; (batch, values) -> (batch, bins)
    """

    bin_boundaries: Boundaries | None = None
    "Where one bin ends and the next begins; in the place of num_bins."
    num_bins: PositiveInt | None = None
    "Number of bins, with about as many training values each; only before the model."
    epsilon: PositiveFloat = 0.01
    "How far off the quantiles may be, as a share of the rows."
    output_mode: Literal["int", "one_hot", "multi_hot", "count"] = "int"
    "int: the bin's number; one_hot: a vector for each value; multi_hot: one for each row; count: how often each bin."
    sparse: Dense = False
    "Keras's switch for sparse tensors."

    learns = ("bin_boundaries",)
    keras_order = "... dtype name"
    not_keras = ("trainable",)

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.bin_boundaries is None and self.num_bins is None:
            raise_all([(complaint("expected bin_boundaries or num_bins, found neither"), ())])
        if self.bin_boundaries is not None and self.num_bins is not None:
            raise_all([(complaint("expected either bin_boundaries or num_bins, found both"), ("num_bins",))])
        return self

    def build(self, plan: Plan, shape: Shape) -> Shape:
        depth = None if self.bin_boundaries is None else len(self.bin_boundaries) + 1
        return encoded_shape(shape, self.output_mode, depth, most_axes=32)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        """
        Raises:
            DataError: the boundaries are still open.
        """
        if self.bin_boundaries is None:
            raise DataError("Discretization has no boundaries", hint="put it under a feature's preprocess")
        boundaries = constants(self.bin_boundaries, x.device)
        bins = torch.bucketize(x.float(), boundaries, right=True)
        return encode(bins, self.output_mode, len(self.bin_boundaries) + 1)

    def in_bins(self, names: Sequence[str]) -> tuple[str, ...]:
        """What each bin stands for, from what the numbers 0, 1, … that are put into bins do: `red / blue`."""
        places = np.searchsorted(np.asarray(self.bin_boundaries), np.arange(len(names)), side="right").tolist()
        bins: list[list[str]] = [[] for _ in range(len(self.bin_boundaries or ()) + 1)]
        for place, name in zip(places, names, strict=True):
            bins[place].append(name)
        return tuple(" / ".join(found) or str(place) for place, found in enumerate(bins))

    def learned(self, batches: Iterable[ndarray]) -> Self:
        """The layer with boundaries that share these rows out evenly.

        Raises:
            DataError: there are no rows, or one holds NaN or an infinity.
        """
        assert self.num_bins is not None
        values, rows = [np.zeros(0, "float32")], 0
        for batch in batches:
            here = np.asarray(batch, "float32")
            if not np.isfinite(here).all():
                raise not_finite(here, rows, "put into bins")
            values.append(here.reshape(-1))
            rows += len(here)
        every = np.sort(np.concatenate(values))
        if not every.size:
            raise DataError("Discretization found no rows to take boundaries from")
        found = _compressed(_compressed(_summary(every, self.epsilon), self.epsilon), 1 / self.num_bins)[0, :-1]
        return self.model_copy(update={"bin_boundaries": tuple(found.tolist())})


def _summary(ordered: ndarray, epsilon: float) -> ndarray:
    """Every n-th value in the first row, how many values it stands for in the second."""
    step = max(ordered.size * epsilon, 1)
    values = ordered[int(step - 1) :: int(step)]
    return np.stack([values, np.ones_like(values) * step])


def _compressed(summary: ndarray, epsilon: float) -> ndarray:
    """A summary with one value for each share `epsilon` of the weight, interpolated between its values."""
    if summary.shape[1] * epsilon < 1:
        return summary
    shares = epsilon + np.arange(0.0, 1.0, epsilon)
    weights = summary[1].cumsum()
    reached = weights / weights[-1]
    values, upto = np.interp(shares, reached, summary[0]), np.interp(shares, reached, weights)
    return np.stack([values, np.diff(upto, prepend=0)]).astype("float32")
