"""An optimizer at work, whatever its kind: an Updater, or several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.errors import RecipeError
from trainer.lazy import torch
from trainer.optimizers.base import Optimizer
from trainer.optimizers.multi import MultiOptimizer
from trainer.optimizers.updater import Updater

if TYPE_CHECKING:
    import numpy

    from trainer.layers.base import WeightSpec

Weights = Sequence[tuple["WeightSpec", "torch.Tensor"]]


def updater_of(optimizer: Optimizer, weights: Weights, paths: Sequence[str]) -> Updater | Updaters:
    """The optimizer at work on weights of those paths."""
    if isinstance(optimizer, MultiOptimizer):
        return Updaters(optimizer, weights, paths)
    return Updater(optimizer, weights, paths)


class Updaters:
    """What an Updater does, done by one Updater for each optimizer of a MultiOptimizer that has weights."""

    def __init__(self, optimizer: MultiOptimizer, weights: Weights, paths: Sequence[str]):
        self.optimizer = optimizer
        self.parameters = [tensor for _, tensor in weights]
        numbers = [optimizer.optimizer_map.which(path) for path in paths]
        self.places = {n: [i for i, m in enumerate(numbers) if m == n] for n in sorted(set(numbers))}
        rules = optimizer.rules()
        self.parts = {
            n: Updater(rules[n], [weights[i] for i in places], [paths[i] for i in places])
            for n, places in self.places.items()
        }
        self.scale = optimizer.loss_scale_factor or 1.0
        last = len(rules) - 1
        self._first = self.parts.get(last) or next(iter(self.parts.values()))

    @property
    def weight(self) -> torch.Tensor:
        """All weights as one tensor."""
        return torch.cat([part.weight for part in self.parts.values()])

    @property
    def iterations(self) -> int:
        """Calls so far (each optimizer counts its own updates)."""
        return self._first.calls

    @property
    def learning_rate(self) -> float:
        """The rate of the default optimizer's next update."""
        return self._first.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        message = "MultiOptimizer has several learning rates, none of which a callback can set"
        hint = "give its optimizers schedules, or use a single optimizer"
        raise RecipeError(message, hint=hint, path=("compile", "optimizer"), code="learning-rate")

    def apply(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """One step of every optimizer.

        Raises:
            RecipeError: an optimizer has no gradient at all.
        """
        for n, part in self.parts.items():
            part.apply([gradients[i] for i in self.places[n]])

    @property
    def average(self) -> torch.Tensor | None:
        """The averages of the first optimizer that keeps some."""
        return next((part.average for part in self.parts.values() if part.average is not None), None)

    def swap(self) -> None:
        """Exchange weights with their averages, for those optimizers that keep some.

        Raises:
            RecipeError: none does.
        """
        kept = [part for part in self.parts.values() if part.average is not None]
        for part in kept or self.parts.values():
            part.swap()

    def finish(self) -> None:
        """The end of training: averaged weights take the weights' place."""
        for part in self.parts.values():
            part.finish()

    def state(self) -> dict[str, numpy.ndarray]:
        """Everything that going on needs, as `NUMBER/…` for each optimizer."""
        return {f"{n}/{name}": value for n, part in self.parts.items() for name, value in part.state().items()}

    def load_state(self, saved: Mapping[str, numpy.ndarray]) -> None:
        """Go on from a state.

        Raises:
            FileError: it belongs to other optimizers or another model.
        """
        for n, part in self.parts.items():
            own = {name.removeprefix(f"{n}/"): v for name, v in saved.items() if name.startswith(f"{n}/")}
            part.load_state(own)
