"""The training loop: an epoch is steps, then validation, then callbacks, then a checkpoint.

A position is (epoch, batch); every random number follows from the recipe's seed and the position, so a run taken up
from a checkpoint goes on exactly as one that was never stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from trainer.callbacks.base import Callback
from trainer.layers.arrays import as_numpy
from trainer.model.network import Network
from trainer.optimizers.updater import Updater
from trainer.optimizers.updaters import Updaters
from trainer.recipe.fit import Fit
from trainer.runs.keras_config import model_config
from trainer.streams import stream
from trainer.switches import on
from trainer.train.compiled import Compiled, compiled
from trainer.train.devices import SMALL_STEP, step_work
from trainer.train.direct import Direct, hindrance
from trainer.train.divergence import diverged
from trainer.train.feed import Batch, Feed
from trainer.train.objective import Objective
from trainer.train.progress import Progress, Quiet, Stopped
from trainer.train.recorded import TAPES, Recorded, recorded
from trainer.train.scores import BatchLogs, Scores, Seen
from trainer.train.scoring import evaluate, judge


@dataclass
class Training:
    """One model in training; what callbacks are handed as `run`."""

    network: Network
    objective: Objective
    updater: Updater | Updaters
    callbacks: Sequence[Callback]
    fit: Fit
    seed: int
    train: Feed
    validation: Feed | None
    directory: Path
    progress: Progress = field(default_factory=Quiet)
    save_model: Callable[[str, bool], None] = lambda path, weights_only: None
    checkpoint: Callable[[Training, bool], None] = lambda training, force: None
    signalled: Callable[[], int] = lambda: 0
    steps_per_execution: int = 1
    "Steps between looks of whoever looks at batches."
    engine: str = "auto"
    "plain leaves all gradients to autograd."
    jit_compile: bool | Literal["layers"] | None = False
    "Whether steps are compiled to machine code, or layers in them alone; None decides by what they are."
    clocked: ClassVar[bool] = False
    "Whether a clock says where the time goes."

    def __post_init__(self) -> None:
        self.epoch, self.batch = self.fit.initial_epoch, 0
        self.history: dict[str, list[float]] = {}
        self.history_epochs: list[int] = []
        self.mine = [SimpleNamespace() for _ in self.callbacks]
        self._watch_batches = [c.needs_batches for c in self.callbacks]
        large = step_work(self.network.graph, self.fit.batch_size) >= SMALL_STEP
        self.scores = Scores(self.objective, self.train.device, large)
        self.stop_reason = ""
        self.epoch_seconds: list[float] = []
        self.begun = False
        self.saves_first = False
        "Whether a checkpoint is written before the first step: there is something to lose already."
        self.steps = self.fit.steps_per_epoch or self.train.steps(self.fit.batch_size)
        self.autograd_since = (
            "it was asked for" if self.engine == "plain" or not on("hand") else hindrance(self.network, self.updater)
        )
        "Why gradients are left to autograd; empty when they are not."
        self.direct: Direct | None = None
        if not self.autograd_since:
            assert isinstance(self.updater, Updater)
            self.direct = Direct(self.network, self.objective, self.updater)
        self.network.clock.compiles = self.network.clock.joins = False
        self.uncompiled_since = "it was not asked for"
        "Why steps as a whole are not compiled; empty when they are."
        self.compiled: Compiled | None = None
        self.recorded: Recorded | None = None
        if self.jit_compile is not False and self.train.device.type in TAPES:
            self.recorded = recorded(self) if on("recorded") else None
        elif self.jit_compile is not False and on("compiled"):
            self.compiled = compiled(self)

    @property
    def epochs(self) -> int:
        """The number of epochs that fit was asked for."""
        return self.fit.epochs

    @property
    def learning_rate(self) -> float:
        """The rate of the next update."""
        return self.updater.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.updater.learning_rate = rate

    def stop(self, reason: str) -> None:
        """End training after this epoch, or after this batch when a batch is under way."""
        self.stop_reason = reason

    def weights(self) -> list[np.ndarray]:
        """A copy of all weights."""
        return self.network.get_weights()

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Put weights back."""
        self.network.set_weights(weights)

    def named_weights(self) -> dict[str, np.ndarray]:
        """A copy of all weights by path."""
        return {path: as_numpy(tensor).copy() for _, path, tensor, _ in self.network.rows()}

    @property
    def iterations(self) -> int:
        """The number of updates so far."""
        return self.updater.iterations

    def swap_averages(self) -> None:
        """Exchange the weights with their moving averages."""
        self.updater.swap()

    def architecture(self) -> str:
        """The model without its weights, as Keras's JSON."""
        return json.dumps({"module": "keras", "registered_name": None, **model_config(self.network.graph)})

    def save(self, path: str, weights_only: bool = False) -> None:
        """Write the model to a path under the run directory."""
        self.save_model(path, weights_only)

    def say(self, text: str) -> None:
        """A line for the user."""
        self.progress.say(text)

    def run(self) -> dict[str, list[float]]:
        """Train from the current position to the end; the history.

        Raises:
            EnvironmentFault: the loss is no longer finite (the last checkpoint stays).
            Stopped: a signal came; the state is saved.
        """
        self.begin()
        try:
            self._epochs()
        finally:
            self.progress.close()
        self.finish()
        return self.history

    def begin(self) -> None:
        """Before the first epoch, or the first after a stop."""
        self.network.train()
        self.progress.begin(self.epochs, self.steps)
        if not self.begun:
            self._tell("on_train_begin")
            self.begun = True
            if self.saves_first:
                self.checkpoint(self, True)

    def finish(self) -> None:
        """After the last epoch."""
        self.updater.finish()
        self._tell("on_train_end", self.last_logs())

    def _epochs(self) -> None:
        while self.epoch < self.epochs and not self.stop_reason:
            self._one_epoch()
            self.epoch, self.batch = self.epoch + 1, 0
            signal = self.signalled()
            self.checkpoint(self, bool(signal or self.stop_reason) or self.epoch >= self.epochs)
            if signal:
                raise Stopped(signal)

    def last_logs(self) -> dict[str, float]:
        """The last value of everything in the history."""
        return {name: values[-1] for name, values in self.history.items() if values}

    def _one_epoch(self) -> None:
        self.begin_epoch()
        with torch.no_grad():
            self._steps()
        self.end_epoch()

    def begin_epoch(self) -> None:
        """Before the steps of an epoch, or of what is left of it."""
        self._started = time.perf_counter()
        self.progress.epoch(self.epoch, self.epochs)
        if self.batch == 0:
            self.scores.reset()
            self._tell("on_epoch_begin", self.epoch)

    def end_epoch(self) -> None:
        """After the steps of an epoch: validation, history, callbacks.

        Raises:
            EnvironmentFault: the loss is no longer finite.
        """
        self.scores.settle()
        logs = self.scores.logs()
        if not self.stop_reason and not (math.isfinite(logs["loss"]) and self._finite()):
            raise diverged(self, logs["loss"])
        if self.validation is not None and (self.epoch + 1) % self.fit.validation_freq == 0:
            self._tell("on_test_begin")
            judged = self.validate()
            self._tell("on_test_end", judged)
            logs |= {f"val_{name}": value for name, value in judged.items()}
        logs["learning_rate"] = self.learning_rate
        for name in {**dict.fromkeys(logs), **dict.fromkeys(self.history)}:
            # A name that comes late, or is left out in some epochs (validation_freq), keeps its place with NaN.
            column = self.history.setdefault(name, [math.nan] * len(self.history_epochs))
            column.append(logs.get(name, math.nan))
        self.history_epochs.append(self.epoch)
        self._tell("on_epoch_end", self.epoch, logs)
        self.epoch_seconds.append(time.perf_counter() - self._started)
        self.progress.epoch_end(self.epoch, self.epochs, self.steps, logs, self.epoch_seconds[-1])

    def validate(self) -> dict[str, float]:
        """Loss and metrics on the validation rows."""
        assert self.validation is not None
        size = self.fit.validation_batch_size or self.fit.batch_size
        return evaluate(self.network, self.validation, self.objective, size, self.fit.validation_steps)

    def _compiled_steps(self, compiled: Compiled) -> None:
        while self.batch < self.steps:
            order, start, stop = self._rest()
            for done in compiled.run(np.arange(len(self.train)) if order is None else order, start, stop):
                self.batch += done
                self.progress.batch(self.batch, self.steps, self.scores.logs)
                self._heed_signal()

    def _heed_signal(self) -> None:
        """End, with all saved, when a signal has come."""
        if self.signalled():
            if self._finite():
                self.checkpoint(self, True)
            raise Stopped(self.signalled())

    def _steps(self) -> None:
        if self.compiled is not None:
            self._compiled_steps(self.compiled)
            return
        watched, add_each = any(self._watch_batches), not on("sums")
        while self.batch < self.steps and not self.stop_reason:
            for batch in self.batches():
                self.step(batch)
                due = self.batch % self.steps_per_execution == 0 or self.batch == self.steps
                if add_each or (watched and due):
                    self.scores.settle()
                if due:
                    self.progress.batch(self.batch, self.steps, self.scores.logs)
                if due and watched:
                    self._tell("on_batch_end", self.batch - 1, BatchLogs(self.scores), only=self._watch_batches)
                if self.stop_reason:
                    # A signal is heeded at the end of the epoch, which this one has reached.
                    return
                self._heed_signal()

    def batches(self) -> Iterator[Batch]:
        """Batches from the current position to the end of the epoch or of this pass over the rows."""
        return self.train.batches(self.fit.batch_size, *self._rest())

    def _rest(self) -> tuple[np.ndarray | None, int, int]:
        """(order of the rows, first batch, the one after the last) of what is left of the epoch or of this pass."""
        a_pass = self.train.steps(self.fit.batch_size)
        total = (self.epoch - self.fit.initial_epoch) * self.steps + self.batch
        number, start = divmod(total, a_pass)
        order = stream(self.seed, "shuffle", number).permutation(len(self.train)) if self.fit.shuffle else None
        return order, start, min(a_pass, start + self.steps - self.batch)

    def step(self, batch: Batch) -> None:
        """Train on a batch, the next of the epoch."""
        self.network.clock.step = self.epoch * self.steps + self.batch
        quick = self.recorded or self.direct
        seen = None if quick is None else quick.step(batch)
        self.scores.add(self._by_autograd(batch) if seen is None else seen)
        self.batch += 1

    def _by_autograd(self, batch: Batch) -> Seen:
        with torch.enable_grad():
            judged = judge(self.network, self.objective, batch)
        self.updater.apply(judged.gradients(self.updater.parameters, self.updater.scale))
        return judged.seen()

    def _finite(self) -> bool:
        """Whether every weight that moves is a number; the last update may have ended that after a finite loss."""
        # The extremes of anything that holds what is no number are none either; `isfinite` would copy all weights.
        return all(math.isfinite(extreme) for extreme in torch.aminmax(self.updater.weight))

    def _tell(self, hook: str, *args: Any, only: Sequence[bool] | None = None) -> None:
        for number, (callback, my) in enumerate(zip(self.callbacks, self.mine, strict=True)):
            if only is None or only[number]:
                getattr(callback, hook)(my, self, *args)

    def state(self, *, live: bool = False) -> dict[str, Any]:
        """Everything beside the weights that going on exactly needs; `live` as `Updater.state` has it."""
        return {
            "position": {
                "epoch": self.epoch,
                "batch": self.batch,
                "begun": self.begun,
                "seed": self.seed,
                "stop_reason": self.stop_reason,
                "history_epochs": list(self.history_epochs),
                "history": {k: list(v) for k, v in self.history.items()},
            },
            "optimizer": self.updater.state(live=live),
            "scores": self.scores.state() if self.batch else {},
            "callbacks": {str(i): vars(my) for i, my in enumerate(self.mine)},
            "states": {path: as_numpy(state).copy() for path, state in self.network.states().items()},
        }

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Go to the position of a checkpoint (the weights are loaded by whoever reads it)."""
        position = saved["position"]
        self.epoch, self.batch, self.begun = position["epoch"], position["batch"], position["begun"]
        self.stop_reason = position["stop_reason"]
        self.history = {k: list(v) for k, v in position["history"].items()}
        self.history_epochs = list(position["history_epochs"])
        self.updater.load_state(saved["optimizer"])
        if self.batch:
            self.scores.load_state(saved["scores"])
        for i, my in enumerate(self.mine):
            vars(my).update(saved["callbacks"].get(str(i), {}))
        for path, state in self.network.states().items():
            state.copy_(torch.as_tensor(saved["states"][path]))
