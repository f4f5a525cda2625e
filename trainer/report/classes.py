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

    def averages(self) -> dict[str, tuple[float, float, float]]:
        """(precision, recall, F1) averaged over classes, plainly and weighted by their rows."""
        columns = (self.precision, self.recall, self.f1)
        weights = self.support / max(self.support.sum(), 1)
        macro = tuple(float(c.mean()) for c in columns)
        weighted = tuple(float((c * weights).sum()) for c in columns)
        return {"macro average": macro, "weighted average": weighted}  # pyright: ignore[reportReturnType]

    def rows(self) -> list[tuple[str, float, float, float, int]]:
        """(name, precision, recall, F1, rows) of each class, then of the averages."""
        columns = (self.precision.tolist(), self.recall.tolist(), self.f1.tolist(), self.support.tolist())
        made = list(zip(self.names, *columns, strict=True))
        total = int(self.support.sum())
        return [*made, *((name, *values, total) for name, values in self.averages().items())]


def class_report(y_true: np.ndarray, y_pred: np.ndarray, class_names: Sequence[str]) -> ClassReport:
    """The report of class numbers against class numbers; a share of nothing counts as 0."""
    count = len(class_names)
    matrix = np.bincount(y_true * count + y_pred, minlength=count * count).reshape(count, count)
    right, said, there = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    precision = np.divide(right, said, out=np.zeros(count), where=said > 0)
    recall = np.divide(right, there, out=np.zeros(count), where=there > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros(count), where=both > 0)
    return ClassReport(tuple(class_names), precision, recall, f1, there, matrix)
