"""The block `fit`: epochs, batches, validation, weights of rows and classes, folds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import model_validator

from trainer.block import Block
from trainer.options import (
    Bool,
    NonNegativeInt,
    PositiveInt,
    ProperFraction,
    Rule,
    complaint,
    raise_all,
)


class Folds(Block):
    """K-fold cross-validation over the training rows."""

    folds: Annotated[int, Rule("an integer of 2 or more", lambda v: _least_two(v), {"type": "integer", "minimum": 2})]
    "Number of folds; each is the validation set once."
    shuffle: Bool = False
    "Draw the folds instead of taking them in order."
    stratify: Bool = False
    "Keep the shares of the target's classes in every fold (implies drawing)."
    final: Bool = True
    "Train on all training rows afterwards; that model is the run's."


def _least_two(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise ValueError
    return value


def _class_weight(value: Any) -> Any:
    if value == "balanced":
        return value
    if not isinstance(value, dict):
        raise TypeError
    weights = {}
    for label, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or weight < 0:
            raise ValueError
        weights[int(label)] = float(weight)
    return weights


ClassWeight = Annotated[
    Any,
    Rule(
        "balanced, or a mapping from class number to weight",
        _class_weight,
        {
            "anyOf": [
                {"const": "balanced"},
                {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
            ]
        },
    ),
]


def _sample_weight(value: Any) -> str | dict[str, str]:
    named = value if isinstance(value, dict) else {"": value}
    if not named or not all(isinstance(k, str) and isinstance(v, str) and v for k, v in named.items()):
        raise ValueError
    return value


SampleWeight = Annotated[
    str | dict[str, str],
    Rule(
        "the name of a field or column, or a mapping from the name of an output to one",
        _sample_weight,
        {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]},
    ),
]


class Fit(Block):
    """What `model.fit` takes."""

    epochs: PositiveInt = 1
    "Passes over the training rows."
    batch_size: PositiveInt = 32
    "Rows a step."
    validation_split: ProperFraction = 0.0
    "The last share of the training rows, before any shuffling, is held out for validation."
    shuffle: Bool = True
    "Draw the order of the training rows anew in every epoch."
    class_weight: ClassWeight | None = None
    """Weight of each class in the loss and weighted_metrics of training: {0: 1.0, 1: 5.0}, or balanced
    (rows / (classes * rows of the class))."""
    sample_weight: SampleWeight | None = None
    """Field or column that weighs each row in the loss and weighted_metrics, in validation and test too; one for each
    output by name where there are several. In training it multiplies with class_weight, where Keras refuses the two
    together."""
    steps_per_epoch: PositiveInt | None = None
    "Steps that make an epoch; by default one pass over the rows. Further rows follow in the next epoch."
    initial_epoch: NonNegativeInt = 0
    "Number of the first epoch (to continue a schedule)."
    validation_freq: PositiveInt = 1
    "Validate every so many epochs."
    validation_batch_size: PositiveInt | None = None
    "Rows a step in validation and test; by default batch_size."
    validation_steps: PositiveInt | None = None
    "Validate on that many batches only."
    kfold: Folds | None = None
    "Cross-validation instead of one validation set."

    @model_validator(mode="after")
    def _fits(self) -> Fit:
        if self.kfold and self.validation_split:
            message = "kfold makes its own validation sets; validation_split can't stand beside it"
            raise_all([(complaint(message, "remove validation_split"), ("validation_split",))])
        if self.initial_epoch >= self.epochs:
            message = f"initial_epoch {self.initial_epoch} leaves nothing to do when epochs is {self.epochs}"
            raise_all([(complaint(message), ("initial_epoch",))])
        return self
