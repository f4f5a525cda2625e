"""Model files of every kind, told by their content: opened and read, but not understood yet.

Nothing in a file is executed, imported or downloaded, and no file that it names is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import FileError
from trainer.keras_files.archive import MOST_TEXT, Archive, read_archive
from trainer.keras_files.yaml_text import read_yaml
from trainer.runs.hdf5 import SIGNATURE, Section, described, first_line, opened, text, texts
from trainer.runs.look import Look
from trainer.runs.weights_file import ByLayer, ByPlace, group_in, numbers, weights_in
from trainer.wording import clean

if TYPE_CHECKING:
    import h5py
    import numpy

WHOLE, ARCHIVE = "whole model (HDF5)", "whole model (.keras)"
WEIGHTS, PLACES = "weights (HDF5)", "weights (.weights.h5)"
JSON, YAML = "architecture (JSON)", "architecture (YAML)"
MOST_DEPTH = 200
"Levels of lists and mappings in a description; nested models take about six each."
MOST_OBJECTS = 60_000
"Layers, initializers and the like in a description; a model of a thousand layers has about ten thousand."
OPTIMIZER = "optimizer_weights"
_UNSOUND = re.compile("[\ud800-\udfff]")

Slots = tuple[tuple[str, "numpy.ndarray"], ...]


@dataclass(frozen=True)
class Opened:
    """A model file, read but not understood."""

    kind: str
    """whole model (HDF5), whole model (.keras), weights (HDF5), weights (.weights.h5), architecture (JSON) or
    architecture (YAML)"""
    version: str | None = None
    "Release of Keras that the file names, such as 2.3.1; None when it names none."
    weights_version: str | None = None
    "That of the group of weights; None there is the sign of Keras 1."
    backend: str | None = None
    "tensorflow, theano, torch, …, where the file says it."
    architecture: dict[str, Any] | None = None
    "class_name and config, as the file has them."
    training: dict[str, Any] | None = None
    "What `compile` was given, as the file has it: `training_config` of HDF5, `compile_config` of a zip."
    weights: ByLayer | ByPlace | None = None
    optimizer: Slots | None = None
    "Names and arrays of the optimizer's state, in the file's order."
    assets: Mapping[str, bytes] = field(default_factory=dict)
    "Vocabularies of a .keras file, by path."

    @property
    def has_model(self) -> bool:
        """Whether the file describes a model."""
        return self.architecture is not None


def open_file(path: Path) -> Opened:
    """A model file of any kind, told by its content and never by its name.

    A limited child process goes through HDF5 first. Weights without a model take the description of a file beside
    them that has the same name and ends in .json, .yaml or .yml.

    Raises:
        FileError: it is something else, damaged, or holds what is not let in.
    """
    return Opening(path).opened()


class Opening:
    """A file about to be read: the child's look at it begins at once, and whoever waits may do something else."""

    def __init__(self, path: Path):
        self.path = path
        self.head = _head(path)
        self.archive = read_archive(path) if self.head.startswith(b"PK\x03\x04") else None
        self.source: Path | Section | bytes | None = path if self.head.startswith(SIGNATURE) else None
        if self.archive is not None:
            self.source = self.archive.weights
        self.look = Look(self.source) if self.source is not None else None

    def opened(self) -> Opened:
        """What the file holds.

        Raises:
            FileError: it is no model file, is damaged, or holds what is not let in.
        """
        if self.look is not None:
            self.look.end()
        if self.archive is not None:
            return self._archive(self.archive)
        if self.source is None:
            return _description(self.path, self.head)
        with opened(self.source) as file:
            found = _hdf5(file)
        return found if found.has_model else _with_description(found, self.path)

    def stop(self) -> None:
        """End the child, when the file is not wanted any more."""
        if self.look is not None:
            self.look.stop()

    def _archive(self, archive: Archive) -> Opened:
        described_as = _object(archive.config, f"{self.path}: config.json")
        metadata = _object(archive.metadata, f"{self.path}: metadata.json") if archive.metadata is not None else {}
        weights, optimizer = None, None
        if archive.weights is not None:
            with opened(archive.weights) as file:
                weights, optimizer = weights_in(file), _numbered_slots(file)
        version, training = metadata.get("keras_version"), described_as.get("compile_config")
        said = str(version) if version is not None else None
        return Opened(
            ARCHIVE,
            said,
            said,
            None,
            _architecture(described_as, f"{self.path}: config.json"),
            training if isinstance(training, dict) and training else None,
            weights,
            optimizer,
            archive.assets,
        )


def _head(path: Path) -> bytes:
    try:
        if path.is_dir():
            found, hint = _folder(path)
            raise FileError(f"{path}: expected a model file, found {found}", hint=hint)
        with path.open("rb") as file:
            return file.read(4096)
    except FileNotFoundError:
        raise FileError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None


_SAVED_MODEL = "in TensorFlow with Keras 2: tf.keras.models.load_model(FOLDER).save('model.h5'); then import that"


def _folder(path: Path) -> tuple[str, str]:
    """(what a folder is, what to do)."""
    if (path / "saved_model.pb").is_file():
        return "a SavedModel of TensorFlow (a folder)", _SAVED_MODEL
    if (path / "config.json").is_file() and (path / "model.weights.h5").is_file():
        return "a .keras archive that is not zipped (a folder)", "zip what is in it: zip -0 -r model.keras ."
    if (path / "run.json").is_file():
        return "a run of this program", "a run is used as it is: trainer predict NAME rows.npz"
    return "a folder", _SAVED_MODEL


def _hdf5(file: h5py.File) -> Opened:
    model = text(file, "model_config")
    weights = None if model is not None and "model_weights" not in file else weights_in(file)
    training = text(file, "training_config")
    holder = group_in(file, "model_weights") if "model_weights" in file else file
    return Opened(
        WHOLE if model is not None else PLACES if isinstance(weights, ByPlace) else WEIGHTS,
        text(file, "keras_version") or text(holder, "keras_version"),
        text(holder, "keras_version"),
        text(file, "backend") or text(holder, "backend"),
        None if model is None else _architecture(_object(model, "model_config"), "model_config"),
        None if training is None else _object(training, "training_config"),
        weights,
        _slots(file) if OPTIMIZER in file else _numbered_slots(file),
    )


def _slots(file: h5py.File) -> Slots | None:
    """The optimizer's state as HDF5 files of whole models have it."""
    group = group_in(file, OPTIMIZER)
    if "weight_names" not in group.attrs and "weight_names0" not in group.attrs:
        return None
    return tuple((name, numbers(group, name)) for name in texts(group, "weight_names"))


def _numbered_slots(file: h5py.File) -> Slots | None:
    """The optimizer's state as Keras 3's files of weights have it: `optimizer/vars/0`, and so on."""
    found: list[tuple[str, Any]] = []
    for place in ("optimizer", "optimizer/inner_optimizer"):
        if f"{place}/vars" in file:
            group = group_in(group_in(file, place), "vars")
            inside = f"{place.partition('/')[2]}/vars".lstrip("/")
            found += [(f"{inside}/{n}", numbers(group, n)) for n in sorted(group, key=_as_number)]
    return tuple(found) or None


def _as_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() and len(name) < 10 else (10**10, name)


def _description(path: Path, head: bytes) -> Opened:
    """A description as text.

    Raises:
        FileError: it is no text, or describes no model.
    """
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] in (b"{", b'"'):
        found = _object(_whole(path), str(path))
        return _described(JSON, found, path)
    if any(line.lstrip("- ").startswith(("class_name", "backend", "config")) for line in _lines(start)):
        return _described(YAML, read_yaml(_whole(path), str(path)), path)
    what, hint = described(head) if head else ("an empty file", "copy or download it again")
    hint = hint or "give a model file that Keras wrote: .keras, .h5, .weights.h5 or .json"
    raise FileError(f"{path}: expected a model file, found {what}", hint=hint)


def _lines(head: bytes) -> list[str]:
    try:
        return head.decode("utf-8", "ignore").split("\n") if b"\0" not in head else []
    except ValueError:
        return []


def _whole(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_TEXT + 1)
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror}") from None
    if len(data) > MOST_TEXT:
        raise FileError(f"{path}: expected a description of at most {MOST_TEXT >> 20} MiB, found more")
    return data


def _described(kind: str, found: dict[str, Any], path: Path) -> Opened:
    version, backend = found.get("keras_version"), found.get("backend")
    return Opened(
        kind,
        str(version) if version is not None else None,
        None,
        str(backend) if backend is not None else None,
        _architecture(found, str(path)),
    )


def _with_description(found: Opened, path: Path) -> Opened:
    """Weights with the model that a file beside them describes, where there is one."""
    stem = path.name.removesuffix(".h5").removesuffix(".hdf5").removesuffix(".weights")
    for ending in (".json", ".yaml", ".yml"):
        beside = path.with_name(stem + ending)
        if beside.is_file():
            return described_by(found, open_file(beside))
    return found


def described_by(weights: Opened, model: Opened) -> Opened:
    """Weights of one file under the model of another."""
    versions = {"version": model.version or weights.version, "backend": weights.backend or model.backend}
    return replace(weights, architecture=model.architecture, training=model.training or weights.training, **versions)


def _object(data: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object, also one that was written as JSON once more.

    Raises:
        FileError: it is something else, or nested beyond any model.
    """
    value: Any = data
    for _ in range(2):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise FileError(f"{what}: expected JSON, found {clean(first_line(error))}") from None
        if not isinstance(value, str):
            break
    if not isinstance(value, dict):
        raise FileError(f"{what}: expected a JSON object, found {type(value).__name__}")
    _check_bounds(value, what)
    return value


def _check_bounds(value: Any, what: str) -> None:
    """Refuse a description that is deeper or larger than that of any model, or holds what is no text."""
    level: list[Any] = [value]
    objects = 0
    for _ in range(MOST_DEPTH):
        held = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        keys = [key for outer in level if isinstance(outer, dict) for key in outer]
        if any(isinstance(v, str) and not v.isascii() and _UNSOUND.search(v) for v in (*held, *keys)):
            raise FileError(f"{what}: expected Unicode, found half a pair of surrogates")
        level = [inner for inner in held if isinstance(inner, (dict, list))]
        objects += sum(isinstance(inner, dict) and "class_name" in inner for inner in level)
        if objects > MOST_OBJECTS:
            raise FileError(f"{what}: expected at most {MOST_OBJECTS:,} layers and parts of them, found more")
        if not level:
            return
    raise FileError(f"{what}: expected at most {MOST_DEPTH} levels of lists and mappings, found more")


def _architecture(found: dict[str, Any], what: str) -> dict[str, Any]:
    """class_name and config of a description; the class is told by the config where that stands alone.

    Raises:
        FileError: it describes no model.
    """
    if "class_name" in found and "config" in found:
        return {k: v for k, v in found.items() if k != "compile_config"}
    if "layers" in found:
        return {"class_name": "Functional" if "input_layers" in found else "Sequential", "config": found}
    if "weight_map" in found:
        message = f"{what}: expected a model, found the list of weights that stand in several files"
        raise FileError(message, hint="in Keras, `save_weights` without max_shard_size")
    raise FileError(f"{what}: expected a model (class_name and config), found {', '.join(map(clean, list(found)[:6]))}")
