"""Our model and training settings as the descriptions that Keras 3.15 keeps in its files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.declare import Declared
from trainer.errors import RecipeError
from trainer.layers.base import Layer, policy
from trainer.losses.base import Loss
from trainer.metrics.base import Metric
from trainer.model.graph import Graph
from trainer.optimizers.base import Optimizer

KERAS_VERSION = "3.15.1"
"The release whose files we write."


def model_config(graph: Graph) -> dict[str, Any]:
    """The model's architecture: what stands in `model_config` of a Keras file.

    Raises:
        RecipeError: the graph is not a chain of layers.
    """
    if not is_chain(graph):
        raise RecipeError("a model file can only hold a chain of layers so far", path=("model",))
    return {"class_name": "Sequential", "config": sequential(graph)}


def is_chain(graph: Graph) -> bool:
    """Whether each layer is called once, on what the one before it made, from the one input to the one output."""
    tensor = next(iter(graph.inputs.values()))
    for call in graph.calls:
        if call.inputs != (tensor,):
            return False
        tensor = call.output
    once = len(graph.calls) == len(graph.layers)
    return once and len(graph.inputs) == 1 and list(graph.outputs.values()) == [tensor]


def sequential(graph: Graph) -> dict[str, Any]:
    """The config of Keras's Sequential."""
    ((name, number),) = graph.inputs.items()
    shape = list(graph.shapes[number])
    layers = [input_layer(name, shape, graph), *(layer_entry(n, layer) for n, layer in graph.layers.items())]
    return {
        "name": graph.name,
        "trainable": True,
        "dtype": policy(graph.dtype),
        "layers": layers,
        "build_input_shape": shape,
    }


def input_layer(name: str, shape: list[int | None], graph: Graph) -> dict[str, Any]:
    """Keras's InputLayer. Its type is float32 for integers too, as in a Sequential that Keras builds itself."""
    while name in graph.layers:
        name += "_input"
    config = {
        "batch_shape": shape,
        "dtype": "float32",
        "sparse": False,
        "ragged": False,
        "name": name,
        "optional": False,
    }
    return {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}


def layer_entry(name: str, layer: Layer) -> dict[str, Any]:
    """A layer with its name and number type.

    The module is named although Keras leaves it out of HDF5 files: without it, Keras's reader drops an `axis` that is
    a list, and takes an option whose value is the name of a layer function (`dot`) for that function.
    """
    entry = layer.to_keras()
    common = {"name": name, "trainable": layer.trainable, "dtype": policy(layer.dtype or "float32")}
    # Some of Keras's classes without weights have no such arguments.
    config = {option: value for option, value in common.items() if option not in layer.not_keras}
    return {**entry, "config": {**config, **entry["config"], "name": name}}


def training_config(
    optimizer: Optimizer,
    loss: Loss,
    metrics: Sequence[Metric] = (),
    *,
    weighted_metrics: Sequence[Metric] = (),
    loss_weights: list[float] | None = None,
    learning_rate: float | None = None,
) -> dict[str, Any]:
    """What `compile` was given: what stands in `training_config` of a Keras file.

    Losses and metrics stand as configs: Keras 3.15 does not load a file that says `mse`. `learning_rate` is the rate
    that training has come to, when a callback moved it.
    """
    described = optimizer.to_keras()
    config = dict(described["config"])
    if learning_rate is not None:
        config["learning_rate"] = learning_rate
    return {
        "loss": named(loss),
        "loss_weights": loss_weights,
        "metrics": [named(m) for m in metrics] or None,
        "weighted_metrics": [named(m) for m in weighted_metrics] or None,
        "run_eagerly": False,
        "steps_per_execution": 1,
        "jit_compile": False,
        # Without the module: Keras looks a built-in optimizer up by its name in lower case.
        "optimizer_config": {"class_name": described["registered_name"] or described["class_name"], "config": config},
    }


def named(part: Loss | Metric) -> dict[str, Any]:
    """A loss or metric as Keras describes it, without a name that is still open."""
    described = part.to_keras()
    config = {k: v for k, v in described["config"].items() if k != "name" or v is not None}
    return {**described, "config": config}


def not_in_keras(graph: Graph) -> list[str]:
    """`layer (Class)` for everything in the model that Keras has no class for: it must be registered there to load."""
    return [f"{name} ({kind})" for name, layer in graph.layers.items() for kind in _foreign(layer)]


def _foreign(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [name for v in value for name in _foreign(v)]
    if not isinstance(value, Declared):
        return []
    own = [] if value.keras else [type(value).__name__]
    return own + [name for option in value.options() for name in _foreign(getattr(value, option))]
