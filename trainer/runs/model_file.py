"""Model files: Keras's whole-model HDF5 with one more group, `trainer`, for what Keras has no place for."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.errors import FileError
from trainer.layers.arrays import as_numpy
from trainer.runs.hdf5 import array, opened, read_json, text, texts
from trainer.runs.keras_config import KERAS_VERSION, model_config
from trainer.runs.look import looked_at
from trainer.runs.packing import pack, unpack
from trainer.runs.weights_image import weights_bytes as weights_bytes

if TYPE_CHECKING:
    import h5py
    import torch

    from trainer.model.network import Network

HEADER_LIMIT = 64_512
"Bytes that an attribute may take; longer lists of names are cut into numbered ones."


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


def model_bytes(network: Network, training_config: dict[str, Any] | None, extra: dict[str, Any] | None) -> bytes:
    """A Keras whole-model file that real Keras loads, evaluates and trains on; equal content gives equal bytes.

    `extra` is a nested dict of plain values and numpy arrays; None leaves the group `trainer` out. There is no
    `optimizer_weights` group: Keras 3.15 loads a file that has one and then fails in `fit`.
    """
    import h5py

    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.attrs["keras_version"] = KERAS_VERSION
        file.attrs["backend"] = "torch"
        file.attrs["model_config"] = json.dumps(model_config(network.graph)).encode()
        if training_config is not None:
            file.attrs["training_config"] = json.dumps(training_config).encode()
        _write_layers(file.create_group("model_weights"), network)
        if extra is not None:
            _write_extra(file.create_group("trainer"), extra)
    return image.getvalue()


def _write_layers(group: h5py.Group, network: Network) -> None:
    names = list(network.graph.layers)
    write_texts(group, "layer_names", names)
    group.attrs["backend"] = b"torch"
    group.attrs["keras_version"] = KERAS_VERSION.encode()
    for name in sorted(names):
        rows = [(f"{network.graph.name}/{path}", tensor) for _, path, tensor, _ in network.cell(name).rows()]
        _write_arrays(group.create_group(name), rows)
    if "top_level_model_weights" not in group:
        _write_arrays(group.create_group("top_level_model_weights"), [])


def _write_arrays(group: h5py.Group, rows: Sequence[tuple[str, torch.Tensor]]) -> None:
    write_texts(group, "weight_names", [name for name, _ in rows])
    for name, tensor in rows:
        group.create_dataset(name, data=_values(tensor))


def _values(tensor: torch.Tensor) -> np.ndarray:
    return as_numpy(tensor)


def write_texts(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    """A list of names as an attribute, or as `name0`, `name1`, … when one object header can't hold it."""
    encoded = [v.encode() for v in values]
    longest = max(map(len, encoded), default=0)
    if len(encoded) * longest <= HEADER_LIMIT:
        group.attrs[name] = encoded
        return
    count = 1
    chunks = [np.asarray(encoded)]
    while any(chunk.nbytes > HEADER_LIMIT for chunk in chunks):
        count += 1
        chunks = np.array_split(np.asarray(encoded), count)
    for number, chunk in enumerate(chunks):
        group.attrs[f"{name}{number}"] = chunk


def _write_extra(group: h5py.Group, extra: dict[str, Any]) -> None:
    words, arrays = pack(extra)
    group.attrs["sha256"] = _digest(words.encode(), arrays)
    # A dataset, since an attribute has a limit that a history of many epochs would reach.
    group.create_dataset("json", data=np.frombuffer(words.encode(), np.uint8))
    numbered = group.create_group("arrays")
    for number, values in arrays.items():
        if values.dtype.kind not in "biuf":
            raise TypeError(f"an array of {values.dtype} can't be kept in a model file")
        numbered.create_dataset(number, data=values)


def _digest(words: bytes, arrays: Mapping[str, np.ndarray]) -> str:
    """Digest of the state, so that a damaged number in it is found before a run goes on from it."""
    made = hashlib.sha256(words)
    for number, values in sorted(arrays.items()):
        made.update(f"\n{number} {values.dtype.str} {values.shape}\n".encode())
        made.update(np.ascontiguousarray(values).data)
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
