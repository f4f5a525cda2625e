"""Model files: Keras's whole-model HDF5 with one more group, `trainer`, for what Keras has no place for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainer.errors import FileError
from trainer.layers.arrays import as_numpy
from trainer.runs.hdf5 import array, opened, read_json, text, texts
from trainer.runs.image import Image, Listing, slabs
from trainer.runs.keras_config import KERAS_VERSION, model_config
from trainer.runs.look import looked_at
from trainer.runs.packing import pack, unpack
from trainer.runs.weights_image import weights_bytes as weights_bytes

if TYPE_CHECKING:
    import h5py
    import torch

    from trainer.model.network import Network

TOP = "top_level_model_weights"
ROOM = 1 << 10
"Bytes of which the text of a state takes whole ones, so that files of about the same length have one layout."


@dataclass
class ModelFile:
    """A whole-model HDF5 file, read."""

    config: dict[str, Any]
    "Keras's `model_config`: class_name and config."
    training_config: dict[str, Any] | None
    "Keras's `training_config`; None when the model was not compiled."
    weights: dict[str, list[np.ndarray]]
    "Layer name to its arrays, trainable ones first; layers in model order."
    extra: dict[str, Any] = field(default_factory=dict)
    "What `model_bytes` was given; empty when Keras wrote the file."
    keras_version: str | None = None
    "Release of Keras that the file names."


class Description(NamedTuple):
    """What a file says of a model and its training: the same for as long as this lasts."""

    model: bytes
    training: bytes | None


def described(network: Network, training_config: dict[str, Any] | None) -> Description:
    """Keras's `model_config` and `training_config` as texts."""
    training = None if training_config is None else json.dumps(training_config).encode()
    return Description(json.dumps(model_config(network.graph)).encode(), training)


def model_bytes(network: Network, training_config: dict[str, Any] | None, extra: dict[str, Any] | None) -> bytes:
    """The whole of `model_pieces`."""
    return bytes(model_pieces(network, described(network, training_config), extra))


def model_pieces(network: Network, description: Description, extra: dict[str, Any] | None) -> Image:
    """A Keras whole-model file that real Keras loads, evaluates and trains on; equal content gives equal bytes.

    Its pieces are read from the arrays as they are: they are to stay so until it is written.
    `extra` is a nested dict of plain values and numpy arrays; None leaves the group `trainer` out. There is no
    `optimizer_weights` group: Keras 3.15 loads a file that has one and then fails in `fit`.
    """
    listing = Listing()
    listing.words("", "keras_version", KERAS_VERSION)
    listing.words("", "backend", "torch")
    listing.words("", "model_config", description.model)
    if description.training is not None:
        listing.words("", "training_config", description.training)
    _list_layers(listing, "model_weights", network)
    if extra is not None:
        _list_extra(listing, "trainer", extra)
    return listing.image()


def _list_layers(listing: Listing, place: str, network: Network) -> None:
    names = list(network.graph.layers)
    listing.group(place)
    listing.names(place, "layer_names", names)
    listing.words(place, "backend", b"torch")
    listing.words(place, "keras_version", KERAS_VERSION.encode())
    for name in sorted(names):
        rows = [(f"{network.graph.name}/{path}", tensor) for _, path, tensor, _ in network.cell(name).rows()]
        _list_arrays(listing, f"{place}/{name}", rows)
    if TOP not in names:
        _list_arrays(listing, f"{place}/{TOP}", [])


def _list_arrays(listing: Listing, place: str, rows: Sequence[tuple[str, torch.Tensor]]) -> None:
    listing.group(place)
    listing.names(place, "weight_names", [name for name, _ in rows])
    for name, tensor in rows:
        listing.array(f"{place}/{name}", as_numpy(tensor))


def _list_extra(listing: Listing, place: str, extra: dict[str, Any]) -> None:
    text, arrays = pack(extra)
    words = text.encode()
    words += b" " * (-len(words) % ROOM)
    for values in arrays.values():
        if values.dtype.kind not in "biuf":
            raise TypeError(f"an array of {values.dtype} can't be kept in a model file")
    listing.group(place)
    listing.mark(place, "sha256", _digest(words, arrays).encode())
    # A dataset, since an attribute has a limit that a history of many epochs would reach.
    listing.array(f"{place}/json", np.frombuffer(words, np.uint8))
    listing.group(f"{place}/arrays")
    for number, values in arrays.items():
        listing.array(f"{place}/arrays/{number}", values)


def _digest(words: bytes, arrays: Mapping[str, np.ndarray]) -> str:
    """Digest of the state, so that a damaged number in it is found before a run goes on from it."""
    made = hashlib.sha256(words)
    for number, values in sorted(arrays.items()):
        made.update(f"\n{number} {values.dtype.str} {values.shape}\n".encode())
        for piece in slabs(values):
            made.update(piece)
    return made.hexdigest()


def read_model(source: bytes | Path, *, stranger: bool = False) -> ModelFile:
    """A whole-model HDF5 file. `stranger` has a limited child process go through it first.

    Raises:
        FileError: it is something else, damaged, or holds what is not let in.
    """
    if stranger:
        looked_at(source)
    with opened(source) as file:
        config = text(file, "model_config")
        if config is None:
            raise FileError(*_no_model(file))
        training = text(file, "training_config")
        return ModelFile(
            read_json(config, "model_config"),
            None if training is None else read_json(training, "training_config"),
            _read_layers(_group(file, "model_weights")),
            _read_extra(_group(file, "trainer")) if "trainer" in file else {},
            text(file, "keras_version"),
        )


def _no_model(file: h5py.File) -> tuple[str]:
    weights = "layer_names" in file.attrs or "layer_names0" in file.attrs or "layers" in file or "vars" in file
    found = "weights without a model" if weights else f"neither; it holds: {', '.join(list(file)[:8]) or 'nothing'}"
    return (f"expected a whole model (the attribute model_config), found {found}",)


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    import h5py

    found = parent.get(name)
    if not isinstance(found, h5py.Group):
        raise FileError(f"{parent.name}: expected a group {name}, found {'none' if found is None else 'an array'}")
    return found


def _read_layers(group: h5py.Group) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for name in texts(group, "layer_names"):
        layer = _group(group, name)
        found[name] = [_weight(layer, weight) for weight in texts(layer, "weight_names")]
    return found


def _weight(layer: h5py.Group, name: str) -> np.ndarray:
    values = array(layer, name)
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise FileError(f"{layer.name}/{name}: expected numbers of at most 64 bits, found {values.dtype}")
    # torch reads this machine's byte order only.
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _read_extra(group: h5py.Group) -> dict[str, Any]:
    words = array(group, "json")
    numbered = _group(group, "arrays")
    arrays = {str(number): array(numbered, str(number)) for number in numbered}
    if text(group, "sha256") != _digest(words.tobytes(), arrays):
        raise FileError(
            f"{group.name}: the state of the training was changed after it was written (the sha256 differs)",
            hint="copy the file again; the weights alone can still be read by Keras",
        )
    value = unpack(words.tobytes().decode(), arrays)
    if not isinstance(value, dict):
        raise FileError(f"{group.name}: expected a mapping, found {type(value).__name__}")
    return value
