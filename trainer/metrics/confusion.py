"""Counts of right and wrong flags, and the shares made of them. https://keras.io/api/metrics/classification_metrics/

As in Keras, masked entries count in all of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainer.lazy import torch
from trainer.losses.shaping import no_nan
from trainer.metrics.base import Metric, State, needs_flags, zeros
from trainer.metrics.thresholds import LOWEST, Counts, add, counts, exceeded, flags
from trainer.options import NonNegativeInt, PositiveInt, Rule, number

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


_FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
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
        given = self.thresholds
        best_of = getattr(self, "top_k", None)
        if given is None:
            return (0.5 if best_of is None else LOWEST,)
        return given if isinstance(given, tuple) else (given,)

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
        actual, scores, weight = flags(
            y_true,
            y_pred,
            sample_weight,
            top_k=getattr(self, "top_k", None),
            class_id=getattr(self, "class_id", None),
        )
        add(state["histogram"], actual, exceeded(scores, tuple(sorted(self.at()))), weight)

    def result(self, state: State) -> Tensor:
        edges = self.at()
        values = self.share(counts(state["histogram"]))
        if len(edges) == 1:
            return values[0]
        given = sorted(range(len(edges)), key=edges.__getitem__)
        return values[torch.tensor(given, device=values.device).argsort()]


class Precision(Flags):
    """Share of outputs above the threshold whose target is 1: TP / (TP + FP)."""

    top_k: PositiveInt | None = None
    "Only the k highest outputs of a sample can count as 1."
    class_id: NonNegativeInt | None = None
    "Look at this class alone."

    def share(self, found: Counts) -> Tensor:
        return no_nan(found.true_positives, found.true_positives + found.false_positives)


class Recall(Flags):
    """Share of targets 1 whose output is above the threshold: TP / (TP + FN)."""

    top_k: PositiveInt | None = None
    "Only the k highest outputs of a sample can count as 1."
    class_id: NonNegativeInt | None = None
    "Look at this class alone."

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
