"""Whether a run is still the one that began: its recipe, its plugins, its data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.declare import plain
from trainer.errors import RunError
from trainer.recipe.schema import Recipe
from trainer.runs.directory import RunDirectory
from trainer.sources.columns import Table


def source_folder(directory: RunDirectory) -> Path:
    """Where the recipe stood, from which relative paths of its data go."""
    return Path(directory.record().get("folder", directory.path))


def is_written(directory: RunDirectory) -> bool:
    """Whether a run keeps its recipe and plugins: it may have been killed before the last of these, the recipe with
    every value, was written."""
    return (directory.path / "resolved.yaml").exists()


def recipe_digest(directory: RunDirectory) -> str:
    """The sha256 of the recipe that a run keeps."""
    return digest_of((directory.path / "resolved.yaml").read_bytes())


def digest_of(recipe: bytes) -> str:
    """The sha256 of a recipe with every value written out."""
    return hashlib.sha256(recipe).hexdigest()


def check_recipe(directory: RunDirectory, record: Mapping[str, Any], allow_change: bool) -> None:
    """Refuse a run whose recipe or plugins were edited since it began.

    Raises:
        RunError: names what was changed.
    """
    # One that is missing was never written.
    edited = is_written(directory) and record.get("recipe") not in (None, recipe_digest(directory))
    changed = ["resolved.yaml"] if edited else []
    for name, digest in record.get("plugins", {}).items():
        path = directory.path / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            changed.append(name)
    if changed and not allow_change:
        hint = "put it back, or `--allow-change` goes on all the same; the numbers will then differ"
        raise RunError(f"the run can't go on exactly: changed are {', '.join(changed)}", hint=hint)


def check_data(record: Mapping[str, Any], table: Table) -> list[str]:
    """Data files that are no longer those of the run."""
    return [f"data file {n}" for n, d in record.get("data", {}).items() if table.digests.get(n) != d]


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a plain value with every default written out; it reads back to the same recipe."""
    return plain(recipe)
