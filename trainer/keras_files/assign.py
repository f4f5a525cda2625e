"""The weights of a file put into the network that was made from its description: by the layers' names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import FileError, Problem, RecipeError
from trainer.keras_files.calls import Entry, name_of
from trainer.keras_files.levels import Level
from trainer.keras_files.lines import PLACED
from trainer.layers.base import Layer
from trainer.layers.models import Composite
from trainer.lazy import np
from trainer.naming import snake_case
from trainer.runs.places import KERAS_CLASSES, numbered
from trainer.runs.transfer import Transfer, load_weights_of
from trainer.runs.weights_file import LAYERS, OLD_LAYERS, ByLayer, ByPlace, Saved
from trainer.wording import clean

if TYPE_CHECKING:
    import numpy

    from trainer.model.network import Network

Arrays = dict[str, dict[str, "numpy.ndarray"]]


def put_in(network: Network, weights: ByLayer | ByPlace, level: Level) -> Transfer:
    """Overwrite the network's weights with those of the file that its model came from.

    Raises:
        FileError: they do not fit the description; every misfit at once.
    """
    file = in_order(weights, level, network) if isinstance(weights, ByLayer) else relocated(weights, level, network)
    try:
        return load_weights_of(network, file)
    except RecipeError as error:
        hint = "the weights of the file are those of another model"
        raise FileError(*(Problem(p.message, hint=hint, code="weights") for p in error.problems)) from None


def in_order(weights: ByLayer, level: Level, network: Network) -> ByLayer:
    """The layers of a file under our names and in our order; as they are, where their names are others."""
    saved = {level.called.get(s.layer, ""): s for s in weights.layers}
    wanted = [name for name in network.graph.layers if any(True for _ in network.cell(name).rows())]
    if not set(wanted) <= set(saved):
        return weights
    return ByLayer(tuple(Saved(n, saved[n].names, saved[n].arrays) for n in wanted), weights.top)


def relocated(weights: ByPlace, level: Level, network: Network) -> ByPlace:
    """The arrays of a file at the places that the network's layers have, which may stand in another order."""
    held = {place.replace(OLD_LAYERS, LAYERS): arrays for place, arrays in weights.places.items()}
    made = dict(_moved(held, level, network.graph.layers, "", ""))
    made[""] = held.get("", {})
    return ByPlace(made)


def _moved(
    held: Arrays, level: Level, layers: Mapping[str, Layer], theirs: str, ours: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(our place, its arrays) of everything in a model; `theirs` and `ours` begin the places."""
    there = {level.called.get(name, ""): place for name, place in _places_of(level.given.entries)}
    for (name, layer), place in zip(layers.items(), numbered(layers.values()), strict=True):
        if name not in there:
            continue
        old, new = f"{theirs}{LAYERS}/{there[name]}", f"{ours}{LAYERS}/{place}"
        if isinstance(layer, Composite):
            yield from _moved(held, level.inside[name], layer.wiring().layers, f"{old}/", f"{new}/")
            continue
        for at, arrays in held.items():
            if at == old or at.startswith(f"{old}/"):
                yield new + at[len(old) :], arrays


def _places_of(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """(a layer's name in the file, its place there)."""
    counts: dict[str, int] = {}
    for entry in entries:
        kind = str(entry.get(PLACED) or entry.get("class_name"))
        base = snake_case(KERAS_CLASSES.get(kind, kind))
        number = counts.get(base, 0)
        counts[base] = number + 1
        yield name_of(entry), f"{base}_{number}" if number else base


def not_numbers(weights: ByLayer | ByPlace) -> list[str]:
    """Layers or places whose weights hold what is no number."""
    if isinstance(weights, ByLayer):
        held = ((saved.layer, saved.arrays) for saved in weights.layers)
    else:
        held = ((place, tuple(arrays.values())) for place, arrays in weights.places.items())
    return [clean(name) for name, arrays in held if any(a.dtype.kind == "f" and np.isnan(a).any() for a in arrays)]
