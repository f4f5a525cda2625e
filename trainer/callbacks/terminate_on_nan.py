"""TerminateOnNaN."""

from __future__ import annotations

import math
from types import SimpleNamespace

from trainer.callbacks.base import Callback, Logs, Run
from trainer.errors import EnvironmentFault
from trainer.options import Bool


class TerminateOnNaN(Callback):
    """Ends training at the first batch after which the loss is not finite.

    https://keras.io/api/callbacks/terminate_on_nan/

    Raises:
        EnvironmentFault: `raise_error` is set and the loss is not finite.
    """

    raise_error: Bool = False
    "Whether that is an error, instead of an early end after which callbacks still finish."

    needs_batches = True

    def on_batch_end(self, my: SimpleNamespace, run: Run, batch: int, logs: Logs) -> None:
        loss = logs.get("loss", 0.0)
        if math.isfinite(loss):
            return
        if self.raise_error:
            raise EnvironmentFault(
                f"the loss is {loss} after batch {batch + 1} (learning rate {run.learning_rate:g})",
                hint="a smaller learning_rate, clipnorm: 1.0, or scaled inputs",
                code="diverged",
            )
        run.say(f"Batch {batch + 1}: Invalid loss, terminating training")
        run.stop(f"the loss is {loss} after batch {batch + 1}")
