"""F scores: precision and recall in one number. https://keras.io/api/metrics/classification_metrics/#f1score-class"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from trainer.errors import DataError
from trainer.lazy import torch
from trainer.losses.base import EPSILON
from trainer.metrics.base import Metric, State, needs_flags, zeros
from trainer.options import PositiveFloat, PositiveFraction

if TYPE_CHECKING:
    from torch import Tensor


class FScore(Metric, abstract=True):
    """(1 + beta^2) precision recall / (beta^2 precision + recall), for each class of one-hot or 0/1 targets."""

    average: Literal["micro", "macro", "weighted"] | None = None
    "One number over classes: from summed counts, the mean, or the mean weighted by class size; null for all classes."
    threshold: PositiveFraction | None = None
    "Outputs above it count as 1; by default the highest output of a sample does."

    def misfit(self, classes: int) -> tuple[str, str]:
        return needs_flags(classes)

    def weight_of_recall(self) -> float:
        """beta."""
        return 1.0

    def start(self, device: torch.device | str = "cpu") -> State:
        names = ("true_positives", "false_positives", "false_negatives")
        return {name: zeros(device) for name in names}

    def update(
        self,
        state: State,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        if y_pred.dim() != 2 or y_true.shape != y_pred.shape:
            found = f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}"
            name = type(self).__name__
            raise DataError(f"{name} expects target and output of shape (batch, classes), found {found}", code="shape")
        if self.threshold is None:
            positive = (y_pred >= y_pred.amax(-1, keepdim=True)) & (y_pred.abs() > 1e-9)
        else:
            positive = y_pred > self.threshold
        total = state["true_positives"]
        predicted, actual = positive.to(total.dtype), y_true.to(total.dtype)
        weight = 1.0 if sample_weight is None else sample_weight.to(total.dtype).reshape(-1, 1)
        found = {
            "true_positives": predicted * actual * weight,
            "false_positives": predicted * (1 - actual) * weight,
            "false_negatives": (1 - predicted) * actual * weight,
        }
        for name, values in found.items():
            state[name] = state[name] + (values.sum() if self.average == "micro" else values.sum(0))

    def result(self, state: State) -> Tensor:
        tp, fp, fn = state["true_positives"], state["false_positives"], state["false_negatives"]
        precision, recall = tp / (tp + fp + EPSILON), tp / (tp + fn + EPSILON)
        square = self.weight_of_recall() ** 2
        score = (1 + square) * precision * recall / (square * precision + recall + EPSILON)
        if self.average == "weighted":
            # True positives and false negatives together are the weighted number of targets 1.
            share = (tp + fn) / ((tp + fn).sum() + EPSILON)
            return (score * share).sum()
        return score if self.average is None else score.mean()


class F1Score(FScore):
    """Harmonic mean of precision and recall. As in Keras, masked entries count."""


class FBetaScore(FScore):
    """Mean of precision and recall in which recall counts beta times as much. As in Keras, masked entries count."""

    logged = "fbeta_score"
    keras_order = "average beta threshold"

    beta: PositiveFloat = 1.0
    "How many times as much recall counts."

    def weight_of_recall(self) -> float:
        return self.beta
