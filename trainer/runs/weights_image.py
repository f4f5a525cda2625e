"""Keras's `.weights.h5` as bytes: a model's weights at the places that Keras 3 looks for them, and its optimizer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.layers.arrays import as_numpy
from trainer.runs.image import Image, Listing
from trainer.runs.places import Part, parts

if TYPE_CHECKING:
    import numpy

    from trainer.model.network import Network


@dataclass(frozen=True)
class Kept:
    """What Keras saves of an object that is none of the model's layers: arrays in its order."""

    place: str
    name: str
    arrays: Sequence[numpy.ndarray]


def weights_bytes(network: Network, more: Sequence[Kept] = ()) -> bytes:
    """The whole of `weights_pieces`."""
    return bytes(weights_pieces(network, more))


def weights_pieces(network: Network, more: Sequence[Kept] = ()) -> Image:
    """The weights of a model, which `load_weights` of the same model in Keras takes; equal content gives equal bytes.

    `more` is what stands beside the layers: the optimizer's state, in a `.keras` archive.
    """
    listing = Listing()
    for part in parts(network):
        _list(listing, part.place, _name(part), [as_numpy(tensor) for _, tensor in part.weights])
    for kept in more:
        _list(listing, kept.place, kept.name, kept.arrays)
    return listing.image()


def _list(listing: Listing, place: str, name: str, arrays: Sequence[numpy.ndarray]) -> None:
    place = f"{place}/vars" if place else "vars"
    listing.group(place)
    listing.words(place, "name", name)
    for number, values in enumerate(arrays):
        listing.array(f"{place}/{number}", values)


def _name(part: Part) -> str:
    """What the object that holds the weights is called, such as `lstm_cell`; where it has none, as its place."""
    if part.place.count("/") < 2:
        return part.layer
    return part.weights[0][0].split("/")[-2] if part.weights else part.place.rpartition("/")[2]
