"""From a file to a checked recipe: text, positions, overrides, plugins, schema, checks, in this order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from trainer.declare import problems_of
from trainer.errors import RecipeError
from trainer.recipe.check import Checker, Outline, Parts
from trainer.recipe.document import Document, load
from trainer.recipe.plugins import load_plugins
from trainer.recipe.schema import Recipe
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
    path: str | Path, sets: Sequence[str] = (), *, allow_plugins: bool = True, plugin_folder: Path | None = None
) -> Loaded:
    """Read and check a recipe file.

    Raises:
        RecipeError: with every problem of the file, each at its line.
    """
    document = load(path, sets=list(sets))
    return recipe_of(document, default_name(path), plugin_folder or Path(path).parent, allow_plugins=allow_plugins)


def default_name(path: str | Path) -> str:
    """A run name from a file name."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).strip("-._")[:64]
    return stem or "recipe"


def recipe_of(document: Document, name: str, folder: Path, *, allow_plugins: bool = True) -> Loaded:
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
        recipe = Recipe.read(value if "name" in value else {"name": name, **value})
    except ValidationError as error:
        checker = Checker(Parts.salvaged(value))
        checker.run()
        raise document.locate(RecipeError(*problems_of(error), *checker.problems)) from None
    try:
        recipe, vocabularies = with_vocabularies(recipe, folder)
        outline = Checker(Parts.of(recipe)).outline()
    except RecipeError as error:
        raise document.locate(error) from None
    return Loaded(recipe, document, outline, plugins | vocabularies)
