"""From the metrics that a recipe writes to metrics: the words that stand for several find theirs by the shapes."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.metrics.accuracy import BinaryAccuracy, CategoricalAccuracy, SparseCategoricalAccuracy
from trainer.metrics.base import Metric
from trainer.metrics.means import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy

_ACCURACIES = (BinaryAccuracy, SparseCategoricalAccuracy, CategoricalAccuracy)
_CROSSENTROPIES = (BinaryCrossentropy, SparseCategoricalCrossentropy, CategoricalCrossentropy)
BY_SHAPE: dict[str, tuple[type[Metric], ...]] = {
    **dict.fromkeys(("accuracy", "acc", "Accuracy", "ACC"), _ACCURACIES),
    **dict.fromkeys(("crossentropy", "ce"), _CROSSENTROPIES),
}
"Words that stand for one of three metrics: for one unit, for class numbers, for one-hot rows."

Sizes = Sequence[int | None]


def resolve(given: str | Metric, y_true: Sizes, y_pred: Sizes) -> Metric:
    """The metric, with its name in logs: the short name as written, else the class name in snake case.

    `y_true` and `y_pred` are shapes with the batch first.

    Raises:
        RecipeError: there is no metric of that name.
    """
    if isinstance(given, Metric):
        return given if given.name else given.model_copy(update={"name": given.default_name()})
    if given in BY_SHAPE:
        return BY_SHAPE[given][_which(y_true, y_pred)].read({"name": given})
    final = Metric.find(given)
    return final.read({"name": final.default_name() if given == final.__name__ else given})


def _which(y_true: Sizes, y_pred: Sizes) -> int:
    """0 for one unit, 1 for class numbers, 2 for one-hot rows (Keras's rule)."""
    if len(y_pred) < 2 or y_pred[-1] == 1:
        return 0
    return 1 if len(y_true) < len(y_pred) or y_true[-1] == 1 else 2
