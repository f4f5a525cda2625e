"""What a run's model file gives back beside Keras's own: weights by layer, and the state of a training."""

from __future__ import annotations

from typing import Any

from trainer.errors import RunError
from trainer.runs.model_file import ModelFile
from trainer.train.build import Built


def load_weights(built: Built, model: ModelFile) -> None:
    """Put the weights of a model file into a network that was built from the same recipe."""
    weights = [array for name in built.graph.layers for array in model.weights.get(name, [])]
    try:
        built.network.set_weights(weights)
    except ValueError as error:
        raise RunError(f"the weights do not fit the recipe: {error}") from None


def state_of(model: ModelFile) -> dict[str, Any]:
    """What `trainer` keeps in a model file beside Keras's own.

    Raises:
        RunError: the file has none of it (Keras wrote it).
    """
    if "preprocessing" not in model.extra:
        raise RunError("the model file holds no training state of ours", hint="start a new run from its weights")
    return model.extra
