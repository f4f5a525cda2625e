"""Our model and training settings as the descriptions that Keras 3.15 keeps in its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from trainer.block import Block
from trainer.declare import Declared
from trainer.layers.base import Layer, policy
from trainer.layers.graph import Graph, grown
from trainer.layers.joining import Concatenate
from trainer.layers.models import Composite, Model
from trainer.layers.order import Call
from trainer.losses.base import Loss
from trainer.metrics.base import Metric
from trainer.optimizers.base import Optimizer

KERAS_VERSION = "3.15.1"
"The release whose files we write."


def model_config(graph: Graph) -> dict[str, Any]:
    """The model's architecture: what stands in `model_config` of a Keras file."""
    if graph.is_chain():
        return {"class_name": "Sequential", "config": sequential(graph)}
    return {"class_name": "Functional", "config": functional(graph)}


def sequential(graph: Graph) -> dict[str, Any]:
    """The config of Keras's Sequential."""
    ((name, number),) = graph.inputs.items()
    shape = list(graph.shapes[number])
    layers = [input_layer(name, shape, graph), *(whole_entry(graph, n) for n in graph.layers)]
    return {
        "name": graph.name,
        "trainable": True,
        "dtype": policy(graph.dtype),
        "layers": layers,
        "build_input_shape": shape,
    }


def functional(graph: Graph) -> dict[str, Any]:
    """The config of Keras's functional Model."""
    places = _Places(graph)
    layers = []
    for name, number in graph.inputs.items():
        entry = input_layer(name, list(graph.shapes[number]), graph)
        layers.append({**entry, "name": entry["config"]["name"], "inbound_nodes": []})
    for name, layer in graph.layers.items():
        nodes, called = [places.node(call) for call in graph.calls if call.layer == name], written_name(name, graph)
        entry = whole_entry(graph, name) if called == name else layer_entry(called, layer)
        layers.append({**entry, "name": called, "inbound_nodes": nodes})
    ends = [[places.end(n) for n in numbers.values()] for numbers in (graph.inputs, graph.outputs)]
    starts, outputs = (found if len(found) > 1 else found[0] for found in ends)
    return {
        "name": graph.name,
        "trainable": True,
        "layers": layers,
        "input_layers": starts,
        "output_layers": outputs,
    }


class _Places:
    """Where Keras finds each tensor: the name of its layer, which of its calls, which of the tensors that it made."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self._found: dict[int, tuple[str, int]] = {}
        self._makers = {call.output: graph.layers[call.layer] for call in graph.calls}
        for name, number in graph.inputs.items():
            self._found[number] = (input_name(name, graph), 0)
        counts: dict[str, int] = {}
        for call in graph.calls:
            count = counts[call.layer] = counts.get(call.layer, -1) + 1
            self._found[call.output] = (written_name(call.layer, graph), count)

    def history(self, number: int, part: int = 0) -> list[Any]:
        """`[layer, call, tensor]` of a tensor."""
        if number in self.graph.wiring.parts:
            number, which = self.graph.wiring.parts[number]
            part = self._makers[number].part(which)
        return [*self._found[number], part]

    def end(self, number: int) -> list[Any]:
        """`history` of an input or output of the model, where Keras counts the calls of functional models from 1."""
        layer, call, part = self.history(number)
        return [layer, call + isinstance(self.graph.layers.get(layer), Model), part]

    def tensors(self, number: int) -> Any:
        """A tensor as Keras writes it, or a list where a layer made several."""
        shape = self.graph.shapes[number]
        if isinstance(shape, list):
            return [_tensor(s, self.history(number, part)) for part, s in enumerate(shape)]
        return _tensor(shape, self.history(number))

    def node(self, call: Call) -> dict[str, Any]:
        """A call of a layer."""
        read = [self.tensors(n) for n in call.inputs]
        layer = self.graph.layers[call.layer]
        args, kwargs = layer.keras_call(read if len(read) > 1 or not isinstance(read[0], list) else read[0])
        return {"args": args, "kwargs": {**kwargs, **call.options}}


def _tensor(shape: Any, history: list[Any]) -> dict[str, Any]:
    config = {"shape": list(shape), "dtype": "float32", "keras_history": history}
    return {"class_name": "__keras_tensor__", "config": config}


def input_name(name: str, graph: Graph) -> str:
    """What the input is called in the file, where layers have names too: as its own line says, else as in the data."""
    said = graph.wiring.said.get(name)
    name = (said.layer.name if said is not None else None) or name
    while name in graph.layers:
        name += "_input"
    return name


def written_name(name: str, graph: Graph) -> str:
    """What a layer is called in the file: as in the recipe, but for a Concatenate named by default that reads masks.

    Keras joins the masks by an operation that it names just so, and opens no model that has a name twice.
    """
    plain = not isinstance(graph.layers[name], Concatenate) or not re.fullmatch(r"concatenate(_\d+)?", name)
    if plain or not any(layer.starts_mask() for layer in graph.layers.values()):
        return name
    name += "_layer"
    while name in graph.layers or name in graph.inputs:
        name += "_layer"
    return name


def input_layer(name: str, shape: list[int | None], graph: Graph) -> dict[str, Any]:
    """Keras's InputLayer. Its type is float32 for integers too, as in a Sequential that Keras builds itself.

    One of integers that the recipe says stands there where all layers that read the input take integers.
    """
    said = graph.wiring.said.get(name)
    readers = [graph.layers[call.layer] for call in graph.calls if graph.inputs[name] in call.inputs]
    whole = said is not None and all(layer.reads_integers for layer in readers)
    config = {
        "batch_shape": shape,
        "dtype": (said.layer.dtype if said is not None and whole else None) or "float32",
        "sparse": False,
        "ragged": False,
        "name": input_name(name, graph),
        "optional": False,
    }
    return {"module": "keras.layers", "class_name": "InputLayer", "config": config, "registered_name": None}


def whole_entry(graph: Graph, name: str) -> dict[str, Any]:
    """A layer's entry; for a model inside the model, with everything inside, whose inputs have shapes by now."""
    layer = graph.layers[name]
    if not isinstance(layer, Composite):
        return layer_entry(name, layer)
    call = next(call for call in graph.calls if call.layer == name)
    shapes = [
        s for n in call.inputs for s in (graph.shapes[n] if isinstance(graph.shapes[n], list) else [graph.shapes[n]])
    ]
    wiring = layer.wiring()
    if not layer.trainable:
        # Keras's reader freezes the model alone, which changes the order in which it expects the weights inside.
        wiring = replace(
            wiring, layers={n: x.model_copy(update={"trainable": False}) for n, x in wiring.layers.items()}
        )
    inner = grown(wiring, dict(zip(wiring.inputs, shapes, strict=True)), name, dtype=graph.dtype)
    config = functional(inner) if isinstance(layer, Model) else sequential(inner)
    config = {**config, "trainable": layer.trainable}
    if not isinstance(layer, Model):
        return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}
    module = "keras.src.models.functional"
    return {"module": module, "class_name": "Functional", "config": config, "registered_name": "Functional"}


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


class Asked(Protocol):
    """What was asked of one output."""

    @property
    def loss(self) -> Loss: ...
    @property
    def metrics(self) -> Sequence[Metric]: ...
    @property
    def weighted_metrics(self) -> Sequence[Metric]: ...
    @property
    def weight(self) -> float: ...


def training_config(
    optimizer: Optimizer, goals: Sequence[Asked], model: str = "", *, learning_rate: float | None = None
) -> dict[str, Any]:
    """What `compile` was given: what stands in `training_config` of a Keras file; `goals` in the outputs' order.

    `model` is the model's name, with which Keras begins the paths of a Sequential's weights.

    Losses and metrics stand as configs: Keras 3.15 does not load a file that says `mse`. `learning_rate` is the rate
    that training has come to, when a callback moved it.
    """
    described = _with_model(optimizer.to_keras(), model)
    config = dict(described["config"])
    if learning_rate is not None:
        config["learning_rate"] = learning_rate
    weights = [goal.weight for goal in goals]
    return {
        "loss": _each([named(goal.loss) for goal in goals]),
        "loss_weights": None if set(weights) == {1.0} else weights,
        "metrics": _each([_known(goal.metrics) for goal in goals]) or None,
        "weighted_metrics": _each([_known(goal.weighted_metrics) for goal in goals]) or None,
        "run_eagerly": False,
        "steps_per_execution": 1,
        "jit_compile": False,
        # Without the module: Keras looks a built-in optimizer up by its name in lower case.
        "optimizer_config": {"class_name": described["registered_name"] or described["class_name"], "config": config},
    }


def _known(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """The metrics that Keras has; with one that it lacks it could not open the file."""
    return [named(metric) for metric in metrics if metric.keras]


def _with_model(described: Any, model: str) -> Any:
    """An optimizer's description whose patterns also fit paths of weights that begin with the model's name."""
    if not isinstance(described, dict):
        return described
    made = {key: _with_model(value, model) for key, value in described.items()}
    if described.get("class_name") == "OptimizerMap" and model:
        rules = made["config"]["optimizer_map"]
        prefix = f"(?:{re.escape(model)}/)?"
        made["config"]["optimizer_map"] = {f"{prefix}(?:{pattern})": rule for pattern, rule in rules.items()}
    return made


def _each(found: list[Any]) -> Any:
    """A list with an entry for each output; the entry itself where there is one, nothing where all are empty."""
    return found[0] if len(found) == 1 else found if any(found) else None


def named(part: Loss | Metric) -> dict[str, Any]:
    """A loss or metric as Keras describes it, without a name that is still open."""
    described = part.to_keras()
    config = {k: v for k, v in described["config"].items() if k != "name" or v is not None}
    return {**described, "config": config}


def not_in_keras(graph: Graph) -> list[str]:
    """`layer (Class)` for everything in the model that Keras has no class for: it must be registered there to load."""
    return [f"{name} ({kind})" for name, layer in graph.layers.items() for kind in foreign(layer)]


def foreign(value: Any) -> list[str]:
    """Names of the classes in a value, and in its options, that Keras lacks."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [name for v in value for name in foreign(v)]
    if not isinstance(value, Block):
        return []
    # A constant rate is a class here and a number there.
    lacks = isinstance(value, Declared) and not value.keras and not isinstance(value.to_keras(), (int, float))
    own = [type(value).__name__] if lacks else []
    return own + [name for option in type(value).model_fields for name in foreign(getattr(value, option))]
