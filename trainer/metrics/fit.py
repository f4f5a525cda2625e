"""How well numbers follow numbers. https://keras.io/api/metrics/regression_metrics/"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainer.errors import DataError
from trainer.lazy import torch
from trainer.losses.base import EPSILON
from trainer.losses.shaping import floating, leading, same_rank
from trainer.metrics.base import Formula, Metric, State, zeros
from trainer.options import Axes, NonNegativeInt

if TYPE_CHECKING:
    from torch import Tensor

SUMS = ("sum", "squared_sum", "residual", "count")


class R2Score(Metric):
    """Coefficient of determination: 1 - sum((y - p)^2) / sum((y - mean(y))^2), 1 for a perfect fit.

    As in Keras, masked entries count, a column whose target never changes has a score that is no number, or 0 if the
    outputs differ from it, and the adjustment counts numbers rather than rows.
    """

    class_aggregation: Literal["uniform_average", "variance_weighted_average"] | None = "uniform_average"
    "One number over columns: their mean, or the mean weighted by their variances; null for all of them."
    num_regressors: NonNegativeInt = 0
    "Number of independent variables, for the adjusted score; with fewer numbers than that, the score stays plain."

    def start(self, device: torch.device | str = "cpu") -> State:
        return {"numbers": 0, **{name: zeros(device, 0) for name in SUMS}}

    def update(
        self,
        state: State,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        y_true, y_pred = same_rank(y_true, floating(y_pred))
        if y_pred.dim() != 2 or y_true.shape != y_pred.shape:
            found = f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}"
            raise DataError(f"R2Score expects target and output of shape (batch, values), found {found}", code="shape")
        if not state["count"].numel():
            state |= {name: zeros(y_pred.device, y_pred.shape[1]) for name in SUMS}
        dtype = state["count"].dtype
        y_true, y_pred = y_true.to(dtype), y_pred.to(dtype)
        weight = torch.ones((), dtype=dtype, device=y_true.device) if sample_weight is None else sample_weight.to(dtype)
        weight = leading(weight, y_true).expand_as(y_true)
        state["sum"] += (y_true * weight).sum(0)
        state["squared_sum"] += (y_true.square() * weight).sum(0)
        state["residual"] += ((y_true - y_pred).square() * weight).sum(0)
        state["count"] += weight.sum(0)
        state["numbers"] += y_true.numel()

    def result(self, state: State) -> Tensor:
        if not state["count"].numel():
            return state["count"].sum()
        spread = state["squared_sum"] - state["sum"].square() / state["count"]
        scores = 1 - state["residual"] / spread
        scores = torch.where(scores.isinf(), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = (spread * scores).sum() / spread.sum()
        left = state["numbers"] - self.num_regressors - 1
        return 1 - (1 - scores) * (state["numbers"] - 1) / left if self.num_regressors and left > 0 else scores


class Correlation(Formula, abstract=True):
    """A correlation along an axis of each sample."""

    keras_order = "name axis"

    axis: Axes = -1
    "Axis or axes that hold what is compared; -1 compares the values of one sample with each other."


class PearsonCorrelation(Correlation):
    """Pearson's correlation: the mean product of target and output, both brought to mean 0 and deviation 1."""

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return (_standard(y_true, self.axis) * _standard(y_pred, self.axis)).mean(self.axis)


def _standard(y: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    y = y - y.mean(axis, keepdim=True)
    return y / y.std(axis, correction=0, keepdim=True)


class ConcordanceCorrelation(Correlation):
    """Lin's concordance: 2 cov(y, p) / (var(y) + var(p) + (mean(y) - mean(p))^2), 1 where they are the same."""

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        means = [y.mean(self.axis, keepdim=True) for y in (y_true, y_pred)]
        spreads = [y.var(self.axis, correction=0, keepdim=True) for y in (y_true, y_pred)]
        apart = spreads[0] + spreads[1] + (means[0] - means[1]).square()
        together = (y_true - means[1]) * (y_pred - means[1])
        return (2 * together / (apart + EPSILON)).mean(self.axis)
