"""The description in a model file, of any generation of Keras, as Keras 3 would write it today."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.errors import FileError
from trainer.keras_files.arrays import layout_of, matched, split, trees
from trainer.keras_files.leaves import Leaf
from trainer.keras_files.models_today import Models
from trainer.keras_files.operations import begins_mask
from trainer.keras_files.reading import Reading, called, in_order
from trainer.keras_files.splitting import split as split_activations
from trainer.keras_files.today import completed
from trainer.keras_files.training import training_today
from trainer.runs.weights_file import ByLayer

if TYPE_CHECKING:
    from trainer.keras_files.opening import Opened

Entry = dict[str, Any]


@dataclass(frozen=True)
class Description:
    """A model in the form in which Keras 3 writes it, and what of the file's text did not come along."""

    architecture: Entry
    "As in Keras 3's `config.json`: module, class_name, config, registered_name."
    training: Entry | None = None
    "What `compile` was given, in the form of a `training_config` of today; None when that is not known."
    notes: tuple[str, ...] = ()
    "What was changed in meaning, or dropped."
    old: bool = False
    "Whether a release before Keras 3 wrote the file."
    theano: bool = False
    "Whether the user says that kernels were made for Theano's convolution, which files of Keras 1 don't."


def current(opened: Opened, shape: Sequence[int | None] | None = None, *, theano: bool = False) -> Description:
    """The description of a file in today's form.

    `shape` is that of a row of the input, for models that were saved before they had seen any. `theano` says that the
    kernels were made for Theano's convolution, which Keras 1 does not say in its files.

    Raises:
        FileError: with everything that can't be read: unknown and custom classes, code, options that nothing has today.
    """
    with in_order("the model's description"):
        return _current(opened, shape, theano)


def _current(opened: Opened, shape: Sequence[int | None] | None, theano: bool) -> Description:
    thing = opened.architecture
    if thing is None:
        hint = "put the architecture's JSON beside the file, or load the weights into a recipe with model.weights"
        raise FileError(f"expected the description of a model, found {opened.kind}", hint=hint)
    old = is_old(opened)
    numbers = tuple(int(n) for n in re.findall(r"\d+", opened.version or "")[:3])
    reading = Reading(old, numbers, "tf" in (opened.version or "") or numbers[:2] >= (2, 4))
    thing = copy.deepcopy(_whole(thing))
    made = _old(thing, opened, reading, shape) if old else _new(thing, reading, shape)
    training = training_today(opened.training, made, reading)
    reading.finish()
    description = Description(split_activations(made), training, (), old, theano)
    if old:
        _gates_by_shape(description, opened)
    return Description(description.architecture, training, reading.notes(), old, theano)


def _whole(thing: Entry) -> Entry:
    """class_name and config, also of a bare `get_config()`."""
    if "class_name" in thing:
        return thing
    kind = "Functional" if "input_layers" in thing else "Sequential"
    return {"class_name": kind, "config": thing}


def is_old(opened: Opened) -> bool:
    """Whether a release before Keras 3 wrote the file; by its style where it names no release."""
    found = re.match(r"\d+", opened.version or "")
    if found:
        return int(found[0]) < 3
    return not _has_style_of_today(opened.architecture)


def _has_style_of_today(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_style_of_today, value))
    if not isinstance(value, dict):
        return False
    if "keras_history" in value or value.get("class_name") == "DTypePolicy":
        return True
    return any(map(_has_style_of_today, value.values()))


def _old(thing: Entry, opened: Opened, reading: Reading, shape: Sequence[int | None] | None) -> Entry:
    weights = opened.weights.layers if isinstance(opened.weights, ByLayer) else ()
    widths = {saved.layer: a.shape[0] for saved in weights for a in saved.arrays if a.ndim == 2}
    models = Models(reading, widths, [saved.layer for saved in weights])
    if thing.get("class_name") not in ("Sequential", "Model", "Functional"):
        reading.unknown(str(thing.get("class_name")), called(thing))
        reading.finish()
    return models.whole(thing, shape)


def _new(thing: Entry, reading: Reading, shape: Sequence[int | None] | None) -> Entry:
    """A description of Keras 3, with the user's shape where a Sequential says none."""
    reading.masks = begins_mask(thing)
    made = completed(thing, reading)
    if made.get("class_name") not in ("Sequential", "Functional"):
        reading.unknown(str(thing.get("class_name")), called(thing))
        return made
    layers = made["config"].get("layers") or []
    if made["class_name"] == "Sequential" and not any(x.get("class_name") == "InputLayer" for x in layers[:1]):
        return _begun(made, layers, reading, shape)
    return made


def _begun(made: Entry, layers: list[Entry], reading: Reading, shape: Sequence[int | None] | None) -> Entry:
    """A chain of Keras 3 that was saved without its InputLayer."""
    from trainer.keras_files.models_today import made_input

    built = made["config"].get("build_input_shape")
    whole = built if built else None if shape is None else [None, *shape]
    if whole is None or not layers:
        hint = "say the shape of a row, such as --shape 28,28: the model was saved before it had seen any data"
        reading.wrong(called(made), "nothing says the shape of the model's input", hint)
        return made
    start = made_input(f"{called(layers[0])}_input", whole, "float32")
    return {**made, "config": {**made["config"], "layers": [start, *layers], "build_input_shape": list(whole)}}


def _gates_by_shape(description: Description, opened: Opened) -> None:
    """Put right what a file leaves out of a GRU: the shape of the bias tells which of the two kinds it is."""
    if not isinstance(opened.weights, ByLayer):
        return
    layout = layout_of(description, opened)
    if layout is None or layout.keras_1:
        return
    for layer, saved in matched(trees(description.architecture), opened.weights):
        if layer is not None and any(leaf.kind in ("GRU", "GRUCell") for leaf in layer.leaves()):
            for leaf, arrays in split(layer, saved, layout):
                _settle_gru(leaf, arrays)


def _settle_gru(leaf: Leaf, arrays: Sequence[Any]) -> None:
    if leaf.kind in ("GRU", "GRUCell") and len(arrays) == 3:
        leaf.config["reset_after"] = arrays[2].ndim == 2 or arrays[2].size == 6 * leaf.config["units"]
