"""Layers whose activation is a layer with options (`activation=LeakyReLU(0.1)`), followed by that layer instead."""

from __future__ import annotations

from typing import Any

from trainer.keras_files.reading import entry
from trainer.keras_files.replaced import AND_ACTIVATION
from trainer.layers.base import policy

Entry = dict[str, Any]


def split(thing: Entry) -> Entry:
    """The entry of a model or layer of today, where each activation that is a layer follows as a layer of its own."""
    config = thing.get("config")
    if not isinstance(config, dict):
        return thing
    if thing["class_name"] == "Sequential":
        inner = [part for x in config["layers"] for part in _parts(split(x))]
        return {**thing, "config": {**config, "layers": inner}}
    if thing["class_name"] == "Functional":
        return {**thing, "config": _functional(config)}
    made = {k: _as_one(split(v)) if _is_layer(k, v) else v for k, v in config.items()}
    return thing if all(made[k] is config[k] for k in config) else {**thing, "config": made}


def _is_layer(option: str, value: Any) -> bool:
    return option in ("layer", "backward_layer") and isinstance(value, dict) and "class_name" in value


def _parts(thing: Entry) -> list[Entry]:
    """The layer, and its activation where that is a layer."""
    config = thing.get("config") or {}
    last = config.get("activation") if isinstance(config, dict) else None
    if not isinstance(last, dict) or "class_name" not in last:
        return [thing]
    name = f"{config.get('name')}_activation"
    follows = {k: last.get(k) for k in ("module", "class_name", "registered_name")}
    return [
        {**thing, "config": {**config, "activation": "linear"}},
        {**follows, "config": {**last["config"], "name": name}},
    ]


def _as_one(thing: Entry) -> Entry:
    """The layer and its activation as one layer, for a wrapper."""
    parts = _parts(thing)
    if len(parts) == 1:
        return thing
    name = f"{thing['config'].get('name')}{AND_ACTIVATION}"
    config = {"name": name, "trainable": True, "dtype": policy("float32"), "layers": parts}
    return entry("keras", "Sequential", config)


def _functional(config: dict[str, Any]) -> dict[str, Any]:
    """A graph in which whoever read such a layer reads its activation."""
    layers: list[Entry] = []
    moved: dict[str, str] = {}
    added: list[tuple[Entry, Entry]] = []
    for thing in config["layers"]:
        first, *rest = _parts(split(thing))
        layers.append(first)
        for follows in rest:
            name = moved[first["name"]] = follows["config"]["name"]
            follows = {**follows, "name": name, "inbound_nodes": []}
            added.append((first, follows))
            layers.append(follows)
    if not moved:
        return {**config, "layers": layers}
    layers = [{**x, "inbound_nodes": _renamed(x.get("inbound_nodes") or [], moved)} for x in layers]
    by_name = {x["name"]: x for x in layers}
    for first, follows in added:
        by_name[follows["name"]]["inbound_nodes"] = [
            {"args": [_tensor(first["name"], n)], "kwargs": {}} for n in range(len(first["inbound_nodes"]))
        ]
    ends = {k: _ends(config[k], moved) for k in ("input_layers", "output_layers")}
    return {**config, "layers": layers, **ends}


def _tensor(name: str, call: int) -> Entry:
    config = {"shape": [None], "dtype": "float32", "keras_history": [name, call, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


def _renamed(value: Any, moved: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(v, moved) for v in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__keras_tensor__":
        name, *rest = value["config"]["keras_history"]
        return {**value, "config": {**value["config"], "keras_history": [moved.get(name, name), *rest]}}
    return {k: _renamed(v, moved) for k, v in value.items()}


def _ends(value: Any, moved: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _ends(v, moved) for k, v in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [moved.get(value[0], value[0]), *value[1:]]
    return [_ends(v, moved) for v in value]
