"""Weights in HDF5 files: by layer, as Keras's `.h5` has them (with the model or alone), or by place (`.weights.h5`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import FileError
from trainer.runs.hdf5 import array, opened, texts
from trainer.runs.look import looked_at

if TYPE_CHECKING:
    import h5py
    import numpy

TOP = "top_level_model_weights"
"Group of the weights that belong to a model and to none of its layers."
LAYERS = "layers"
OLD_LAYERS = "_layer_checkpoint_dependencies"
"What TensorFlow 2.12 to 2.14 called `layers`."
VARS = "vars"


@dataclass(frozen=True)
class Saved:
    """The weights of a layer in a file, those that trained first, then the others."""

    layer: str
    names: tuple[str, ...]
    "Such as `model/dense/kernel` or `dense/kernel:0`; empty where they are not known."
    arrays: tuple[numpy.ndarray, ...]


@dataclass(frozen=True)
class ByLayer:
    """Weights of layers that have names, in the order of the model: all of Keras's files that end in `.h5`."""

    layers: tuple[Saved, ...]
    top: Saved | None = None
    "Weights of the model itself."


@dataclass(frozen=True)
class ByPlace:
    """Weights at places that follow from the classes of the layers: Keras 3's `.weights.h5`."""

    places: dict[str, dict[str, numpy.ndarray]]
    "Place, such as `layers/lstm/cell`, to its arrays by number; the model's own at an empty place."

    def at(self, place: str) -> dict[str, numpy.ndarray]:
        """The arrays at a place, by number; none when there is no such place."""
        old = place.replace(LAYERS, OLD_LAYERS)
        return self.places[place] if place in self.places else self.places.get(old, {})


def read_weights(source: bytes | Path, *, stranger: bool = False) -> ByLayer | ByPlace:
    """The weights of an HDF5 file of any of Keras's kinds, told by its content.

    `stranger` has a limited child process go through it first.

    Raises:
        FileError: it holds no weights, is damaged, or holds what is not let in.
    """
    if stranger:
        looked_at(source)
    with opened(source) as file:
        return weights_in(file)


def weights_in(file: h5py.File) -> ByLayer | ByPlace:
    """The weights of an open file.

    Raises:
        FileError: it holds none.
    """
    if "layer_names" not in file.attrs and "model_weights" in file:
        return _by_layer(group_in(file, "model_weights"))
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        return _by_layer(file)
    if any(name in file for name in (LAYERS, OLD_LAYERS, VARS)):
        return ByPlace(dict(_places(file)))
    found = ", ".join(list(file)[:8]) or "nothing"
    raise FileError(f"expected weights (model_weights, layer_names or layers), found {found}")


def group_in(parent: h5py.Group, name: str) -> h5py.Group:
    """The group of that name.

    Raises:
        FileError: there is none, or an array.
    """
    import h5py

    found = parent.get(name)
    if not isinstance(found, h5py.Group):
        raise FileError(f"{parent.name}: expected a group {name}, found {'none' if found is None else 'an array'}")
    return found


def numbers(group: h5py.Group, name: str) -> numpy.ndarray:
    """An array of numbers, in this machine's byte order, the only one that torch reads.

    Raises:
        FileError: it holds something else.
    """
    values = array(group, name)
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise FileError(f"{group.name}/{name}: expected numbers of at most 64 bits, found {values.dtype}")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _by_layer(group: h5py.Group) -> ByLayer:
    layers = tuple(_saved(group, name) for name in texts(group, "layer_names"))
    return ByLayer(layers, _saved(group, TOP) if TOP in group else None)


def _saved(parent: h5py.Group, layer: str) -> Saved:
    group = group_in(parent, layer)
    names = texts(group, "weight_names")
    return Saved(layer, tuple(names), tuple(numbers(group, name) for name in names))


def _places(file: h5py.File) -> Iterator[tuple[str, dict[str, numpy.ndarray]]]:
    import h5py

    if VARS in file:
        yield "", _numbered(group_in(file, VARS))
    waiting = [name for name in (LAYERS, OLD_LAYERS) if name in file]
    while waiting:
        place = waiting.pop()
        group = group_in(file, place)
        for name in group:
            if name == VARS:
                yield place, _numbered(group_in(group, VARS))
            elif isinstance(group[name], h5py.Group):
                waiting.append(f"{place}/{name}")


def _numbered(group: h5py.Group) -> dict[str, numpy.ndarray]:
    return {str(number): numbers(group, str(number)) for number in group}
