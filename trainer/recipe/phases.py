"""The block `phases`: trainings one after the other, and what differs in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from trainer.block import Block
from trainer.callbacks.base import Callback
from trainer.optimizers.base import Optimizer
from trainer.options import (
    Bool,
    Name,
    PositiveInt,
)
from trainer.recipe.compile import LossUse, LossWeights, MetricsUse
from trainer.recipe.fit import ClassWeight
from trainer.recipe.model import Patterns


class PhaseCompile(Block):
    """What differs from the recipe's `compile` in a phase."""

    optimizer: Optimizer | None = None
    "Update rule, begun anew; by default that of the recipe's compile, begun anew too."
    loss: Annotated[Any, LossUse] | None = None
    "What the phase minimises."
    loss_weights: LossWeights | None = None
    "Factor of the loss, or one for each output."
    metrics: Annotated[Any, MetricsUse] | None = None
    "What is reported beside the loss."
    weighted_metrics: Annotated[Any, MetricsUse] | None = None
    "What is reported with rows weighed."


class PhaseFit(Block):
    """What differs from the recipe's `fit` in a phase; rows and their division are those of all phases."""

    epochs: PositiveInt | None = None
    "Epochs of this phase; by default fit.epochs."
    batch_size: PositiveInt | None = None
    "Rows a step."
    shuffle: Bool | None = None
    "Draw the order of the training rows anew in every epoch."
    class_weight: ClassWeight | None = None
    "Weight of each class in training."
    steps_per_epoch: PositiveInt | None = None
    "Steps that make an epoch."
    validation_freq: PositiveInt | None = None
    "Validate every so many epochs."
    validation_batch_size: PositiveInt | None = None
    "Rows a step in validation and test."
    validation_steps: PositiveInt | None = None
    "Validate on that many batches only."


class Phase(Block):
    """A part of a training, with what differs from the recipe's own compile, fit and callbacks."""

    name: Name | None = None
    "What the phase is called in the log; by default its number."
    frozen: Patterns | None = None
    "Layers that this phase does not move, in place of model.frozen: names, or patterns such as `conv*`; [] for none."
    compile: PhaseCompile = PhaseCompile()
    "What differs in optimizer, loss and metrics."
    fit: PhaseFit = PhaseFit()
    "What differs in epochs and batches."
    callbacks: tuple[Callback, ...] | None = None
    """Callbacks of this phase; by default the recipe's. All begin anew, but for these: without callbacks of its own, a
    phase goes on with the files (CSVLogger, TensorBoard) and the best value (ModelCheckpoint) of those before that had
    none either."""


Whole = TypeVar("Whole", bound=Block)


def changed(whole: Whole, part: Block) -> Whole:
    """A block with what a part of it says otherwise."""
    given = {n: getattr(part, n) for n in type(part).model_fields if getattr(part, n) is not None}
    return whole.model_copy(update=given)


def phase_name(phases: Sequence[Phase], number: int) -> str:
    """`Phase head (1 of 2)`"""
    name = phases[number].name
    return f"Phase {name} ({number + 1} of {len(phases)})" if name else f"Phase {number + 1}"
