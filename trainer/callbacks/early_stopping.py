"""EarlyStopping."""

from __future__ import annotations

from types import SimpleNamespace

from trainer.callbacks.base import Callback, Logs, Run, better
from trainer.callbacks.watching import Mode, Verbose, improved, watched
from trainer.options import Bool, Float, NonNegativeInt, Str


class EarlyStopping(Callback):
    """Ends training when a watched value has not improved for `patience` epochs.

    https://keras.io/api/callbacks/early_stopping/
    """

    monitor: Str = "val_loss"
    "Name in the logs of the value to watch."
    min_delta: Float = 0.0
    "Smallest change that counts as an improvement; its sign does not matter."
    patience: NonNegativeInt = 0
    "Epochs without improvement after which training ends."
    verbose: Verbose = 0
    "1 says when training ended early and which weights were put back."
    mode: Mode = "auto"
    "Whether smaller (`min`) or larger (`max`) is better; `auto` goes by the name."
    baseline: Float | None = None
    "A value to beat: epochs that don't beat it count as without improvement."
    restore_best_weights: Bool = False
    "Whether the weights of the best epoch are put back when training ends, early or not."
    start_from_epoch: NonNegativeInt = 0
    "Epochs to let pass before watching."

    def on_train_begin(self, my: SimpleNamespace, run: Run) -> None:
        my.sign = better(self.mode, self.monitor)
        my.wait, my.stopped_epoch = 0, 0
        my.best, my.best_epoch, my.best_weights = None, 0, None

    def on_epoch_end(self, my: SimpleNamespace, run: Run, epoch: int, logs: Logs) -> None:
        value = watched(logs, self.monitor)
        if value is None or epoch < self.start_from_epoch:
            return
        improving = improved(my.sign, value, my.best, self.min_delta)
        if improving or (self.restore_best_weights and my.best_weights is None):
            my.best_epoch = epoch
            my.best_weights = run.weights() if self.restore_best_weights else None
        my.wait += 1
        if improving:
            my.best = value
            if self.baseline is None or improved(my.sign, value, self.baseline, self.min_delta):
                my.wait = 0
        elif my.wait >= self.patience and epoch > 0:
            my.stopped_epoch = epoch
            run.stop(f"{self.monitor} has not improved since epoch {my.best_epoch + 1}")

    def on_train_end(self, my: SimpleNamespace, run: Run, logs: Logs) -> None:
        if my.stopped_epoch and self.verbose:
            run.say(f"Epoch {my.stopped_epoch + 1}: early stopping")
        if my.best_weights is None:
            return
        if self.verbose:
            run.say(f"Restoring model weights from the end of the best epoch: {my.best_epoch + 1}.")
        run.set_weights(my.best_weights)

    def monitored(self) -> str | None:
        return self.monitor
