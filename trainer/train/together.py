"""Folds of a small model trained side by side, as one model whose weights have an axis more.

A step of a small model is the overhead of its operations, which is the same for four copies of it. Rows, their order
and the random draws are those of one fold after the other; sums may differ in their last digits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from trainer.model.cell import Cell
from trainer.model.network import Step
from trainer.optimizers.updater import Updater
from trainer.program import Program, Pull
from trainer.switches import on
from trainer.train.devices import SMALL_STEP, step_work
from trainer.train.feed import Batch
from trainer.train.islands import Unable
from trainer.train.loop import Training
from trainer.train.passes import Pass
from trainer.train.progress import Progress, Stopped
from trainer.train.scores import Seen

MOST_STEPS = 1_000_000
"Steps of all folds together: longer trainings go one after the other, each with checkpoints of its own."


def goes_beside(training: Training, count: int) -> bool:
    """Whether a fresh training can go beside others of its recipe, `count` in all, and gains by it."""
    updater, network = training.updater, training.network
    if count < 2 or not on("together") or training.autograd_since or type(training) is not Training:
        return False
    if training.compiled is not None:
        # One after the other their steps take less time than the callbacks and sums around them.
        return False
    if not isinstance(updater, Updater) or not updater.works_by_number():
        return False
    known = all(
        step.cell.layer.side_by_side and step.cell.layer.dtype is None and len(step.reads) == 1
        for step in network.steps
    )
    moving = {id(parameter) for parameter in updater.parameters}
    whole = all(id(tensor) in moving for _, _, tensor, _ in network.rows())
    bare = (
        not network.penalized
        and not network.fronts
        and not any(callback.needs_batches for callback in training.callbacks)
    )
    weighed = any(weight is not None for weight in training.train.weights)
    small = step_work(network.graph, training.fit.batch_size) < SMALL_STEP
    return known and whole and bare and not weighed and small and count * training.steps * training.epochs <= MOST_STEPS


def in_step(trainings: Sequence[Training]) -> bool:
    """Whether their epochs have as many steps: draws follow the number of the step."""
    return len({training.steps for training in trainings}) == 1


class Together:
    """Trainings of one recipe on different rows, in step with each other."""

    def __init__(self, trainings: Sequence[Training], progress: Progress):
        """`progress` is shown the means over those that still train."""
        self.trainings, self.progress = list(trainings), progress
        first = trainings[0]
        specs = [spec for spec, _, _, moves in first.network.rows() if moves]
        each = zip(*(self._updater(t).parameters for t in trainings), strict=True)
        weights = [torch.stack([tensor.detach() for tensor in tensors]) for tensors in each]
        self.updater = Updater(self._updater(first).optimizer, list(zip(specs, weights, strict=True)))
        self._views = {id(w): view for w, view in zip(weights, self.updater.gradients(), strict=True)}
        self._weights = {id(own): w for own, w in zip(self._updater(first).parameters, weights, strict=True)}
        self.passes: dict[Any, SideBySide | None] = {}

    @staticmethod
    def _updater(training: Training) -> Updater:
        assert isinstance(training.updater, Updater)
        return training.updater

    def run(self) -> None:
        """Train them all to their ends.

        Raises:
            EnvironmentFault: the loss of one of them is no longer finite.
            Stopped: a signal came; nothing of this is kept, and going on begins here again.
        """
        for training in self.trainings:
            training.begin()
        first = self.trainings[0]
        self.progress.begin(first.epochs, first.steps)
        try:
            self._epochs()
        finally:
            self.progress.close()
        for training in self.trainings:
            training.finish()

    def _epochs(self) -> None:
        while active := [t for t in self.trainings if t.epoch < t.epochs and not t.stop_reason]:
            began, first = time.perf_counter(), active[0]
            epoch = first.epoch
            self.progress.epoch(epoch, first.epochs)
            self._epoch(active)
            each = [training.last_logs() for training in active]
            means = {name: sum(logs[name] for logs in each) / len(each) for name in each[0]}
            self.progress.epoch_end(epoch, first.epochs, first.steps, means, time.perf_counter() - began)

    def _epoch(self, active: list[Training]) -> None:
        for training in active:
            training.begin_epoch()
        feeds: list[Iterator[Batch]] = [training.batches() for training in active]
        with torch.no_grad():
            if len(active) == len(self.trainings) and len({t.learning_rate for t in active}) == 1:
                feeds = self._steps(feeds)
            for training, feed in zip(active, feeds, strict=True):
                for batch in feed:
                    training.step(batch)
                    self._heed(training)
        for training in active:
            training.end_epoch()
            training.epoch_seconds[-1] /= len(active)
            training.epoch, training.batch = training.epoch + 1, 0
            self._heed(training)

    def _heed(self, training: Training) -> None:
        if training.signalled():
            raise Stopped(training.signalled())

    def _steps(self, feeds: list[Iterator[Batch]]) -> list[Iterator[Batch]]:
        """Step with all of them as long as they have batches of one shape; what is left for each."""
        self._take()
        while True:
            batches = [next(feed, None) for feed in feeds]
            if any(batch is None for batch in batches) or not self.step([b for b in batches if b is not None]):
                break
            self._heed(self.trainings[0])
        self._give()
        return [chain([b] if b is not None else [], feed) for b, feed in zip(batches, feeds, strict=True)]

    def step(self, batches: list[Batch]) -> bool:
        """A step of all; nothing is done where their batches are of several shapes."""
        shapes = {tuple([x.shape for x in batch.xs]) for batch in batches}
        if len(shapes) > 1:
            return False
        first = self.trainings[0]
        first.network.clock.step = first.epoch * first.steps + first.batch
        xs, ys = (_stacked(parts) for parts in ([b.xs for b in batches], [b.ys for b in batches]))
        whole = Batch(xs, ys, (None,) * len(ys))
        (shape,) = shapes
        if shape not in self.passes:
            self.passes[shape] = self._built(whole)
        made = self.passes[shape]
        if made is None:
            return False
        made.run(whole)
        self.updater.apply_written()
        outputs = zip(*(output.clone().unbind() for output in made.outputs), strict=True)
        for training, batch, each in zip(self.trainings, batches, outputs, strict=True):
            training.scores.add(made.seen_of(batch, each))
            training.batch += 1
        return True

    def _built(self, batch: Batch) -> SideBySide | None:
        first = self.trainings[0]
        try:
            program = Program(self._views, len(batch.xs[0]))
            return SideBySide(self._weights, first.network, first.objective, program, batch)
        except Unable:
            return None
        finally:
            first.network.forget_draws()

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(a tensor of all of them, its part in a training's own optimizer or network)."""
        (block,) = self.updater.blocks
        for number, training in enumerate(self.trainings):
            (own,) = self._updater(training).blocks
            for whole, part in zip(block.parameters, own.parameters, strict=True):
                yield whole[number], part.data
            for whole, part in zip(block.each, own.each, strict=True):
                yield from ((whole[name][number], part[name]) for name in whole)

    def _take(self) -> None:
        """Go on from where each of them stands."""
        for whole, part in self._pairs():
            whole.copy_(part)
        first = self._updater(self.trainings[0])
        self.updater.go_on_like(first)

    def _give(self) -> None:
        """Let each of them stand where all do."""
        for whole, part in self._pairs():
            part.copy_(whole)
        for training in self.trainings:
            self._updater(training).go_on_like(self.updater)


def _stacked(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple([torch.stack(each) for each in zip(*parts, strict=True)])


class SideBySide(Pass):
    """A step of several copies of a model, for batches (copies, batch, …)."""

    def __init__(self, weights: Mapping[int, Tensor], *step: Any):
        """`weights` are those of all copies, by number of the first one's (`id`); the rest is a Pass's."""
        self._stacked = weights
        super().__init__(*step)

    def seen_of(self, batch: Batch, outputs: tuple[Tensor, ...]) -> Seen:
        """What one of the copies made of its batch."""
        return Seen(batch, outputs, (None,) * len(outputs), (None,) * len(outputs), None, None, self._form)

    def _cell(self, step: Step) -> Any:
        return Beside(step.cell, self._stacked)

    def _moves(self, cell: Cell) -> list[Tensor]:
        return [self._stacked[id(tensor)] for *_, tensor, _ in cell.rows()]

    def _island(self, *given: Any) -> tuple[Tensor, Pull]:
        raise Unable

    def _by_autograd(self, *given: Any) -> tuple[Tensor, Tensor]:
        raise Unable

    def _rows(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1)


class Beside:
    """The weights of a cell and of its copies, as a layer is handed them."""

    def __init__(self, cell: Cell, weights: Mapping[int, Tensor]):
        self._cell = cell
        for spec in cell.specs:
            setattr(self, spec.name, weights[id(getattr(cell, spec.name))])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cell, name)
