"""What a recipe's inputs and targets read, and the shapes that they have before and after preprocessing; no data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer.errors import Path, Problem, RecipeError, nearest
from trainer.layers.base import Layer
from trainer.layers.host import HostLayer, Learner
from trainer.layers.misfit import Misfit
from trainer.layers.plan import Plan
from trainer.recipe.dataset import Dataset, Feature
from trainer.shapes import Shape
from trainer.sources.columns import Field

Features = dict[str, Feature]


def default_features(dataset: Dataset, fields: dict[str, Field] | None) -> tuple[Features, Features]:
    """The inputs and targets, with the short forms written out.

    By default the last field of the source is the target, and the only other one the input.

    Raises:
        RecipeError: the recipe leaves open which fields they are.
    """
    inputs, targets = dataset.inputs, dataset.targets
    names = list(fields or {})
    if targets is None:
        if dataset.target is not None:
            targets = {_label(dataset.target, "target"): _named(dataset.target, names)}
        elif len(names) == 2:
            targets = {names[1]: Feature(field=names[1])}
    if inputs is None:
        if dataset.columns is not None:
            inputs = {_label(dataset.columns, "input"): Feature(columns=dataset.columns, preprocess=dataset.preprocess)}
        elif len(names) == 2:
            inputs = {names[0]: Feature(field=names[0], preprocess=dataset.preprocess)}
    missing = [w for w, found in (("inputs", inputs), ("targets", targets)) if found is None]
    if missing or inputs is None or targets is None:
        short = {"inputs": "columns: 0-7", "targets": "target: 8"}
        problems = []
        for word in missing:
            hint = f"add {word}, or the short form `{short[word]}`"
            problems.append(Problem(f"the dataset does not say its {word}", ("dataset",), hint, "missing"))
        raise RecipeError(*problems)
    return _filled(inputs), _filled(targets)


def _label(columns: tuple[str, ...], otherwise: str) -> str:
    return columns[0] if len(columns) == 1 and columns[0][0].isalpha() else otherwise


def _named(columns: tuple[str, ...], names: list[str]) -> Feature:
    if len(columns) == 1 and columns[0] in names:
        return Feature(field=columns[0])
    return Feature(columns=columns)


def _filled(features: dict[str, Feature]) -> dict[str, Feature]:
    return {
        name: f if f.field is not None or f.columns is not None else f.model_copy(update={"field": name})
        for name, f in features.items()
    }


def raw_shape(feature: Feature, fields: dict[str, Field] | None, *, target: bool) -> tuple[Shape | None, Field | None]:
    """(shape with the batch first, the field), None where nothing is known; an input has at least two axes (Keras).

    Raises:
        ValueError: the source has no such field.
    """
    if feature.columns is not None:
        width = len(feature.columns)
        known = [f for f in (fields or {}) if f in feature.columns]
        if fields is not None and len(known) < width:
            name = next(c for c in feature.columns if c not in fields)
            _by_number(feature.columns, fields)
            raise ValueError(_unknown("column", name, fields))
        if target and width == 1:
            return (None,), (fields or {}).get(feature.columns[0])
        return (None, width), None
    if fields is None:
        return None, None
    name = feature.field or ""
    if name not in fields:
        raise ValueError(_unknown("field", name, fields))
    field = fields[name]
    shape = (None, *field.shape)
    return (shape if target or len(shape) > 1 else (None, 1)), field


def _by_number(columns: Sequence[str], fields: dict[str, Field]) -> None:
    """Say so where columns that have names are asked for by number.

    Raises:
        ValueError: the columns have names.
    """
    names = list(fields)
    if all(map(str.isdecimal, columns)) and not any(map(str.isdecimal, names)):
        meant = [names[int(c)] for c in columns if int(c) < len(names)]
        written = f"write {meant[0] if len(meant) == 1 else f'[{_some(meant)}]'}"
        hint = written if len(meant) == len(columns) else f"there are {len(names)}: {_some(names)}"
        raise Misfit("the columns of this source have names, and no numbers", hint)


def _unknown(what: str, name: str, fields: Iterable[str]) -> str:
    return f'the source has no {what} "{name}"; {nearest(name, fields) or f"it has {_some(fields)}"}'


def _some(fields: Iterable[str]) -> str:
    names = list(fields)
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def column_path(dataset: Dataset, word: str, name: str, feature: Feature) -> Path:
    """Where the recipe names what a feature reads."""
    path = feature_path(dataset, word, name)
    if len(path) == 1:
        return (*path, "columns" if word == "inputs" else "target")
    return (*path, "columns" if feature.columns is not None else "field")


def through(layers: tuple[Layer, ...], shape: Shape, path: Path) -> Shape | None:
    """The shape after preprocessing; None when it depends on what a step learns from the training rows.

    Raises:
        RecipeError: a step can't take what reaches it, or is no preprocessing step.
    """
    check_steps(layers, path)
    for index, layer in enumerate(layers):
        try:
            shape = layer.build(Plan(), shape)
        except ValueError as error:
            raise RecipeError(str(error), path=(*path, index, type(layer).__name__), code="shape") from None
        if isinstance(layer, Learner) and layer.is_open() and shape[-1:] == (None,) and len(shape) > 1:
            return None
    return shape


def at_each_step(layers: tuple[Layer, ...]) -> int:
    """Where the preprocessing begins that each batch goes through: at the first step that draws random numbers."""
    return next((index for index, layer in enumerate(layers) if layer.draws), len(layers))


def check_steps(layers: tuple[Layer, ...], path: Path) -> None:
    """Refuse layers that are no preprocessing steps, and texts that reach a step which reads numbers.

    Raises:
        RecipeError: names the step.
    """
    before: Layer | None = None
    drawn = at_each_step(layers)
    for index, layer in enumerate(layers):
        here, name = (*path, index, type(layer).__name__), type(layer).__name__
        if index > drawn and (layer.fitted or isinstance(layer, (HostLayer, Learner))):
            first = type(layers[drawn]).__name__
            message = f"{name} works on rows once, before training, and {first} before it on each batch anew"
            raise RecipeError(message, path=here, hint=f"put {first} behind it", code="preprocess")
        if not layer.preprocessing:
            hint = "put it under model.layers; `trainer list layers` marks the preprocessing ones"
            raise RecipeError(f"{name} is a layer of the model, not a preprocessing step", path=here, hint=hint)
        texts = isinstance(before, HostLayer) and before.makes_text()
        reads = layer.reads if isinstance(layer, HostLayer) else ("integer",)
        if before is not None and ("text" if texts else "integer") not in reads and not getattr(layer, "invert", False):
            made, wanted = ("texts", "numbers") if texts else ("numbers", "texts")
            message = f"{name} reads {wanted}, but {type(before).__name__} before it makes {made}"
            raise RecipeError(message, path=here, code="text")
        before = layer
    if isinstance(before, HostLayer) and before.makes_text():
        message = f"{type(before).__name__} makes texts, but the model reads numbers"
        raise RecipeError(message, path=(*path, len(layers) - 1, type(before).__name__), code="text")


def before_the_model(layers: Sequence[object]) -> list[Problem]:
    """What stands in a model and works only before it: steps that read texts, or that learn from the training rows."""
    problems = []
    for index, layer in enumerate(layers):
        if isinstance(layer, HostLayer):
            message = f"{type(layer).__name__} works before the model, on the rows as they are read"
        elif isinstance(layer, Learner) and layer.is_open():
            message = f"{type(layer).__name__} can't learn {layer.learns[0]} inside the model"
        else:
            continue
        hint = "put it under the preprocess of an input: inputs: {x: {preprocess: [" + type(layer).__name__ + "]}}"
        problems.append(Problem(message, ("model", "layers", index, type(layer).__name__), hint, "preprocess"))
    return problems


def feature_path(dataset: Dataset, word: str, name: str) -> Path:
    """Where a feature stands in the recipe: under its name, or in the short form."""
    long = dataset.inputs if word == "inputs" else dataset.targets
    return ("dataset", word, name) if long is not None else ("dataset",)
