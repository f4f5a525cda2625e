"""Operations on tensors in the code of a Keras 3 model (`x * 2`, `ops.relu(x)`), where a layer computes the same.

Keras lists an operation among the layers of a functional model. Most of what stands in models of users is one of a few:
arithmetic with a number, an activation, another shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from trainer.shapes import size

Entry = dict[str, Any]
Layer = tuple[str, dict[str, Any]]
"A layer's class and its options."
TENSOR = "__keras_tensor__"
ACTIVATIONS = {
    "Exp": "exponential",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "HardTanh": "hard_tanh",
    "LogSigmoid": "log_sigmoid",
    "LogSoftmax": "log_softmax",
    "Relu": "relu",
    "Relu6": "relu6",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "TanhShrink": "tanh_shrink",
}


def is_operation(thing: Entry) -> bool:
    """Whether an entry among layers is one; HDF5 files say no module, but every layer says whether it trains."""
    module, config = thing.get("module"), thing.get("config")
    if module is not None:
        return str(module).startswith(("keras.src.ops", "keras.ops"))
    return bool(thing.get("inbound_nodes")) and isinstance(config, dict) and not {"trainable", "dtype"} & {*config}


def as_layer(thing: Entry) -> Entry | None:
    """The entry of a layer that computes what an operation does, with its calls; None where there is none."""
    nodes = thing.get("inbound_nodes")
    config = thing.get("config")
    if not isinstance(nodes, list) or not nodes or not isinstance(config, dict):
        return None
    found = [_said(str(thing.get("class_name")), config, node) for node in nodes]
    first = found[0]
    if first is None or any(one is None or one[0] != first[0] for one in found):
        return None
    (kind, options), calls = first[0], [{"args": one[1], "kwargs": {}} for one in found if one is not None]
    name = config.get("name") or thing.get("name")
    return {
        **thing,
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, "trainable": True, "dtype": "float32", **options},
        "registered_name": None,
        "inbound_nodes": calls,
    }


def begins_mask(value: Any) -> bool:
    """Whether a layer of a description begins a mask."""
    if isinstance(value, list):
        return any(map(begins_mask, value))
    if not isinstance(value, dict):
        return False
    return value.get("class_name") == "Masking" or bool(value.get("mask_zero")) or any(map(begins_mask, value.values()))


def without_mask(layer: Entry) -> list[Entry]:
    """A layer in the place of an operation, through which no mask goes, and behind it one that lets none through.

    The latter, a Permute that leaves the axes as they are, has the name by which others read the result.
    """
    name, nodes = layer["config"]["name"], layer.get("inbound_nodes") or []
    shapes = [tensor["config"].get("shape") for node in nodes for tensor in _tensors(node.get("args"))[:1]]
    ranks = {max(len(t["config"].get("shape") or ()) for t in _tensors(node.get("args"))) for node in nodes}
    if layer["class_name"] in ("Reshape", "Permute") or len(ranks) != 1 or len(shapes) != len(nodes):
        return [layer]
    (rank,) = ranks
    if rank < 2:
        return [layer]
    inner = f"{name}_of_masked"
    reads = [
        {"class_name": TENSOR, "config": {"shape": shape, "dtype": "float32", "keras_history": [inner, number, 0]}}
        for number, shape in enumerate(shapes)
    ]
    config = {"name": name, "trainable": True, "dtype": "float32", "dims": [*range(1, rank)]}
    stop = {
        "module": "keras.layers",
        "class_name": "Permute",
        "config": config,
        "registered_name": None,
        "name": name,
        "inbound_nodes": [{"args": [read], "kwargs": {}} for read in reads],
    }
    return [{**layer, "name": inner, "config": {**layer["config"], "name": inner}}, stop]


def _tensors(value: Any) -> list[Entry]:
    if isinstance(value, list):
        return [tensor for inner in value for tensor in _tensors(inner)]
    return [value] if _is_tensor(value) else []


def _said(kind: str, config: Mapping[str, Any], node: Any) -> tuple[Layer, list[Any]] | None:
    """(a layer, what its call reads) of an operation's call."""
    args = node.get("args") if isinstance(node, dict) else None
    kwargs = node.get("kwargs") if isinstance(node, dict) else None
    if not isinstance(args, list) or not args or any(v is not None for v in (kwargs or {}).values()):
        return None
    if kind == "Concatenate" and isinstance(args[0], list) and isinstance(config.get("axis"), int):
        return (("Concatenate", {"axis": config["axis"]}), args) if config["axis"] else None
    tensors = [a for a in args if _is_tensor(a)]
    if len(tensors) != 1 or len(args) > 2:
        return None
    if kind == "Square" or (kind == "Power" and args[1:] == [2]):
        return ("Multiply", {}), [[tensors[0], tensors[0]]]
    shape = tensors[0]["config"].get("shape")
    layer = _with_number(kind, args) if len(args) == 2 else _of_one(kind, config, shape)
    return None if layer is None else (layer, tensors)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, dict) and value.get("class_name") == TENSOR and isinstance(value.get("config"), dict)


def _with_number(kind: str, args: list[Any]) -> Layer | None:
    """Arithmetic of a tensor and a number."""
    first = _is_tensor(args[0])
    number = args[1] if first else args[0]
    if type(number) not in (int, float) or not math.isfinite(number):
        return None
    if kind == "Add":
        return "Rescaling", {"scale": 1.0, "offset": float(number)}
    if kind == "Multiply":
        return "Rescaling", {"scale": float(number), "offset": 0.0}
    if kind == "Subtract":
        return "Rescaling", {"scale": 1.0 if first else -1.0, "offset": float(-number if first else number)}
    if kind in ("TrueDivide", "Divide") and first and number:
        return "Rescaling", {"scale": 1.0 / number, "offset": 0.0}
    return ("ReLU", {}) if kind == "Maximum" and number == 0 else None


def _of_one(kind: str, config: Mapping[str, Any], shape: Any) -> Layer | None:
    """What is made of one tensor alone."""
    if kind in ACTIVATIONS and (kind != "LogSoftmax" or config.get("axis", -1) == -1):
        return "Activation", {"activation": ACTIVATIONS[kind]}
    if kind == "Negative":
        return "Rescaling", {"scale": -1.0, "offset": 0.0}
    if kind == "Gelu" and config.get("approximate") is False:
        return "Activation", {"activation": "gelu"}
    if kind == "Softmax" and isinstance(config.get("axis"), int) and config["axis"]:
        return "Softmax", {"axis": config["axis"]}
    if kind == "LeakyRelu":
        return "LeakyReLU", {"negative_slope": config.get("negative_slope", 0.2)}
    if kind == "Elu":
        return "ELU", {"alpha": config.get("alpha", 1.0)}
    if kind == "Clip" and config.get("x_min") == 0 and type(config.get("x_max")) in (int, float):
        return "ReLU", {"max_value": float(config["x_max"])}
    axes = config.get("axes")
    if kind == "Transpose" and isinstance(axes, list) and axes[:1] == [0]:
        return "Permute", {"dims": axes[1:]}
    return _reshaped(kind, config, shape) if isinstance(shape, list) else None


def _reshaped(kind: str, config: Mapping[str, Any], shape: list[Any]) -> Layer | None:
    """Another shape of each row; the rows themselves must stay apart."""
    made = _RESHAPES[kind](config, shape) if kind in _RESHAPES else None
    if not made or made.count(-1) > 1:
        return None
    return "Reshape", {"target_shape": made}


def _new_shape(config: Mapping[str, Any], shape: list[Any]) -> list[Any] | None:
    made = config.get("newshape")
    if not isinstance(made, list) or len(made) < 2 or made[0] not in (-1, None):
        return None
    rest = [-1 if n is None else n for n in made[1:]]
    # Where the rows are what is left over, all other sizes must be those of one row.
    same = -1 not in rest and None not in shape[1:] and size(rest) == size(shape[1:])
    return rest if same or (made[0] is None and -1 in rest) else None


def _longer(config: Mapping[str, Any], shape: list[Any]) -> list[Any] | None:
    axis = config.get("axis")
    if type(axis) is not int:
        return None
    at = axis if axis >= 0 else len(shape) + 1 + axis
    return _sizes([*shape[1 : max(at, 1)], 1, *shape[max(at, 1) :]]) if at > 0 else None


def _shorter(config: Mapping[str, Any], shape: list[Any]) -> list[Any] | None:
    axis = config.get("axis")
    at = axis % len(shape) if type(axis) is int else 0
    return _sizes([*shape[1:at], *shape[at + 1 :]]) if at and shape[at] == 1 else None


def _sizes(shape: list[Any]) -> list[Any]:
    return [-1 if n is None else n for n in shape]


_RESHAPES: dict[str, Callable[[Mapping[str, Any], list[Any]], list[Any] | None]] = {
    "Reshape": _new_shape,
    "ExpandDims": _longer,
    "Squeeze": _shorter,
}
