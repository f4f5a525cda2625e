"""The recipe as frozen blocks: what may stand where, with Keras's words and defaults."""

from __future__ import annotations

from pydantic import ValidationError, model_validator

from trainer.block import Block, raise_under
from trainer.callbacks.base import Callback
from trainer.layers.base import DType
from trainer.options import (
    Name,
    NonNegativeInt,
    Str,
    complaint,
    raise_all,
)
from trainer.recipe.compile import PRECISIONS, Compile
from trainer.recipe.dataset import Dataset
from trainer.recipe.expectation import Expectation
from trainer.recipe.fit import Fit
from trainer.recipe.model import Model
from trainer.recipe.phases import Phase, changed
from trainer.streams import derive


class Recipe(Block):
    """One run."""

    name: Name = "recipe"
    "Name of the run's folder; by default the file's name."
    seed: NonNegativeInt = 0
    "Where all random numbers come from."
    description: Str = ""
    "What the recipe is about."
    plugins: tuple[Str, ...] = ()
    "Python files beside the recipe that declare layers, losses, metrics or callbacks of yours."
    dataset: Dataset
    "Where rows come from and what the model reads of them."
    model: Model
    "The layer stack."
    compile: Compile
    "Optimizer, loss, metrics."
    fit: Fit = Fit()
    "Epochs, batches, validation."
    callbacks: tuple[Callback, ...] = ()
    "What happens around epochs and batches, in order."
    phases: tuple[Phase, ...] = ()
    "Trainings one after the other, each from the weights of the one before; one history holds them all."
    expect: dict[Str, Expectation] = {}
    """Figures that the run must reach: test.METRIC, val.METRIC, train.METRIC, history.METRIC.last|best,
    folds.METRIC.mean|std, parameters, epochs."""

    @model_validator(mode="after")
    def _one_validation_set(self) -> Recipe:
        if self.dataset.split.validation is not None and self.fit.validation_split:
            message = "dataset.split.validation holds validation rows back already"
            raise_all([(complaint(message, "remove one of the two"), ("fit", "validation_split"))])
        return self

    @model_validator(mode="after")
    def _one_number_type(self) -> Recipe:
        if self.compile.precision is not None and self.model.dtype not in ("float32", self.dtype):
            message = f"model.dtype says {self.model.dtype} already"
            raise_all([(complaint(message, "remove one of the two"), ("compile", "precision"))])
        return self

    @property
    def dtype(self) -> DType:
        """Number type of layers that say none."""
        return self.model.dtype if self.compile.precision is None else PRECISIONS[self.compile.precision]

    @model_validator(mode="after")
    def _phases_go_with_the_rest(self) -> Recipe:
        for number, phase in enumerate(self.phases):
            made = changed(self.compile, phase.compile)
            try:
                Compile.model_validate({n: getattr(made, n) for n in Compile.model_fields})
            except ValidationError as error:
                raise_under(("phases", number, "compile"), error)
        return self

    def stages(self) -> list[Recipe]:
        """The recipe of each phase, whose epochs go on from those of the one before; the recipe itself without any."""
        if not self.phases:
            return [self]
        made, first = [], self.fit.initial_epoch
        for phase in self.phases:
            fit = changed(self.fit, phase.fit)
            epochs = phase.fit.epochs or self.fit.epochs - self.fit.initial_epoch
            fit = fit.model_copy(update={"initial_epoch": first, "epochs": first + epochs})
            model = self.model if phase.frozen is None else self.model.model_copy(update={"frozen": phase.frozen})
            callbacks = self.callbacks if phase.callbacks is None else phase.callbacks
            # Of its own, so that a phase draws other orders, masks and augmentations than the one before.
            seed = derive(self.seed, "phase", len(made)) if made else self.seed
            compiled = changed(self.compile, phase.compile)
            changes = {"compile": compiled, "fit": fit, "model": model, "seed": seed}
            made.append(self.model_copy(update={**changes, "callbacks": callbacks, "phases": ()}))
            first += epochs
        return made
