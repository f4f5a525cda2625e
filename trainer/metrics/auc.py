"""Areas under curves. https://keras.io/api/metrics/classification_metrics/#auc-class"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import model_validator

from trainer.errors import DataError
from trainer.lazy import torch
from trainer.losses.base import EPSILON
from trainer.losses.shaping import no_nan
from trainer.metrics.base import Metric, State, needs_flags, zeros
from trainer.metrics.confusion import Fractions
from trainer.metrics.thresholds import Counts, add, counts, exceeded, flags
from trainer.options import Bool, NonNegativeFloat, PositiveInt, Rule, integer

if TYPE_CHECKING:
    from torch import Tensor


def _several(value: object) -> int:
    if integer(value) < 2:
        raise ValueError
    return integer(value)


@functools.lru_cache(maxsize=16)
def _points(number: int, given: tuple[float, ...] | None) -> tuple[float, ...]:
    inner = sorted(given) if given is not None else [i / (number - 1) for i in range(1, number - 1)]
    return (-EPSILON, *inner, 1.0 + EPSILON)


class AUC(Metric):
    """Area under the curve of true against false positives (ROC), or of precision against recall (PR).

    The area is summed over `num_thresholds` points. Davis and Goadrich, 2006, for the interpolation of PR;
    Flach and Kull, 2015, for precision-recall-gain. As in Keras, masked entries count.
    """

    keras_order = "num_thresholds curve summation_method name"

    num_thresholds: Annotated[int, Rule("an integer of 2 or more", _several, {"type": "integer", "minimum": 2})] = 200
    "Number of points on the curve."
    curve: Literal["ROC", "PR", "PRGAIN"] = "ROC"
    "Which curve: receiver operating characteristic, precision-recall, or precision-recall-gain."
    summation_method: Literal["interpolation", "majoring", "minoring"] = "interpolation"
    "How the area between two points is summed: along a line, by the larger or by the smaller value."
    thresholds: Fractions | None = None
    "Points between 0 and 1 in place of evenly spaced ones."
    multi_label: Bool = False
    "Whether the columns are labels of their own, whose areas are averaged."
    num_labels: PositiveInt | None = None
    "Number of labels (with `multi_label`); by default the output's columns."
    label_weights: tuple[NonNegativeFloat, ...] | None = None
    "Weight of each column."
    from_logits: Bool = False
    "Whether the output is raw scores, to be put through a sigmoid."

    def misfit(self, classes: int) -> tuple[str, str]:
        return needs_flags(classes)

    @model_validator(mode="after")
    def _labels(self) -> AUC:
        if self.num_labels and not self.multi_label:
            raise ValueError("num_labels goes with multi_label: true")
        return self

    def at(self) -> tuple[float, ...]:
        """The ascending thresholds; the outer two lie just outside 0 and 1."""
        given = self.thresholds
        return _points(self.num_thresholds, given if isinstance(given, tuple) or given is None else (given,))

    def start(self, device: torch.device | str = "cpu") -> State:
        labels = (self.num_labels or 0) if self.multi_label else 1
        return {"histogram": zeros(device, 2 * labels * (len(self.at()) + 1))}

    def update(
        self,
        state: State,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        if self.from_logits:
            y_pred = y_pred.sigmoid()
        actual, scores, weight = flags(y_true, y_pred, sample_weight)
        edges = self.at()
        labels = 1
        if self.multi_label:
            labels = self._labels_of(scores)
            if not state["histogram"].numel():
                state["histogram"] = zeros(scores.device, 2 * labels * (len(edges) + 1))
        elif self.label_weights is not None:
            by_label = self._weights(scores)
            weight = by_label.expand_as(scores) if weight is None else weight * by_label
        add(state["histogram"], actual, exceeded(scores, edges), weight, labels)

    def _labels_of(self, scores: Tensor) -> int:
        if scores.dim() != 2 or scores.shape[1] != (self.num_labels or scores.shape[1]):
            wanted = f"(batch, {self.num_labels or 'labels'})"
            raise DataError(f"AUC with multi_label expects output of shape {wanted}, found {tuple(scores.shape)}")
        if self.label_weights is not None:
            self._weights(scores)
        return scores.shape[1]

    def _weights(self, like: Tensor) -> Tensor:
        """The weight of each column.

        Raises:
            DataError: there are more or fewer columns.
        """
        if len(self.label_weights or ()) != like.shape[-1]:
            found = f"{len(self.label_weights or ())} for an output of {like.shape[-1]} columns"
            raise DataError(f"AUC: expected label_weights for each column, found {found}", code="shape")
        return torch.tensor(self.label_weights, dtype=like.dtype, device=like.device)

    def result(self, state: State) -> Tensor:
        histogram = state["histogram"]
        if not histogram.numel():
            return histogram.sum()
        labels = histogram.numel() // (2 * (len(self.at()) + 1)) if self.multi_label else None
        found = counts(histogram, labels)
        pieces = self._interpolated(found) if (self.curve, self.summation_method) == _DAVIS else self._riemann(found)
        areas = pieces.sum(0)
        if not self.multi_label:
            return areas
        if self.label_weights is None:
            return areas.mean()
        weights = self._weights(areas)
        return no_nan((areas * weights).sum(), weights.sum())

    def _riemann(self, found: Counts) -> Tensor:
        x, y = _CURVES[self.curve](found)
        left, right = y[:-1], y[1:]
        if self.summation_method == "interpolation":
            heights = (left + right) / 2
        else:
            heights = torch.maximum(left, right) if self.summation_method == "majoring" else torch.minimum(left, right)
        return (x[:-1] - x[1:]) * heights

    def _interpolated(self, found: Counts) -> Tensor:
        tp, fp, fn = found.true_positives, found.false_positives, found.false_negatives
        p = tp + fp
        slope = no_nan(tp[:-1] - tp[1:], (p[:-1] - p[1:]).clip(min=0))
        intercept = tp[1:] - slope * p[1:]
        both = (p[:-1] > 0) & (p[1:] > 0)
        ratio = torch.where(both, no_nan(p[:-1], p[1:].clip(min=0)), 1.0)
        return no_nan(slope * (tp[:-1] - tp[1:] + intercept * ratio.log()), (tp[1:] + fn[1:]).clip(min=0))


_DAVIS = ("PR", "interpolation")


def _roc(found: Counts) -> tuple[Tensor, Tensor]:
    tp, fp, tn, fn = found
    return no_nan(fp, fp + tn), no_nan(tp, tp + fn)


def _pr(found: Counts) -> tuple[Tensor, Tensor]:
    tp, fp, _, fn = found
    return no_nan(tp, tp + fn), no_nan(tp, tp + fp)


def _gain(found: Counts) -> tuple[Tensor, Tensor]:
    tp, fp, tn, fn = found
    odds = no_nan(tp + fn, tn + fp)
    recall = torch.where(tp == 0, 0.0, 1.0 - odds * no_nan(fn, tp))
    precision = torch.where(tp == 0, 1.0, 1.0 - odds * no_nan(fp, tp))
    return recall.clip(min=0.0), precision


_CURVES = {"ROC": _roc, "PR": _pr, "PRGAIN": _gain}
