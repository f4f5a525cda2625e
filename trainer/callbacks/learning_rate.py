"""Callbacks that change the learning rate between epochs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

from trainer.callbacks.base import Callback, Logs, Run, better
from trainer.callbacks.watching import Mode, Verbose, improved, single, watched
from trainer.declare import KIND_MARK
from trainer.options import Float, NonNegativeFloat, NonNegativeInt, ProperFraction, Rule, Str, number
from trainer.schedules.base import Schedule


def _by_epoch(value: dict[Any, Any]) -> dict[int, float]:
    rates = {int(epoch): number(rate) for epoch, rate in value.items()}
    if len(rates) < len(value) or min(rates.values()) < 0:
        raise ValueError
    return dict(sorted(rates.items()))


def _is_epoch(key: Any) -> bool:
    # JSON has text keys only.
    return (isinstance(key, int) and not isinstance(key, bool) and key >= 0) or (isinstance(key, str) and key.isdigit())


class _Rates(Rule):
    """Rates by epoch where the keys are numbers; anything else is a schedule, whose errors keep their own words."""

    def _check(self, value: Any) -> dict[int, float] | Schedule:
        if isinstance(value, dict) and value and all(_is_epoch(k) for k in value):
            return super()._check(value)
        return Schedule.parse(value)


_RATE = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}
_EPOCHS = {"type": "object", "patternProperties": {"^[0-9]+$": _RATE}, "minProperties": 1}
_SCHEMA = {"anyOf": [{**_EPOCHS, "additionalProperties": False}, {KIND_MARK: "schedule"}]}
Rates = Annotated[
    dict[int, float] | Schedule,
    _Rates("learning rates of 0 or more by first epoch, such as {0: 1e-3, 6: 1e-4}, or a schedule", _by_epoch, _SCHEMA),
]


class LearningRateScheduler(Callback):
    """Sets the learning rate at the beginning of every epoch.

    https://keras.io/api/callbacks/learning_rate_scheduler/
    """

    schedule: Rates
    """Rates by the epoch that each starts at, counted from 0 (before the first one the optimizer's own rate stays), or
    a schedule whose steps are epochs."""
    verbose: Verbose = 0
    "1 says the rate at every epoch."

    sets_learning_rate = True

    def on_epoch_begin(self, my: SimpleNamespace, run: Run, epoch: int) -> None:
        rate = self.rate(epoch)
        if rate is not None:
            run.learning_rate = rate
        if self.verbose:
            run.say(f"Epoch {epoch + 1}: LearningRateScheduler setting learning rate to {run.learning_rate:g}.")

    def rate(self, epoch: int) -> float | None:
        """The rate of an epoch counted from 0, None where the schedule has not begun."""
        if isinstance(self.schedule, Schedule):
            return self.schedule.rate(epoch)
        begun = [first for first in self.schedule if first <= epoch]
        return self.schedule[max(begun)] if begun else None


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate by `factor` when a watched value has not improved for `patience` epochs.

    https://keras.io/api/callbacks/reduce_lr_on_plateau/
    """

    monitor: Str = "val_loss"
    "Name in the logs of the value to watch."
    factor: ProperFraction = 0.1
    "What the rate is multiplied by."
    patience: NonNegativeInt = 10
    "Epochs without improvement after which the rate falls."
    verbose: Verbose = 0
    "1 says when the rate falls."
    mode: Mode = "auto"
    "Whether smaller (`min`) or larger (`max`) is better; `auto` goes by the name."
    min_delta: Float = 1e-4
    "Smallest change that counts as an improvement; its sign does not matter."
    cooldown: NonNegativeInt = 0
    "Epochs after a fall in which none is counted as without improvement."
    min_lr: NonNegativeFloat = 0.0
    "Least rate."

    sets_learning_rate = True

    def on_train_begin(self, my: SimpleNamespace, run: Run) -> None:
        my.sign = better(self.mode, self.monitor)
        my.best, my.wait, my.cooldown = None, 0, 0

    def on_epoch_end(self, my: SimpleNamespace, run: Run, epoch: int, logs: Logs) -> None:
        value = watched(logs, self.monitor)
        if value is None:
            return
        if my.cooldown > 0:
            my.cooldown, my.wait = my.cooldown - 1, 0
        if improved(my.sign, value, my.best, self.min_delta):
            my.best, my.wait = value, 0
        elif my.cooldown == 0:
            my.wait += 1
            if my.wait >= self.patience and self._reduce(run, epoch):
                my.cooldown, my.wait = self.cooldown, 0

    def _reduce(self, run: Run, epoch: int) -> bool:
        # From the float32 that Keras holds, so that the rate after several falls is Keras's to the bit.
        before = single(run.learning_rate)
        if before <= single(self.min_lr):
            return False
        run.learning_rate = max(before * self.factor, self.min_lr)
        if self.verbose:
            run.say(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {run.learning_rate:g}.")
        return True

    def monitored(self) -> str | None:
        return self.monitor
