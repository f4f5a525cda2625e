"""Layers of Keras 1 that have no class of their own today, said as others: Merge, Highway and MaxoutDense.

Highway and MaxoutDense become models in the model under their own names: highway y = T * H + (1 - T) * x is
x + T * (H - x), with Dense layers for T and H (Srivastava et al., 2015, https://arxiv.org/abs/1505.00387); maxout takes
the largest of several products (Goodfellow et al., 2013, https://arxiv.org/abs/1302.4389).
"""

from __future__ import annotations

from typing import Any

from trainer.keras_files.reading import Reading, called

Entry = dict[str, Any]
MERGES = {
    "sum": "Add",
    "mul": "Multiply",
    "concat": "Concatenate",
    "ave": "Average",
    "max": "Maximum",
    "dot": "Dot",
    "cos": "Dot",
}
AND_ACTIVATION = "_and_activation"
"End of the name of a layer that was put with its activation into a Sequential."
HIGHWAY = ("transform", "gate")
"Ends of the names of the Dense layers that a Highway becomes."
_WEIGHTS = ("W_regularizer", "b_regularizer", "W_constraint", "b_constraint", "init")
_SHAPE = ("batch_input_shape", "input_dtype", "input_dim", "input_shape")


def merge(thing: Entry, reading: Reading) -> Entry:
    """Keras 1's Merge as the layer of its mode, in old words."""
    config, name = dict(thing["config"]), called(thing)
    mode = config.get("mode", "sum")
    function = config.get("mode_type", "raw") != "raw" or mode not in MERGES
    if function:
        reading.unknown("LambdaMerge", name)
        return {**thing, "class_name": "Add", "config": {"name": name}}
    kept: dict[str, Any] = {k: config[k] for k in ("name", "trainable") if k in config}
    if mode == "concat":
        kept["axis"] = config.get("concat_axis", -1)
    if mode in ("dot", "cos"):
        kept |= {"axes": _axes(config.get("dot_axes", -1)), "normalize": mode == "cos"}
    if mode == "cos":
        reading.note("the cosine comes without the axis of one that Keras 1 put before it", name)
    return {**thing, "class_name": MERGES[mode], "config": kept}


def _axes(value: Any) -> Any:
    """Axes as a number or one for each input; Keras 1 also wrote lists of one."""
    if isinstance(value, list):
        flat = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in value]
        return flat[0] if len(flat) == 1 else flat
    return value


def branches(name: str, layers: list[Entry], reading: Reading) -> Entry:
    """A Sequential that begins with a Merge of others, as the model of all their layers, in Keras 1's form."""
    made: dict[str, Entry] = {}
    inputs: list[list[Any]] = []
    first, *rest = layers
    ends = [_branch(b, made, inputs, reading) for b in first["config"].get("layers") or []]
    config = {k: v for k, v in first["config"].items() if k != "layers"}
    config.setdefault("name", f"{name}_merge")
    end = _added(made, {**first, "config": config}, ends)
    for thing in rest:
        end = _added(made, thing, [end])
    config = {"name": name, "layers": list(made.values()), "input_layers": inputs, "output_layers": [end]}
    return {"class_name": "Model", "config": config, "name": name}


def _added(made: dict[str, Entry], thing: Entry, reads: list[list[Any]]) -> list[Any]:
    """Put a layer behind others; the tensor that it makes."""
    name = called(thing)
    made[name] = {**thing, "name": name, "inbound_nodes": [[*reads]]}
    return [name, 0, 0]


def _branch(thing: Entry, made: dict[str, Entry], inputs: list[list[Any]], reading: Reading) -> list[Any]:
    """Put a branch's layers into the model; the tensor that it ends in."""
    config = thing.get("config")
    if thing.get("class_name") in ("Model", "Functional") and isinstance(config, dict):
        made |= {called(x): {**x, "name": called(x)} for x in config.get("layers", [])}
        inputs += [x for x in config.get("input_layers", []) if x not in inputs]
        return config["output_layers"][0]
    layers = config if isinstance(config, list) else (config or {}).get("layers")
    if thing.get("class_name") != "Sequential" or not layers:
        reading.wrong(called(thing), "expected a Sequential or a Model in a Merge")
        return ["", 0, 0]
    last = called(layers[-1])
    if last in made:
        return [last, 0, 0]
    if layers[0].get("class_name") == "Merge" and (layers[0].get("config") or {}).get("layers"):
        ends = [_branch(b, made, inputs, reading) for b in layers[0]["config"]["layers"]]
        merged = {k: v for k, v in layers[0]["config"].items() if k != "layers"}
        end = _added(made, {**layers[0], "config": merged}, ends)
        layers = layers[1:]
    else:
        end = _begun(layers, made, inputs)
        layers = [x for x in layers if x.get("class_name") != "InputLayer"]
    for layer in layers:
        end = _added(made, layer, [end])
    return end


def _begun(layers: list[Entry], made: dict[str, Entry], inputs: list[list[Any]]) -> list[Any]:
    """The InputLayer of a branch, its own or one made from what its first layer says."""
    first = layers[0]
    if first.get("class_name") == "InputLayer":
        thing = first
    else:
        config = first.get("config") or {}
        said = {k: config[k] for k in (*_SHAPE, "input_length", "dtype") if isinstance(config, dict) and k in config}
        if first.get("class_name") == "Embedding":
            said.pop("input_dim", None)
        thing = {"class_name": "InputLayer", "config": {"name": f"{called(first)}_input", "first": first, **said}}
    name = called(thing)
    made[name] = {**thing, "name": name, "inbound_nodes": []}
    inputs.append([name, 0, 0])
    return [name, 0, 0]


def highway(thing: Entry, units: int) -> Entry:
    """Keras 1's Highway as a model of Dense layers, in Keras 1's form; `units`: features of its input."""
    config, name = thing["config"], called(thing)
    dense = {k: config[k] for k in (*_WEIGHTS, "bias", "trainable") if k in config}
    reads = f"{name}_input"
    change = {**dense, "name": f"{name}_transform", "output_dim": units, "activation": config.get("activation")}
    gate = {**dense, "name": f"{name}_gate", "output_dim": units, "activation": "sigmoid"}
    layers: list[tuple[str, Entry, list[str]]] = [
        ("InputLayer", {"name": reads, "batch_input_shape": [None, units]}, []),
        ("Dense", change, [reads]),
        ("Dense", gate, [reads]),
        ("Subtract", {"name": f"{name}_change"}, [f"{name}_transform", reads]),
        ("Multiply", {"name": f"{name}_gated"}, [f"{name}_gate", f"{name}_change"]),
        ("Add", {"name": f"{name}_sum"}, [reads, f"{name}_gated"]),
    ]
    entries = [
        {
            "class_name": kind,
            "config": options,
            "name": options["name"],
            "inbound_nodes": [[[r, 0, 0] for r in read]] if read else [],
        }
        for kind, options, read in layers
    ]
    ends = {"input_layers": [[reads, 0, 0]], "output_layers": [[f"{name}_sum", 0, 0]]}
    kept = {k: config[k] for k in _SHAPE if k in config}
    return {**thing, "class_name": "Model", "config": {**kept, "name": name, "layers": entries, **ends}}


def maxout(thing: Entry) -> Entry:
    """Keras 1's MaxoutDense as a Sequential: all products at once, then the largest."""
    config, name = thing["config"], called(thing)
    bias = {"bias_axes": "ko"} if config.get("bias", True) else {}
    kept = {k: config[k] for k in (*_WEIGHTS, "trainable") if k in config}
    shape = {k: config[k] for k in _SHAPE if k in config}
    products = {
        **kept,
        **bias,
        **shape,
        "name": f"{name}_products",
        "equation": "bi,kio->bko",
        "output_shape": [config.get("nb_feature", 4), config["output_dim"]],
    }
    layers = [
        {"class_name": "EinsumDense", "config": products},
        {"class_name": "GlobalMaxPooling1D", "config": {"name": f"{name}_largest"}},
    ]
    return {**thing, "class_name": "Sequential", "config": {"name": name, "layers": layers}}
