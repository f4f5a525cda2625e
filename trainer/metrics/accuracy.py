"""Shares of right answers. https://keras.io/api/metrics/accuracy_metrics/"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.lazy import torch
from trainer.losses.shaping import same_rank
from trainer.metrics.base import Mean, need_columns
from trainer.options import Bool, Float, PositiveInt

if TYPE_CHECKING:
    from torch import Tensor


def labels(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Class numbers without a last axis of length 1 that the classes' axis has in the output."""
    if y_true.dim() == y_pred.dim() and y_true.shape[-1] == 1:
        return y_true.squeeze(-1)
    return y_true


def among_best(label: Tensor, y_pred: Tensor, k: int) -> Tensor:
    """Whether the score of the class `label` is not below the k-th best."""
    least = torch.topk(y_pred, k, dim=-1).values[..., -1]
    return torch.take_along_dim(y_pred, label.long().unsqueeze(-1), dim=-1).squeeze(-1) >= least


class Accuracy(Mean):
    """Share of outputs that equal the target exactly; bare `accuracy` picks the accuracy that fits the shapes."""

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        y_true, y_pred = same_rank(y_true, y_pred)
        return y_true == y_pred


class BinaryAccuracy(Mean):
    """Share of 0/1 targets on whose side of the threshold the output lies."""

    keras_order = "name threshold"

    threshold: Float = 0.5
    "Outputs above it count as 1."

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        if y_true.dim() != y_pred.dim():
            y_true, y_pred = same_rank(y_true, y_pred)
        return (y_pred > self.threshold) == y_true


class CategoricalAccuracy(Mean):
    """Share of one-hot targets whose class has the highest output."""

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_true.argmax(-1) == y_pred.argmax(-1)


class SparseCategoricalAccuracy(Mean):
    """Share of class numbers whose class has the highest output."""

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        matches = labels(y_true, y_pred) == y_pred.argmax(-1)
        return matches.squeeze(-1) if matches.dim() > 1 and matches.shape[-1] == 1 else matches


class TopKCategoricalAccuracy(Mean):
    """Share of one-hot targets whose class is among the k highest outputs."""

    k: PositiveInt = 5
    "How many of the highest outputs are looked at."

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        need_columns(self, "k", self.k, y_pred)
        return among_best(y_true.argmax(-1), y_pred, self.k)


class SparseTopKCategoricalAccuracy(Mean):
    """Share of class numbers whose class is among the k highest outputs."""

    keras_order = "k name"

    k: PositiveInt = 5
    "How many of the highest outputs are looked at."
    from_sorted_ids: Bool = False
    "Whether the output is class numbers, best first, rather than scores."

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        label = labels(y_true, y_pred)
        if self.from_sorted_ids:
            return (label.unsqueeze(-1) == y_pred[..., : self.k]).any(-1)
        need_columns(self, "k", self.k, y_pred)
        return among_best(label, y_pred, self.k)
