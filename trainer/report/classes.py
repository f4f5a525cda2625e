"""Precision, recall and F1 per class, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassReport:
    """What a classifier got right, class by class; `matrix` has the truth in rows."""

    names: tuple[str, ...]
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    matrix: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of rows on the diagonal."""
        return float(np.trace(self.matrix) / max(self.matrix.sum(), 1))

    def averages(self) -> dict[str, list[float]]:
        """[precision, recall, F1] averaged over classes, plainly and weighted by their rows."""
        columns = np.stack([self.precision, self.recall, self.f1])
        weights = self.support / max(self.support.sum(), 1)
        return {"macro average": columns.mean(1).tolist(), "weighted average": (columns @ weights).tolist()}

    def rows(self) -> list[tuple[str, float, float, float, int]]:
        """(name, precision, recall, F1, rows) of each class, then of the averages."""
        columns = (self.precision.tolist(), self.recall.tolist(), self.f1.tolist(), self.support.tolist())
        made = list(zip(self.names, *columns, strict=True))
        total = int(self.support.sum())
        return [*made, *((name, v[0], v[1], v[2], total) for name, v in self.averages().items())]


def class_report(y_true: np.ndarray, y_pred: np.ndarray, class_names: Sequence[str]) -> ClassReport:
    """The report of class numbers against class numbers; a share of nothing counts as 0."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    every = np.arange(len(class_names))
    matrix = confusion_matrix(y_true, y_pred, labels=every)
    shares = precision_recall_fscore_support(y_true, y_pred, labels=every, zero_division=0)  # pyright: ignore[reportArgumentType]
    precision, recall, f1, support = (np.asarray(s) for s in shares)
    return ClassReport(tuple(class_names), precision, recall, f1, support, matrix)
