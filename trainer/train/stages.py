"""Phases of a training: what one hands on to the next, and how it is announced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

from trainer.callbacks.base import Callback
from trainer.errors import TrainerError
from trainer.recipe.outline import Outline
from trainer.recipe.phase_check import in_phase
from trainer.recipe.phases import phase_name
from trainer.recipe.schema import Recipe
from trainer.sources.columns import Rows
from trainer.train.build import Built, build
from trainer.train.loop import Training


def from_epoch(stage: Recipe, first: int) -> Recipe:
    """A stage that begins at an epoch, as long as it is: one that ended early lets the next begin earlier."""
    fit = stage.fit
    epochs = first + fit.epochs - fit.initial_epoch
    return stage.model_copy(update={"fit": fit.model_copy(update={"initial_epoch": first, "epochs": epochs})})


def hand_over(before: Built, built: Built) -> None:
    """Let a phase begin with the weights and states of the one before.

    To be done before an optimizer is made, for some keep copies of the weights that they begin with. Weights go by
    their paths, since frozen ones stand elsewhere in the order.
    """
    have = {path: tensor for _, path, tensor, _ in before.network.rows()}
    states = built.network.states()
    with torch.no_grad():
        for _, path, tensor, _ in built.network.rows():
            tensor.copy_(have[path])
        for path, state in before.network.states().items():
            states[path].copy_(state)


def go_on(trained: Training, training: Training) -> None:
    """Let a phase go on with the history of the one before."""
    training.history, training.history_epochs = trained.history, trained.history_epochs
    training.epoch_seconds = trained.epoch_seconds


class Memory:
    """What the recipe's callbacks remember from phase to phase, those that have callbacks of their own in between."""

    def __init__(self, callbacks: Sequence[Callback]):
        self.callbacks, self.mine = callbacks, list[SimpleNamespace]()

    def hand_to(self, training: Training, *, fresh: bool) -> None:
        """Let a phase with the recipe's callbacks go on with theirs; `fresh` when no phase came before it here."""
        if training.callbacks is self.callbacks:
            if self.mine and not fresh:
                training.mine = self.mine
            self.mine = training.mine

    def state(self, under_way: Sequence[Callback]) -> dict[str, Any]:
        """What a checkpoint keeps beside the callbacks under way, which the training keeps itself."""
        return {} if under_way is self.callbacks else {str(i): vars(my) for i, my in enumerate(self.mine)}

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.mine = [SimpleNamespace(**saved[str(i)]) for i in range(len(saved))]


def rehearse(
    recipe: Recipe, outlines: Sequence[Outline], rows: Rows, device: torch.device, learned: dict[str, Any]
) -> None:
    """Build the phases after the first, so that what can't be built is said before anything is trained.

    Raises:
        TrainerError: a phase can't be built or does not suit the targets; the path is the phase's.
    """
    for number, stage in enumerate(recipe.stages()[1:], 1):
        with placed(recipe, number):
            built = build(stage, outlines[number], rows, device, learned)
            built.updater()
            built.goals(rows)


@contextmanager
def placed(recipe: Recipe, number: int) -> Iterator[None]:
    """Problems that are found inside stand where the phase of that number says what they are about."""
    try:
        yield
    except TrainerError as error:
        moved = [in_phase(recipe, number, p) for p in error.problems]
        if moved == error.problems:
            raise
        raise type(error)(*moved) from None


def phase_line(recipe: Recipe, number: int, stage: Recipe) -> str:
    """`Phase head (1 of 2): epochs 1 to 3, frozen: conv*`"""
    first, last = stage.fit.initial_epoch + 1, stage.fit.epochs
    epochs = f"epoch {first}" if first == last else f"epochs {first} to {last}"
    still = f", frozen: {', '.join(stage.model.frozen)}" if stage.model.frozen else ""
    return f"{phase_name(recipe.phases, number)}: {epochs}{still}"
