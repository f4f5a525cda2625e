"""Training that counts its time into a profile: the same steps, the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from trainer.callbacks.base import Callback
from trainer.callbacks.model_checkpoint import ModelCheckpoint
from trainer.layers.conv import Conv
from trainer.layers.dense import Dense
from trainer.model.cell import Cell
from trainer.model.network import Made, Network, Step
from trainer.native.compiler import has_tiles
from trainer.train.feed import Batch
from trainer.train.loop import Training
from trainer.train.passes import Pass
from trainer.train.profile import Facts, Profile
from trainer.train.scoring import rows_at_once


@dataclass
class Profiled(Training):
    """A Training under a clock; a class of its own, so that the loop without one has nothing to ask."""

    profile: Profile = field(default_factory=Profile)
    clocked = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.profile.facts = facts(self)
        if self.direct is not None:
            self.direct.watch = partial(interleave, self.profile)

    def run(self) -> dict[str, list[float]]:
        """Train from the current position to the end; the history."""
        device = self.train.device
        wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else None
        with ExitStack() as stack:
            for owner, name, by in self._counted():
                stack.enter_context(_replaced(owner, name, by))
            stack.enter_context(self.profile.running(wait))
            return super().run()

    def _counted(self) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
        """(whose, method, the same under the clock) of all that the loop calls and that does not count itself."""
        timed = self.profile.timed
        yield self, "checkpoint", timed("checkpoint", self.checkpoint)
        for name in ("reset", "logs"):
            yield self.scores, name, timed("metrics", getattr(self.scores, name))
        for name in ("begin", "epoch", "batch", "epoch_end", "close"):
            yield self.progress, name, timed("progress", getattr(self.progress, name))
        if self.compiled is not None:
            yield self.compiled, "draw", timed("forward", self.compiled.draw)
            yield self.compiled, "call", partial(self._call, self.compiled.call)
            yield self.scores, "add_all", timed("metrics", self.scores.add_all)
        if self.recorded is not None:
            yield self.recorded, "play", timed("compiled", self.recorded.play)
        for name in ("apply", "apply_written"):
            if hasattr(self.updater, name):
                yield self.updater, name, partial(self._update, getattr(self.updater, name))
        steps = [step._replace(layer=_Watched(step, self.profile)) for step in self.network.steps]
        yield self.network, "run", partial(_watched_run, self.profile, self.network, steps, self.network.run)

    def _update(self, function: Callable[..., Any], *args: Any) -> None:
        """An update; the rest of a step is for the scores."""
        self.profile.to(self.profile.of("update"))
        function(*args)
        self.profile.to(self.profile.of("metrics"))

    def _call(self, function: Callable[..., Any], rows: Any, numbers: Any, count: int) -> None:
        """Some steps of compiled code, which count the time of their parts themselves."""
        profile, compiled = self.profile, self.profile.of("compiled")
        profile.steps, profile.rows = profile.steps + count, profile.rows + len(rows)
        profile.during(compiled, function, rows, numbers, count)
        assert self.compiled is not None
        for part, layer, seconds in self.compiled.spent():
            profile.of(part, layer).seconds += seconds
            compiled.seconds -= seconds

    def batches(self) -> Iterator[Batch]:
        profile, data, loop = self.profile, self.profile.of("data"), self.profile.of("loop")
        profile.to(data)
        for batch in super().batches():
            profile.to(loop)
            yield batch
            profile.to(data)
        profile.to(loop)

    def step(self, batch: Batch) -> None:
        profile = self.profile
        profile.steps, profile.rows = profile.steps + 1, profile.rows + batch.size
        profile.to(profile.of("data"))
        super().step(batch)
        profile.to(profile.of("loop"))

    def _tell(self, hook: str, *args: Any, only: Sequence[bool] | None = None) -> None:
        for number, callback in enumerate(self.callbacks):
            if only is None or only[number]:
                spent = self.profile.of("callbacks", type(callback).__name__)
                alone = [n == number for n in range(len(self.callbacks))]
                self.profile.during(spent, partial(super()._tell, hook, *args, only=alone))

    def validate(self) -> dict[str, float]:
        """Loss and metrics on the validation rows."""
        return self.profile.during(self.profile.of("validation"), super().validate)


@contextmanager
def _replaced(owner: Any, name: str, by: Callable[..., Any]) -> Iterator[None]:
    """Let an object have another method for a while."""
    own, before = name in vars(owner), getattr(owner, name)
    setattr(owner, name, by)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def interleave(profile: Profile, made: Pass) -> None:
    """Put a turn of the clock before the operations of each part of a step."""
    profile.claim(profile.of("building"))
    operations, marks = made.program.operations, made.marks
    ends = [*[mark.at for mark in marks[1:]], len(operations)]
    turned: list[Callable[[], Any]] = []
    for mark, end in zip(marks, ends, strict=True):
        if end > mark.at:
            turned += [partial(profile.to, profile.of(mark.part, mark.layer)), *operations[mark.at : end]]
    operations[:] = [*turned, partial(profile.to, profile.of("loop"))]
    profile.to(profile.of("data"))


def _watched_run(
    profile: Profile, network: Network, watched: list[Step], run: Callable[..., Made], *inputs: Any, **options: Any
) -> Made:
    """A pass of a step that autograd follows, with a turn of the clock before each layer, there and on the way back."""
    if profile.held:
        return run(*inputs, **options)
    profile.autograd_steps += 1
    before, network.steps = network.steps, watched
    try:
        return run(*inputs, **options)
    finally:
        network.steps = before
        profile.to(profile.of("loss"))


class _Watched:
    """A layer that says when it begins, and when its gradient does."""

    def __init__(self, step: Step, profile: Profile):
        self._layer, self._profile = step.layer, profile
        self._there, self._back = (profile.of(way, step.cell.path) for way in ("forward", "backward"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def forward(self, cell: Cell, x: Any, **options: Any) -> Any:
        """What the layer makes."""
        self._profile.to(self._there)
        made = self._layer.forward(cell, x, **options)
        self._profile.to(self._profile.of("measuring"))
        given = x if isinstance(x, list) else [x]
        for tensor in made if isinstance(made, (list, tuple)) else [made]:
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad and not any(tensor is t for t in given):
                tensor.register_hook(self._begins_back)
        self._profile.to(self._there)
        return made

    def _begins_back(self, gradient: torch.Tensor) -> None:
        self._profile.to(self._back)


def saves_all(callback: Callback) -> bool:
    """Whether a callback writes all of the model after every epoch."""
    if not isinstance(callback, ModelCheckpoint):
        return False
    return callback.save_freq == "epoch" and not callback.save_best_only and not callback.save_weights_only


def facts(training: Training) -> Facts:
    """What advice must know of a training."""
    network, fit, validation = training.network, training.fit, training.validation
    names = list(network.graph.inputs)
    return Facts(
        batch_size=fit.batch_size,
        autograd_since=training.autograd_since,
        compiled=bool(training.compiled or training.recorded),
        dtype=network.graph.dtype,
        device=training.train.device.type,
        drawn=tuple(names[place] for place, _ in network.fronts),
        watches=tuple(type(c).__name__ for c in training.callbacks if c.needs_batches),
        saves_all=any(saves_all(c) for c in training.callbacks),
        validation_rows=0 if validation is None else len(validation),
        validation_batch_size=rows_at_once(network, training.objective, fit.validation_batch_size or fit.batch_size),
        validation_freq=fit.validation_freq,
        tiled=tuple(_tiled(training)),
    )


def _tiled(training: Training) -> Iterator[str]:
    """Dense layers and convolutions, where the processor has tiles; lists of ids are no products."""
    if has_tiles() and not any(slot.bags for slot in training.train.xs):
        yield from (step.cell.path for step in training.network.steps if isinstance(step.layer, (Conv, Dense)))
