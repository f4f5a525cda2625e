"""Layers that read raw rows on the host, and the vocabularies that stand beside the weights in a .keras file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.keras_files.calls import Entry
from trainer.keras_files.values import Unknown, class_of
from trainer.layers.base import Layer
from trainer.layers.host import HostLayer
from trainer.naming import snake_case


def with_vocabulary(entry: Entry, entries: Sequence[Entry], assets: Mapping[str, bytes]) -> Entry:
    """A layer's entry with its vocabulary from the file's assets; `entries` are all layers beside it."""
    if entry["config"].get("vocabulary") is not None or not assets:
        return entry
    kinds = [snake_case(str(e.get("class_name"))) for e in entries]
    index = next(i for i, e in enumerate(entries) if e is entry)
    number = kinds[:index].count(kinds[index])
    place = f"assets/layers/{kinds[index]}{f'_{number}' if number else ''}/"
    found = next((v for n, v in assets.items() if n.startswith(place) and n.endswith(".txt")), None)
    if found is None:
        return entry
    words: list[Any] = found.decode("utf-8", "replace").split("\n")
    if entry["class_name"] == "IntegerLookup":
        words = [int(w) for w in words if w.lstrip("-").isdecimal() and len(w) < 20]
    return {**entry, "config": {**entry["config"], "vocabulary": words}}


def host_class(entry: Entry) -> str | None:
    """Our class of a layer that reads raw rows on the host; None for all others."""
    try:
        found = class_of(Layer, entry)
    except Unknown:
        return None
    return found.__name__ if issubclass(found, HostLayer) else None
