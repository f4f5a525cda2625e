"""Descriptions that Keras 3 wrote: checked, and given the modules that its HDF5 files leave out."""

from __future__ import annotations

from typing import Any

from trainer.keras_files.lines import PLACED
from trainer.keras_files.operations import as_layer, is_operation, without_mask
from trainer.keras_files.reading import CODE, Reading, called
from trainer.keras_files.values import CLASSES
from trainer.layers.base import Layer

Entry = dict[str, Any]
OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
"Operations on tensors that compute what the layer of the same name does."
MERGING = (*OPERATIONS, "Average", "Concatenate", "Dot")


def completed(thing: Entry, reading: Reading) -> Entry:
    """The entry of a model or layer; unchanged where it says its modules. What is not known goes to `reading`."""
    thing = _of_applications(thing)
    kind, config = str(thing.get("class_name")), thing.get("config")
    if kind in ("Sequential", "Functional", "Model") and isinstance(config, dict) and "layers" in config:
        made = {**config, "layers": [x for thing in config["layers"] for x in _in_model(thing, reading)]}
        module = "keras" if kind == "Sequential" else "keras.src.models.functional"
        registered = None if kind == "Sequential" else "Functional"
        named = {} if "module" in thing else {"module": module, "registered_name": registered}
        return {**_ordered(thing, named), "config": made}
    operation = is_operation(thing)
    if (operation and kind not in OPERATIONS) or kind in CODE or not isinstance(config, dict) or _foreign(thing):
        reading.unknown(kind if kind in CODE or not operation else f"{kind} (an operation)", called(thing))
        return thing
    made = {k: completed(v, reading) if _is_layer(k, v) else v for k, v in config.items()}
    if config.get("quantization_config"):
        reading.wrong(called(thing), "its weights are quantized", "save the model before `quantize`, and import that")
    if kind == "RandomShear":
        made |= {k: _share(made[k]) for k in ("x_factor", "y_factor") if k in made}
    if "cells" in made and isinstance(made["cells"], list):
        made["cells"] = [completed(v, reading) for v in made["cells"]]
    if operation or "module" not in thing:
        found = _ours(kind)
        assert found is not None
        named = {"module": found.keras or None, "registered_name": None if found.keras else f"trainer>{kind}"}
        return {**_ordered(thing, named), "config": made}
    return {**thing, "config": made}


def _of_applications(thing: Entry) -> Entry:
    """The entry of a layer that Keras has for its ConvNeXt alone, x * gamma, as one of its layers for everybody."""
    config = thing.get("config")
    module = str(thing.get("module") or "keras.src.applications")
    if thing.get("class_name") != "LayerScale" or not isinstance(config, dict) or "projection_dim" not in config:
        return thing
    if not module.startswith("keras.src.applications"):
        return thing
    initial = {"class_name": "Constant", "config": {"value": config.get("init_values", 1.0)}}
    options = {"equation": "...x,x->...x", "output_shape": config["projection_dim"], "kernel_initializer": initial}
    made = {k: v for k, v in config.items() if k in ("name", "trainable", "dtype")} | options
    named = {"module": "keras.layers", "registered_name": None, "class_name": "EinsumDense"}
    return {**thing, **named, "config": made, PLACED: "LayerScale"}


def _share(factor: Any) -> Any:
    """The number f for what is drawn from -f to f, which Keras writes as a pair that it does not take itself."""
    match factor:
        case [float(least), float(most)] if least == -most:
            return most
    return factor


def _ordered(thing: Entry, named: Entry) -> Entry:
    """The entry with its module first, as Keras writes it."""
    return {**{k: v for k, v in named.items() if k == "module"}, **thing, **named}


def _in_model(thing: Any, reading: Reading) -> list[Any]:
    """The layer that an entry means; two of them where a mask would go on through what was an operation."""
    if not isinstance(thing, dict):
        reading.wrong("", f"expected a layer, found {str(thing)[:60]}")
        return [thing]
    operation = is_operation(thing)
    if operation:
        thing = as_layer(thing) or thing
    made = completed(thing, reading)
    if thing.get("class_name") in MERGING and thing.get("inbound_nodes"):
        made = {**made, "inbound_nodes": [_one_list(n, called(thing), reading) for n in thing["inbound_nodes"]]}
    return without_mask(made) if operation and reading.masks else [made]


def _one_list(node: Any, layer: str, reading: Reading) -> Any:
    """The call of a merge with its tensors in one list; operations have an argument for each."""
    args = node.get("args") if isinstance(node, dict) else None
    if not isinstance(args, list) or len(args) < 2:
        return node
    if not all(isinstance(a, dict) and a.get("class_name") == "__keras_tensor__" for a in args):
        hint = "in Keras, use a Rescaling layer or a layer of its own, and save the model again"
        reading.wrong(layer, "an operation on a tensor and a number is no layer", hint)
        return node
    return {**node, "args": [args]}


def _is_layer(option: str, value: Any) -> bool:
    return option in ("layer", "backward_layer", "cell") and isinstance(value, dict) and "class_name" in value


def _foreign(thing: Entry) -> bool:
    """Whether the class is none of ours, or is said to come from elsewhere than Keras."""
    module = str(thing.get("module") or "keras")
    registered = str(thing.get("registered_name") or "")
    kind = thing.get("class_name")
    ours = _ours(str(kind))
    if ours and registered == f"trainer>{kind}":
        return False
    if ours and not ours.__module__.startswith("trainer.layers"):
        return False
    package = registered.partition(">")[0] if ">" in registered else ""
    return not ours or module.partition(".")[0] not in ("keras", "tf_keras") or package not in ("", "keras", "Keras")


def _ours(kind: str) -> type[Layer] | None:
    """Our class of that name; the whole catalogue is loaded for what its files do not tell."""
    name = CLASSES.get(kind, kind)
    return Layer.known(name) or Layer.spellings().get(name)
