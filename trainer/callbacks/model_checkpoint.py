"""ModelCheckpoint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self

from pydantic import model_validator

from trainer.callbacks.base import Callback, Logs, Run, better
from trainer.callbacks.files import RunPattern, filled
from trainer.callbacks.watching import Mode, Verbose, improved, watched
from trainer.options import Bool, Float, Rule, Str, complaint, integer, raise_all, shown


def _frequency(value: Any) -> int | str:
    if value == "epoch":
        return value
    if integer(value) < 1:
        raise ValueError
    return value


_FREQUENCY = {"anyOf": [{"enum": ["epoch"]}, {"type": "integer", "minimum": 1}]}


class ModelCheckpoint(Callback):
    """Saves the model after every epoch, every so many batches, or when a watched value is the best so far.

    With `save_best_only`, an epoch without the watched value (`validation_freq`) saves nothing; Keras would save then.
    https://keras.io/api/callbacks/model_checkpoint/
    """

    filepath: RunPattern = "checkpoints/best.h5"
    "File under the run directory, ending in `.h5`; `{epoch:02d}` and `{val_loss:.2f}` stand for numbers."
    monitor: Str = "val_loss"
    "Name in the logs of the value that decides which model is best."
    verbose: Verbose = 0
    "1 says what is saved and why."
    save_best_only: Bool = False
    "Whether to save only when the watched value is the best so far."
    save_weights_only: Bool = False
    "Whether to leave the architecture out; the file then ends in `.weights.h5`."
    mode: Mode = "auto"
    "Whether smaller (`min`) or larger (`max`) is better; `auto` goes by the name."
    save_freq: Annotated[int | Literal["epoch"], Rule('"epoch" or a number of batches', _frequency, _FREQUENCY)] = (
        "epoch"
    )
    "`epoch`, or the number of batches (counted over epochs) between saves."
    initial_value_threshold: Float | None = None
    "A value that the first saved model must already beat."

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        end = ".weights.h5" if self.save_weights_only else ".h5"
        if not self.filepath.endswith(end):
            what = "weights are" if self.save_weights_only else "the model is"
            message = f"{what} saved as HDF5: expected a file that ends in {end}, found {shown(self.filepath)}"
            raise_all([(complaint(message, f"filepath: checkpoints/best{end}"), ("filepath",))])
        if self.save_best_only and self.save_freq != "epoch" and self.monitor.startswith("val_"):
            message = f"{self.monitor} is known after an epoch only, not after every {self.save_freq} batches"
            raise_all([(complaint(message, "save_freq: epoch, or monitor: loss"), ("monitor",))])
        return self

    # Whether batches are needed depends on an option here; other callbacks know it as a class.
    @property
    def needs_batches(self) -> bool:
        return self.save_freq != "epoch"

    def on_train_begin(self, my: SimpleNamespace, run: Run) -> None:
        my.sign = better(self.mode, self.monitor) if self.save_best_only else 0
        # As in Keras, the best value stays over several trainings.
        my.best = getattr(my, "best", self.initial_value_threshold)
        my.epoch, my.batches, my.last_batch = 0, getattr(my, "batches", 0), -1

    def on_epoch_begin(self, my: SimpleNamespace, run: Run, epoch: int) -> None:
        my.epoch, my.last_batch = epoch, -1

    def on_batch_end(self, my: SimpleNamespace, run: Run, batch: int, logs: Logs) -> None:
        if self.save_freq == "epoch":
            return
        # Several batches may have passed since the last look (`steps_per_execution`).
        my.batches += batch - my.last_batch
        my.last_batch = batch
        if my.batches >= self.save_freq:
            my.batches = 0
            self._save(my, run, {"epoch": my.epoch + 1, "batch": batch + 1, **logs}, logs)

    def on_epoch_end(self, my: SimpleNamespace, run: Run, epoch: int, logs: Logs) -> None:
        if self.save_freq == "epoch":
            self._save(my, run, {"epoch": epoch + 1, **logs}, logs)

    def _save(self, my: SimpleNamespace, run: Run, names: dict[str, float], logs: Logs) -> None:
        value = watched(logs, self.monitor) if self.save_best_only else None
        if self.save_best_only and value is None:
            return
        path, why = filled(self.filepath, names), ""
        if value is not None:
            before = "None" if my.best is None else f"{my.best:.5f}"
            if not improved(my.sign, value, my.best):
                self._say(run, names, f"{self.monitor} did not improve from {before}")
                return
            my.best = value
            why = f"{self.monitor} improved from {before} to {value:.5f}, "
        self._say(run, names, f"{why}saving model to {path}")
        run.save(path, self.save_weights_only)

    def _say(self, run: Run, names: dict[str, float], text: str) -> None:
        if self.verbose:
            run.say(f"Epoch {names['epoch']}: {text}")

    def monitored(self) -> str | None:
        return self.monitor if self.save_best_only else None
