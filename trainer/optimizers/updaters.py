"""An optimizer at work, whatever its kind: an Updater, or several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.errors import FileError, RecipeError
from trainer.lazy import torch
from trainer.optimizers.base import Optimizer
from trainer.optimizers.loss_scale import DynamicScale, LossScaleOptimizer, finite
from trainer.optimizers.multi import MultiOptimizer
from trainer.optimizers.updater import Updater

if TYPE_CHECKING:
    import numpy

    from trainer.layers.plan import WeightSpec

Weights = Sequence[tuple["WeightSpec", "torch.Tensor"]]


def updater_of(optimizer: Optimizer, weights: Weights, paths: Sequence[str]) -> Updater | Updaters:
    """The optimizer at work on weights of those paths."""
    inner = optimizer.inner_optimizer if isinstance(optimizer, LossScaleOptimizer) else optimizer
    if isinstance(inner, MultiOptimizer):
        return Updaters(inner, weights, paths, optimizer if isinstance(optimizer, LossScaleOptimizer) else None)
    return Updater(optimizer, weights, paths)


class Updaters:
    """What an Updater does, done by one Updater for each optimizer of a MultiOptimizer that has weights.

    `scaled` is the LossScaleOptimizer around it, if any: a gradient that is not finite then stops all of them.
    """

    def __init__(
        self,
        optimizer: MultiOptimizer,
        weights: Weights,
        paths: Sequence[str],
        scaled: LossScaleOptimizer | None = None,
    ):
        self.dynamic = None if scaled is None else DynamicScale(scaled)
        self.optimizer = optimizer if scaled is None else optimizer.model_copy(update={"loss_scale_factor": None})
        self.parameters = [tensor for _, tensor in weights]
        numbers = [optimizer.optimizer_map.which(path) for path in paths]
        self.places = {n: [i for i, m in enumerate(numbers) if m == n] for n in sorted(set(numbers))}
        rules = self.optimizer.rules()
        self.parts = {
            n: Updater(rules[n], [weights[i] for i in places], [paths[i] for i in places])
            for n, places in self.places.items()
        }
        last = len(rules) - 1
        self._first = self.parts.get(last) or next(iter(self.parts.values()))

    @property
    def scale(self) -> float:
        """What the loss is multiplied by before gradients are computed."""
        return self.dynamic.scale if self.dynamic is not None else self.optimizer.loss_scale_factor or 1.0

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
        if self.dynamic is None:
            self._apply(gradients)
            return
        sound = finite(gradients)
        if sound:
            scale = self.dynamic.scale
            self._apply([None if g is None else g / scale for g in gradients])
        self.dynamic.note(sound)

    def _apply(self, gradients: Sequence[torch.Tensor | None]) -> None:
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

    def state(self, *, live: bool = False) -> dict[str, numpy.ndarray]:
        """Everything that going on needs, as `NUMBER/…` for each optimizer; `live` as `Updater.state` has it."""
        found = {} if self.dynamic is None else self.dynamic.numbers()
        states = {number: part.state(live=live) for number, part in self.parts.items()}
        return found | {f"{n}/{name}": value for n, state in states.items() for name, value in state.items()}

    def load_state(self, saved: Mapping[str, numpy.ndarray]) -> None:
        """Go on from a state.

        Raises:
            FileError: it belongs to other optimizers or another model.
        """
        numbers = {} if self.dynamic is None else self.dynamic.numbers()
        odd = {name for name in saved if "/" not in name} ^ set(numbers)
        if odd:
            message = f"the optimizer's state does not belong to this model and optimizer: {', '.join(sorted(odd))}"
            raise FileError(message, code="state")
        for n, part in self.parts.items():
            own = {name.removeprefix(f"{n}/"): v for name, v in saved.items() if name.startswith(f"{n}/")}
            part.load_state(own)
        if self.dynamic is not None:
            self.dynamic.load(saved)
