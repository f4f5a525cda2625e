"""The best of one share where another one is good enough. https://keras.io/api/metrics/classification_metrics/

As in Keras, masked entries count in all of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.lazy import torch
from trainer.losses.shaping import no_nan
from trainer.metrics.base import Metric, State, need_columns, needs_flags, zeros
from trainer.metrics.thresholds import Counts, add, counts, exceeded, flags
from trainer.options import Fraction, NonNegativeInt, PositiveInt

if TYPE_CHECKING:
    from torch import Tensor


def precision(found: Counts) -> Tensor:
    """Share of outputs above the threshold whose target is 1."""
    return no_nan(found.true_positives, found.true_positives + found.false_positives)


def sensitivity(found: Counts) -> Tensor:
    """Share of targets 1 whose output is above the threshold; recall is another word for it."""
    return no_nan(found.true_positives, found.true_positives + found.false_negatives)


def specificity(found: Counts) -> Tensor:
    """Share of targets 0 whose output is not above the threshold."""
    return no_nan(found.true_negatives, found.true_negatives + found.false_positives)


class BestAt(Metric, abstract=True):
    """The best value over evenly spaced thresholds at which another value is no less than asked."""

    num_thresholds: PositiveInt = 200
    "Number of thresholds from 0 to 1; with 1 it is 0.5."
    class_id: NonNegativeInt | None = None
    "Look at this class alone."

    def misfit(self, classes: int) -> tuple[str, str]:
        return needs_flags(classes)

    def thresholds(self) -> tuple[float, ...]:
        """The ascending thresholds."""
        last = self.num_thresholds - 1
        return tuple(i / last for i in range(last + 1)) if last else (0.5,)

    def kept(self, found: Counts) -> tuple[Tensor, float]:
        """The value that must be good enough, and its least."""
        raise NotImplementedError

    def wanted(self, found: Counts) -> Tensor:
        """The value whose best is the result."""
        raise NotImplementedError

    def start(self, device: torch.device | str = "cpu") -> State:
        return {"histogram": zeros(device, 2 * (len(self.thresholds()) + 1))}

    def update(
        self,
        state: State,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        if self.class_id is not None:
            need_columns(self, "class_id", self.class_id + 1, y_pred)
        actual, scores, weight = flags(y_true, y_pred, sample_weight, class_id=self.class_id)
        add(state["histogram"], actual, exceeded(scores, self.thresholds()), weight)

    def result(self, state: State) -> Tensor:
        found = counts(state["histogram"])
        kept, least = self.kept(found)
        return torch.where(kept >= least, self.wanted(found), 0.0).amax()


class SensitivityAtSpecificity(BestAt):
    """The best sensitivity (share of targets 1 that are found) where the specificity is good enough."""

    keras_order = "specificity"

    specificity: Fraction
    "Least share of targets 0 that must not be taken for 1."

    def kept(self, found: Counts) -> tuple[Tensor, float]:
        return specificity(found), self.specificity

    def wanted(self, found: Counts) -> Tensor:
        return sensitivity(found)


class SpecificityAtSensitivity(BestAt):
    """The best specificity (share of targets 0 that are not taken for 1) where the sensitivity is good enough."""

    keras_order = "sensitivity"

    sensitivity: Fraction
    "Least share of targets 1 that must be found."

    def kept(self, found: Counts) -> tuple[Tensor, float]:
        return sensitivity(found), self.sensitivity

    def wanted(self, found: Counts) -> Tensor:
        return specificity(found)


class PrecisionAtRecall(BestAt):
    """The best precision (share of outputs 1 that are right) where the recall is good enough."""

    keras_order = "recall"

    recall: Fraction
    "Least share of targets 1 that must be found."

    def kept(self, found: Counts) -> tuple[Tensor, float]:
        return sensitivity(found), self.recall

    def wanted(self, found: Counts) -> Tensor:
        return precision(found)


class RecallAtPrecision(BestAt):
    """The best recall (share of targets 1 that are found) where the precision is good enough."""

    keras_order = "precision"

    precision: Fraction
    "Least share of outputs 1 that must be right."

    def kept(self, found: Counts) -> tuple[Tensor, float]:
        return precision(found), self.precision

    def wanted(self, found: Counts) -> Tensor:
        return sensitivity(found)
