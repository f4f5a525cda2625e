"""The description of a model, in the form of Keras 3.15, as a recipe: names kept, defaults left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainer.errors import FileError, RecipeError
from trainer.keras_files.compiled import Compiled, compiled
from trainer.keras_files.levels import COMPOSITES, Layers, Level
from trainer.keras_files.lines import Input, Mapped
from trainer.keras_files.values import brief, dtype_of
from trainer.layers.host import HostLayer
from trainer.layers.wiring import PART
from trainer.recipe.features import through
from trainer.wording import clean

MOST_WORDS = 40
"A longer vocabulary stands in a file beside the recipe."


class Describes(Protocol):
    """What `current` makes of an opened file."""

    @property
    def architecture(self) -> dict[str, Any]: ...
    @property
    def training(self) -> dict[str, Any] | None: ...
    @property
    def old(self) -> bool: ...


@dataclass
class Translation:
    """A recipe with what is to be known of how it came about."""

    recipe: dict[str, Any]
    rows: list[Mapped]
    compiled: Compiled
    level: Level
    files: dict[str, bytes] = field(default_factory=dict)
    "Vocabularies, which stand beside the recipe."

    @property
    def notes(self) -> list[str]:
        """What was changed or left out."""
        return [*self.level.notes, *self.compiled.notes]


def recipe_of(description: Describes, name: str) -> dict[str, Any]:
    """A recipe of a description: model, compile, and a dataset to be filled in.

    Raises:
        FileError: with every class that is unknown, and every option that can't be.
    """
    return translated(description, name).recipe


def translated(
    description: Describes,
    name: str,
    assets: Mapping[str, bytes] | None = None,
    shape: Sequence[int | None] | None = None,
) -> Translation:
    """A recipe of a description, with the table of what was mapped.

    `assets` are the vocabularies of a .keras file; `shape` that of one row, for a model that does not say it.

    Raises:
        FileError: with every class that is unknown, and every option that can't be.
    """
    top = description.architecture
    if top.get("class_name") not in COMPOSITES or not isinstance(top.get("config"), dict):
        hint = "in Keras, make a Sequential or functional model of the same layers, give it the weights, and save it"
        found = clean(str(top.get("class_name"))[:60])
        raise FileError(f"expected a Sequential or a functional model, found {found}", hint=hint, code="unknown-class")
    dtype = common_dtype(top)
    reader = Layers(dtype, assets, old=description.old)
    try:
        level = Level(reader, top, shape=shape)
    except FileError:
        reader.stop()
        raise
    reader.stop()
    makers = [level.layers.get(o.partition(PART)[0]) for o in level.outputs]
    made = compiled(description.training, level.outputs, level.output_keys, makers)
    return _translation(name, level, made)


def _translation(name: str, level: Level, made: Compiled) -> Translation:
    """The blocks of the recipe put together."""
    files: dict[str, bytes] = {}
    inputs = {i.name: _feature(i, files) for i in level.inputs}
    model: dict[str, Any] = {"inputs": {i.name: list(_reaching(i)[1:]) for i in level.inputs}, "layers": level.lines}
    if level.said_outputs():
        model["outputs"] = level.outputs
    if level.reader.dtype is not None:
        model["dtype"] = level.reader.dtype
    dataset = {
        "source": {"npz": {"path": f"{name}-rows.npz"}},
        "inputs": inputs,
        "targets": {n.replace(PART, "_"): {} for n in level.outputs},
    }
    fit: dict[str, Any] = {"epochs": 10, "batch_size": level.batch_size or 32}
    if level.reader.stateful:
        fit["shuffle"] = False
    recipe = {"name": name, "dataset": dataset, "model": model, "compile": made.block, "fit": fit}
    return Translation(recipe, level.reader.rows, made, level, files)


def _feature(found: Input, files: dict[str, bytes]) -> dict[str, Any]:
    """What the dataset says of an input."""
    made: dict[str, Any] = {"field": found.reads} if found.name != found.reads else {}
    if found.steps:
        made["preprocess"] = [_step(step, f"{found.name}-words-{i}.txt", files) for i, step in enumerate(found.steps)]
    return made


def _step(step: HostLayer, file: str, files: dict[str, bytes]) -> Any:
    """A step before the model; its vocabulary in a file of its own when it is long."""
    words = getattr(step, "vocabulary", None)
    if not isinstance(words, tuple) or len(words) <= MOST_WORDS or any("\n" in str(w) or "\r" in str(w) for w in words):
        return brief(step)
    files[file] = "\n".join(map(str, words)).encode(getattr(step, "encoding", "utf-8"), "replace") + b"\n"
    ((kind, options),) = brief(step).items()
    return {kind: {**options, "vocabulary": file}}


def _reaching(found: Input) -> tuple[int | None, ...]:
    """The shape of an input as it reaches the model."""
    raw = found.shape if len(found.shape) > 1 else (None, 1)
    if not found.steps:
        return raw
    try:
        made = through(tuple(found.steps), raw, ())
    except RecipeError as error:
        raise FileError(f"{clean(found.reads)}: {error.problems[0].message}") from None
    if made is None:
        message = f"the step {type(found.steps[-1]).__name__} of the input {clean(found.reads)} has no vocabulary"
        raise FileError(message, hint="save the model as .keras, which keeps it")
    return made


def common_dtype(top: Mapping[str, Any]) -> str | None:
    """The number type that all layers say, where that is another than float32."""
    found = set(_dtypes(top, 0))
    return next(iter(found)) if len(found) == 1 else None


def _dtypes(model: Mapping[str, Any], depth: int) -> Iterator[str | None]:
    config = model.get("config")
    for entry in (config.get("layers") or ()) if isinstance(config, dict) and depth < 20 else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict):
            continue
        if entry.get("class_name") in COMPOSITES:
            yield from _dtypes(entry, depth + 1)
        elif entry.get("class_name") != "InputLayer":
            yield dtype_of(entry["config"].get("dtype"))
