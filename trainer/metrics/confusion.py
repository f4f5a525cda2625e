"""Counts of right and wrong flags, and the shares made of them. https://keras.io/api/metrics/classification_metrics/

As in Keras, masked entries count in all of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainer.lazy import torch
from trainer.losses.shaping import no_nan
from trainer.metrics.base import Metric, State, need_columns, needs_flags, zeros
from trainer.metrics.thresholds import LOWEST, Compared, Counts, add, counts, exceeded, flags
from trainer.options import NonNegativeInt, PositiveInt, Rule, number, number_schema

if TYPE_CHECKING:
    from torch import Tensor


def _fractions(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError
        return tuple(_fractions(v) for v in value)
    if not 0 <= number(value) <= 1:
        raise ValueError
    return number(value)


_FRACTION = number_schema(minimum=0, maximum=1)
Fractions = Annotated[
    Any,
    Rule(
        "a number from 0 to 1, or a list of them",
        _fractions,
        {"anyOf": [_FRACTION, {"type": "array", "items": _FRACTION, "minItems": 1}]},
    ),
]


class Flags(Metric, abstract=True):
    """A metric made of counts at one threshold or at several (one value each, then)."""

    thresholds: Fractions | None = None
    "Outputs above it count as 1: a number or a list; 0.5 by default."

    def misfit(self, classes: int) -> tuple[str, str]:
        return needs_flags(classes)

    def at(self) -> tuple[float, ...]:
        """The thresholds in the order given."""
        if self.thresholds is None:
            return (self.usual(),)
        return self.thresholds if isinstance(self.thresholds, tuple) else (self.thresholds,)

    def usual(self) -> float:
        """The threshold where none is given."""
        return 0.5

    def compared(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None) -> Compared:
        """(flags, scores, weights) of what is counted."""
        return flags(y_true, y_pred, sample_weight)

    def share(self, found: Counts) -> Tensor:
        """The value of the counts."""
        raise NotImplementedError

    def start(self, device: torch.device | str = "cpu") -> State:
        return {"histogram": zeros(device, 2 * (len(self.at()) + 1))}

    def update(
        self,
        state: State,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        actual, scores, weight = self.compared(y_true, y_pred, sample_weight)
        add(state["histogram"], actual, exceeded(scores, tuple(sorted(self.at()))), weight)

    def result(self, state: State) -> Tensor:
        edges = self.at()
        values = self.share(counts(state["histogram"]))
        if len(edges) == 1:
            return values[0]
        given = sorted(range(len(edges)), key=edges.__getitem__)
        return values[torch.tensor(given, device=values.device).argsort()]


class Chosen(Flags, abstract=True):
    """Counts some outputs of a sample alone."""

    top_k: PositiveInt | None = None
    "Only the k highest outputs of a sample can count as 1."
    class_id: NonNegativeInt | None = None
    "Look at this class alone."

    def usual(self) -> float:
        return 0.5 if self.top_k is None else LOWEST

    def compared(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None) -> Compared:
        for option, columns in (("top_k", self.top_k), ("class_id", self.class_id)):
            if columns is not None:
                need_columns(self, option, columns + (option == "class_id"), y_pred)
        return flags(y_true, y_pred, sample_weight, top_k=self.top_k, class_id=self.class_id)


class Precision(Chosen):
    """Share of outputs above the threshold whose target is 1: TP / (TP + FP)."""

    def share(self, found: Counts) -> Tensor:
        return no_nan(found.true_positives, found.true_positives + found.false_positives)


class Recall(Chosen):
    """Share of targets 1 whose output is above the threshold: TP / (TP + FN)."""

    def share(self, found: Counts) -> Tensor:
        return no_nan(found.true_positives, found.true_positives + found.false_negatives)


class TruePositives(Flags):
    """Number of targets 1 with an output above the threshold."""

    def share(self, found: Counts) -> Tensor:
        return found.true_positives


class FalsePositives(Flags):
    """Number of targets 0 with an output above the threshold."""

    def share(self, found: Counts) -> Tensor:
        return found.false_positives


class TrueNegatives(Flags):
    """Number of targets 0 with an output not above the threshold."""

    def share(self, found: Counts) -> Tensor:
        return found.true_negatives


class FalseNegatives(Flags):
    """Number of targets 1 with an output not above the threshold."""

    def share(self, found: Counts) -> Tensor:
        return found.false_negatives
