"""Keras's optimizers beside ours."""

from __future__ import annotations

from typing import Any

import keras
import torch

from trainer.optimizers.base import Optimizer

WRAPPERS: dict[str, dict[str, Any]] = {
    "LossScaleOptimizer": {"inner_optimizer": "adam"},
    "MultiOptimizer": {"optimizer_map": {"default_optimizer": "adam"}},
}
"Optimizers that need options, with some."


def twin(optimizer: Optimizer) -> Any:
    """Keras's optimizer of our options (not by keras.optimizers.deserialize, whose list lacks Lamb)."""
    made = keras.saving.deserialize_keras_object(optimizer.to_keras())
    if isinstance(made, keras.optimizers.ScheduleFreeAdamW):
        made.__class__ = KeepsItsPlace
    return made


class KeepsItsPlace(keras.optimizers.ScheduleFreeAdamW):
    """Keras's rule with the old fast point as it was before the step.

    Keras takes it as `momentum.value` first and moves the momentum then, which changes it on backends whose variables
    are overwritten in place (PyTorch); on JAX it stays.
    """

    def assign_sub(self, variable: Any, value: Any) -> None:
        variable._value = torch.nn.Parameter(variable.value - value, requires_grad=False)
