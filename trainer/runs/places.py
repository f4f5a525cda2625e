"""Where Keras 3's `.weights.h5` keeps the weights of a model: places that follow from classes, not from names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.layers.base import Layer
from trainer.naming import snake_case

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.model.cell import Cell
    from trainer.model.network import Network

KERAS_CLASSES = {"GroupQueryAttention": "GroupedQueryAttention", "Model": "Functional"}
"Classes that Keras calls otherwise in its own code."
_LISTS = {"Pipeline": "layers", "Sequential": "layers", "Model": "layers", "StackedRNNCells": "cells"}
"Layers that hold a list of others, and Keras's name for it."
_HEADS = ("query", "key", "gate", "value", "output")
_RENAMED = {
    "TimeDistributed": {"inner": "layer"},
    "MultiHeadAttention": {"attention_output": "output_dense", **{n: f"{n}_dense" for n in _HEADS}},
    "GroupQueryAttention": {"attention_output": "_output_dense", **{n: f"_{n}_dense" for n in _HEADS}},
}


@dataclass(frozen=True)
class Part:
    """What Keras saves as one: a layer's own weights, without those of what it holds."""

    place: str
    layer: str
    "Name of the model's layer that it belongs to; the model's own when it is none of a layer."
    weights: tuple[tuple[str, Tensor], ...]
    "Path and tensor of each weight, in Keras's order."


def parts(network: Network) -> Iterator[Part]:
    """Everything that Keras would save of this model, those without weights too, in Keras's order."""
    cells = [network.cell(name) for name in network.graph.layers]
    yield Part("", network.graph.name, ())
    for name, cell, place in zip(network.graph.layers, cells, numbered(c.layer for c in cells), strict=True):
        yield from _parts(cell, f"layers/{place}", name)


def numbered(layers: Iterable[Layer]) -> Iterator[str]:
    """Names of layers in a list: the class in snake case and a running number, whatever the layers are called."""
    counts: dict[str, int] = {}
    for layer in layers:
        name = type(layer).__name__
        base = snake_case(KERAS_CLASSES.get(name, name))
        number = counts.get(base, 0)
        counts[base] = number + 1
        yield f"{base}_{number}" if number else base


def _parts(cell: Cell, place: str, layer: str) -> Iterator[Part]:
    held: dict[str, list[tuple[str, Tensor]]] = {"": []}
    for spec in sorted(cell.specs, key=lambda spec: not spec.trainable):
        row = ("/".join(p for p in (cell.path, spec.group, spec.name) if p), getattr(cell, spec.name))
        for inside in _places_of(cell.layer, spec.name, spec.group):
            held.setdefault(inside, []).append(row)
    for inside, rows in held.items():
        yield Part(f"{place}/{inside}" if inside else place, layer, tuple(rows))
    for inside, child in _children(cell):
        yield from _parts(child, f"{place}/{inside}", layer)


def _places_of(layer: Layer, name: str, group: str) -> tuple[str, ...]:
    """Where in a layer a weight stands: in itself, in the cell of a recurrent layer, in what is normalized."""
    if type(layer).__name__ != "SpectralNormalization":
        return ("cell",) if group else ("",)
    if not group:
        return ("",)
    # Both hold the kernel.
    return ("", "layer") if name in ("kernel", "embeddings") else ("layer",)


def _children(cell: Cell) -> Iterator[tuple[str, Cell]]:
    kind = type(cell.layer).__name__
    children = {n: c for n, c in cell.named_children() if isinstance(c, type(cell))}
    if kind in _LISTS:
        places = numbered(c.layer for c in children.values())
        yield from ((f"{_LISTS[kind]}/{p}", c) for p, c in zip(places, children.values(), strict=True))
        return
    renamed = _RENAMED.get(kind, {})
    yield from ((renamed.get(name, name), c) for name, c in children.items())
