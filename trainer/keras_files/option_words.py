"""Options that are objects (initializers, regularizers, constraints, activations, number types), of every generation.

Keras 1 wrote initializers as names and regularizers as `{"name": ..., "l2": ...}`, Keras 2 `{"class_name", "config"}`.
What an initializer, a regularizer or a constraint says does not change what a trained model computes, so an unknown
one is left out with a note; an unknown activation is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.activations.base import Activation
from trainer.constraints.base import Constraint
from trainer.declare import Declared
from trainer.initializers.base import Initializer
from trainer.keras_files.reading import Reading, entry
from trainer.layers.base import Layer, policy
from trainer.naming import snake_case
from trainer.regularizers.base import Regularizer

LEGACY_HARD_SIGMOID = "legacy_hard_sigmoid"
FLOATS = ("float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")

_KERAS_1_INITIALIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("RandomUniform", {"minval": -0.05, "maxval": 0.05, "seed": None}),
    "normal": ("RandomNormal", {"mean": 0.0, "stddev": 0.05, "seed": None}),
    "zero": ("Zeros", {}),
    "one": ("Ones", {}),
}
_SCALED = {
    (1.0, "fan_avg", "uniform"): "GlorotUniform",
    (1.0, "fan_avg", "normal"): "GlorotNormal",
    (2.0, "fan_in", "uniform"): "HeUniform",
    (2.0, "fan_in", "normal"): "HeNormal",
    (1.0, "fan_in", "uniform"): "LecunUniform",
    (1.0, "fan_in", "normal"): "LecunNormal",
}
"Initializers that Keras 2 wrote out: scale, mode and distribution."
_ACTIVATIONS = {"softmax_v2": "softmax", "relu_v2": "relu", "swish": "silu", "softsign_v2": "softsign"}


def initializer(value: Any, reading: Reading, layer: str) -> Any:
    """An initializer as Keras 3 writes it; None where it is not known."""
    if isinstance(value, str):
        name, config = _KERAS_1_INITIALIZERS.get(value, (value, {}))
        return _object(Initializer, name, config, reading, layer)
    if not isinstance(value, dict):
        return None
    kind, config = value.get("class_name"), dict(value.get("config") or {})
    config.pop("dtype", None)
    config.pop("partition_info", None)
    if kind == "VarianceScaling":
        kind, config = _scaled(config)
    return _object(Initializer, kind, config, reading, layer)


def _scaled(config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Variance scaling under the name that it has, if it has one; "normal" meant the truncated normal."""
    distribution = config.get("distribution", "truncated_normal")
    short = "normal" if distribution == "truncated_normal" else distribution
    key = (config.get("scale", 1.0), config.get("mode", "fan_in"), short)
    if key in _SCALED:
        return _SCALED[key], {"seed": config.get("seed")}
    long = "truncated_normal" if short == "normal" else distribution
    return "VarianceScaling", {**config, "distribution": long}


def regularizer(value: Any, reading: Reading, layer: str) -> Any:
    """A regularizer as Keras 3 writes it; None where there is none, or it is not known."""
    kind, config = _kind_and_config(value)
    if kind is None:
        return None
    if kind in ("WeightRegularizer", "ActivityRegularizer", "L1L2Regularizer", "L1L2", "l1l2", "l1_l2"):
        config = {name: config.get(name) or 0.0 for name in ("l1", "l2")}
        if not any(isinstance(n, (int, float)) and n for n in config.values()):
            return None
        kind = "L1L2"
        if not config["l1"]:
            kind, config = "L2", {"l2": config["l2"]}
    return _object(Regularizer, kind, config, reading, layer)


def constraint(value: Any, reading: Reading, layer: str) -> Any:
    """A constraint as Keras 3 writes it; None where there is none, or it is not known."""
    kind, config = _kind_and_config(value)
    if kind is None:
        return None
    if "m" in config:
        config["max_value"] = config.pop("m")
    named = {"maxnorm": "MaxNorm", "nonneg": "NonNeg", "unitnorm": "UnitNorm"}
    return _object(Constraint, named.get(kind, kind), config, reading, layer)


def _kind_and_config(value: Any) -> tuple[str | None, dict[str, Any]]:
    """The class and its options, of Keras 1's `{"name": ..., options}` too."""
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, dict):
        return None, {}
    if "class_name" not in value and isinstance(value.get("name"), str):
        return value["name"], {k: v for k, v in value.items() if k != "name"}
    return value.get("class_name"), dict(value.get("config") or {})


def _object(room: type[Declared], kind: Any, config: dict[str, Any], reading: Reading, layer: str) -> Any:
    """`{"module", "class_name", "config", "registered_name"}`, when the class has these options."""
    found = room.spellings().get(kind) if isinstance(kind, str) else None
    left = [] if found is None else [name for name in config if name not in found.options()]
    if found is None or any(config[name] is not None for name in left):
        reading.note(f"the {room.kind} {kind} is not known and was left out: it matters in training alone", layer)
        return None
    known = {name: value for name, value in config.items() if name not in left}
    return entry(found.keras, found.__name__, known)


def activation(value: Any, reading: Reading, layer: str, nested: Callable[[dict[str, Any]], Any]) -> Any:
    """The name of an activation; for one that is a layer with options of its own, that layer's entry.

    `nested` brings a layer's entry into today's form.
    """
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value.get("config")
    if isinstance(value, dict):
        return _layer_as_function(value, reading, layer, nested)
    if value is None:
        return "linear"
    if value == "hard_sigmoid" and reading.old:
        reading.note("hard_sigmoid is x / 5 + 1/2 here, as in the release that wrote the file", layer)
        return LEGACY_HARD_SIGMOID
    found = Activation.spellings().get(_ACTIVATIONS.get(value, value)) if isinstance(value, str) else None
    if found is None:
        hint = "declare an activation of that name in a plugin, or save the model with one of Keras's"
        reading.wrong(layer, f"expected an activation of Keras, found {value!r}", hint)
        return "linear"
    return snake_case(found.__name__)


def _layer_as_function(
    value: dict[str, Any], reading: Reading, layer: str, nested: Callable[[dict[str, Any]], Any]
) -> Any:
    """An activation given as a layer: a plain name where it computes the same."""
    kind, config = value.get("class_name"), value.get("config")
    if kind == "Activation" and isinstance(config, dict):
        return activation(config.get("activation"), reading, layer, nested)
    if not isinstance(kind, str) or (kind not in Layer.spellings() and kind != "ThresholdedReLU"):
        by_name = kind if isinstance(kind, str) and isinstance(config, (dict, type(None))) and not config else value
        if isinstance(by_name, str):
            return activation(by_name, reading, layer, nested)
        reading.wrong(layer, f"expected an activation of Keras, found {kind!r}")
        return "linear"
    made = nested({**value, "config": {"name": f"{layer}_activation", **(config or {})}})
    if made["class_name"] == "PReLU":
        hint = "in Keras, let a PReLU layer follow the layer, and save the model again"
        reading.wrong(layer, "PReLU as an activation has weights, which stand among the layer's", hint)
        return "linear"
    return _SAME.get((made["class_name"], _told(made["config"])), made)


def _told(config: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    options = {k: v for k, v in config.items() if k not in ("name", "trainable", "dtype")}
    return tuple(sorted((k, v) for k, v in options.items() if isinstance(v, (int, float, str, type(None)))))


_SAME = {
    ("ReLU", (("max_value", None), ("negative_slope", 0.0), ("threshold", 0.0))): "relu",
    ("ReLU", (("max_value", 6.0), ("negative_slope", 0.0), ("threshold", 0.0))): "relu6",
    ("LeakyReLU", (("negative_slope", 0.2),)): "leaky_relu",
    ("ELU", (("alpha", 1.0),)): "elu",
    ("Softmax", (("axis", -1),)): "softmax",
}
"Layers that compute what an activation of a name computes."


def dtype(value: Any, reading: Reading, layer: str) -> dict[str, Any] | None:
    """A number type as Keras 3's policy; None where it is the default or says nothing of weights."""
    if isinstance(value, dict):
        value = (value.get("config") or {}).get("name")
    if value in (None, "infer", "_infer") or value not in FLOATS:
        if value not in (None, "infer", "_infer", "int32", "int64", "int8", "int16", "uint8", "bool", "string"):
            reading.wrong(layer, f"expected a number type of Keras, found {value!r}")
        return None
    return policy(value)
