"""Keras's `.weights.h5` as bytes: a model's weights at the places that Keras 3 looks for them, and its optimizer's."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.layers.arrays import as_numpy
from trainer.runs.places import Part, parts

if TYPE_CHECKING:
    import h5py
    import numpy

    from trainer.model.network import Network


@dataclass(frozen=True)
class Kept:
    """What Keras saves of an object that is none of the model's layers: arrays in its order."""

    place: str
    name: str
    arrays: Sequence[numpy.ndarray]


def weights_bytes(network: Network, more: Sequence[Kept] = ()) -> bytes:
    """The weights of a model, which `load_weights` of the same model in Keras takes; equal content gives equal bytes.

    `more` is what stands beside the layers: the optimizer's state, in a `.keras` archive.
    """
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        for part in parts(network):
            _write(file, part.place, _name(part), [as_numpy(tensor) for _, tensor in part.weights])
        for kept in more:
            _write(file, kept.place, kept.name, kept.arrays)
    return image.getvalue()


def _write(file: h5py.File, place: str, name: str, arrays: Sequence[numpy.ndarray]) -> None:
    group = file.create_group(f"{place}/vars" if place else "vars")
    group.attrs["name"] = name
    for number, values in enumerate(arrays):
        group.create_dataset(str(number), data=values)


def _name(part: Part) -> str:
    """What the object that holds the weights is called, such as `lstm_cell`; where it has none, as its place."""
    if part.place.count("/") < 2:
        return part.layer
    return part.weights[0][0].split("/")[-2] if part.weights else part.place.rpartition("/")[2]
