"""What is said when training has left the numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainer.errors import EnvironmentFault

if TYPE_CHECKING:
    from trainer.train.loop import Training

HINT = "a smaller learning_rate, clipnorm: 1.0, or scaled inputs; the last finite checkpoint is kept"


def diverged(training: Training, loss: float) -> EnvironmentFault:
    """The fault of an epoch whose loss, or whose weights at its end, are no longer finite."""
    step = f"(step {training.updater.iterations}, learning rate {training.learning_rate:g})"
    if math.isfinite(loss):
        found = f"the weights are no longer finite at the end of epoch {training.epoch + 1} {step}"
        return EnvironmentFault(f"{found}, though the loss was {loss:g}", hint=HINT, code="diverged")
    first = training.scores.first_bad
    batch = "" if first is None else f", first in batch {first + 1} of {training.steps}"
    found = f"the loss is {loss} in epoch {training.epoch + 1}{batch} {step}"
    return EnvironmentFault(found, hint=HINT, code="diverged")
