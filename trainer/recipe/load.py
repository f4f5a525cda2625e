"""From a file to a checked recipe: text, positions, overrides, plugins, schema, checks, in this order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.block import problems_of
from trainer.errors import Problem, RecipeError
from trainer.recipe.bases import AT as BASE
from trainer.recipe.bases import FindRun, Stack, on_base, pinned
from trainer.recipe.check import Checker, outlines
from trainer.recipe.document import Document, load
from trainer.recipe.outline import Outline
from trainer.recipe.parts import Parts
from trainer.recipe.plugins import declared, load_plugins
from trainer.recipe.schema import Recipe
from trainer.recipe.tree import Tree
from trainer.recipe.vocabularies import with_vocabularies


@dataclass(frozen=True)
class Loaded:
    """A recipe with the text that it came from."""

    recipe: Recipe
    document: Document
    outline: Outline
    plugins: dict[str, str]
    "File beside the recipe that a run keeps (plugins, vocabularies) to its sha256."


def load_recipe(
    path: str | Path,
    sets: Sequence[str] = (),
    *,
    allow_plugins: bool = True,
    plugin_folder: Path | None = None,
    find_run: FindRun | None = None,
) -> Loaded:
    """Read and check a recipe file; `find_run` finds the run that the model is based on.

    Raises:
        RecipeError: with every problem of the file, each at its line.
    """
    document = load(path, sets=list(sets))
    folder = plugin_folder or Path(path).parent
    return recipe_of(document, default_name(path), folder, allow_plugins=allow_plugins, find_run=find_run)


def default_name(path: str | Path) -> str:
    """A run name from a file name."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).strip("-._")[:64]
    return stem or "recipe"


def recipe_of(
    document: Document, name: str, folder: Path, *, allow_plugins: bool = True, find_run: FindRun | None = None
) -> Loaded:
    """The checked recipe of a document."""
    value = document.value
    if not isinstance(value, dict):
        message = "expected a mapping with dataset, model, compile and fit"
        raise document.locate(RecipeError(message, hint="`trainer init` writes a first recipe"))
    try:
        plugins = load_plugins(value.get("plugins"), folder, allow_plugins)
    except RecipeError as error:
        raise document.locate(error) from None
    try:
        document = document.expanded()
    except RecipeError as error:
        raise document.locate(RecipeError(*error.problems, *_beside_layers(value))) from None
    try:
        names = value.get("plugins")
        read = partial(_stack, folder=folder, allow_plugins=allow_plugins, names=names)
        tree = on_base(Tree(document.value, document.spots), read, find_run)
    except RecipeError as error:
        raise document.locate(error) from None
    except ValidationError as error:
        problems = [p.at(*BASE) for p in problems_of(error)]
        raise document.locate(RecipeError(*problems)) from None
    tree = pinned(tree, folder, find_run)
    document = replace(document, value=tree.value, spots=tree.spots)
    value = document.value
    try:
        recipe = Recipe.read(value if "name" in value else {"name": name, **value})
    except ValidationError as error:
        checker = Checker(Parts.salvaged(value))
        checker.run()
        raise document.locate(RecipeError(*problems_of(error), *checker.problems)) from None
    try:
        recipe, vocabularies = with_vocabularies(recipe, folder)
        found = outlines(recipe)
    except RecipeError as error:
        raise document.locate(error) from None
    return Loaded(recipe, document, found[0], plugins | vocabularies)


def _beside_layers(value: dict[str, Any]) -> list[Problem]:
    """What else is wrong in a recipe whose blocks, or their uses, are faulty."""
    problems: list[Problem] = []
    model = value["model"]
    try:
        Recipe.read({**value, "model": {**model, "blocks": None, "layers": ["Flatten"]}})
    except ValidationError as error:
        problems = problems_of(error)
    checker = Checker(Parts.salvaged({**value, "model": {**model, "blocks": None, "layers": []}}))
    checker.run()
    return [*problems, *checker.problems]


def _stack(run: Path, folder: Path, allow_plugins: bool, names: Any) -> Stack:
    """The model of a run, beside a recipe with plugins of those names in its folder."""
    found = load_recipe(run / "resolved.yaml", allow_plugins=allow_plugins, plugin_folder=run)
    # A plugin of the run may have taken the place of one of the recipe: that one comes back.
    mine = load_plugins(names, folder, allow_plugins)
    foreign = {
        n: file for file, digest in found.plugins.items() if digest not in mine.values() for n in declared(digest)
    }
    model = found.recipe.model.model_copy(update={"dtype": found.recipe.dtype})
    return Stack(model, tuple(found.outline.inputs), foreign)
