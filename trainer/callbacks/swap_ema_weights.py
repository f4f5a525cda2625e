"""SwapEMAWeights."""

from __future__ import annotations

from types import SimpleNamespace

from trainer.callbacks.base import Callback, Logs, Run
from trainer.options import Bool


class SwapEMAWeights(Callback):
    """Judges the moving averages of the weights (the optimizer's `use_ema`) in place of the weights themselves.

    They change places for every validation. A training that stops early ends with the averages too, as every other
    (in Keras, under `swap_on_epoch`, it ends with the weights). https://keras.io/api/callbacks/swap_ema_weights/

    Raises:
        RecipeError: the optimizer keeps no averages.
    """

    needs_averages = True

    swap_on_epoch: Bool = False
    """Whether they change places at the end of an epoch too, until the next one begins, so that callbacks listed below
    (ModelCheckpoint) save the averages."""

    def on_train_begin(self, my: SimpleNamespace, run: Run) -> None:
        my.swapped = False
        # Said before the first epoch, if there are none.
        run.swap_averages()
        run.swap_averages()

    def on_epoch_begin(self, my: SimpleNamespace, run: Run, epoch: int) -> None:
        self._turn(my, run, averages=False)

    def on_test_begin(self, my: SimpleNamespace, run: Run) -> None:
        self._turn(my, run, averages=True)

    def on_test_end(self, my: SimpleNamespace, run: Run, logs: Logs) -> None:
        self._turn(my, run, averages=False)

    def on_epoch_end(self, my: SimpleNamespace, run: Run, epoch: int, logs: Logs) -> None:
        if self.swap_on_epoch:
            self._turn(my, run, averages=True)

    def _turn(self, my: SimpleNamespace, run: Run, *, averages: bool) -> None:
        if my.swapped != averages:
            run.swap_averages()
            my.swapped = averages
