"""Vocabulary files that a recipe's preprocessing names: read when the recipe is, and kept with the run like plugins."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from trainer.block import problems_of
from trainer.errors import Path as RecipePath
from trainer.errors import Problem, RecipeError
from trainer.layers.base import Layer
from trainer.layers.host import HostLayer
from trainer.layers.vocabulary import read_file
from trainer.recipe.schema import Recipe


def with_vocabularies(recipe: Recipe, folder: Path) -> tuple[Recipe, dict[str, str]]:
    """The recipe with its vocabulary files read, and the sha256 of each.

    Raises:
        RecipeError: a file is not there, or holds no such vocabulary; the path names the option.
    """
    reading = _Reading(folder)
    dataset = recipe.dataset
    changes: dict[str, Any] = {"preprocess": reading.layers(dataset.preprocess, ("dataset", "preprocess"))}
    for word in ("inputs", "targets"):
        features = getattr(dataset, word)
        if features is not None:
            changes[word] = {
                name: f.model_copy(
                    update={"preprocess": reading.layers(f.preprocess, ("dataset", word, name, "preprocess"))}
                )
                for name, f in features.items()
            }
    if reading.problems:
        raise RecipeError(*reading.problems)
    if not reading.digests:
        return recipe, {}
    return recipe.model_copy(update={"dataset": dataset.model_copy(update=changes)}), reading.digests


class _Reading:
    def __init__(self, folder: Path):
        self.folder = folder
        self.problems: list[Problem] = []
        self.digests: dict[str, str] = {}

    def layers(self, layers: tuple[Layer, ...], path: RecipePath) -> tuple[Layer, ...]:
        """The layers, those that name a file with its tokens."""
        return tuple(self._layer(layer, (*path, i, type(layer).__name__)) for i, layer in enumerate(layers))

    def _layer(self, layer: Layer, path: RecipePath) -> Layer:
        name = layer.unread() if isinstance(layer, HostLayer) else None
        if name is None or not isinstance(layer, HostLayer):
            return layer
        here = (*path, "vocabulary")
        try:
            return layer.with_tokens(self._tokens(name, getattr(layer, "encoding", "utf-8")))
        except ValidationError as error:
            self.problems += [p.at(*path) for p in problems_of(error)]
        except ValueError as error:
            self.problems.append(Problem(f"{name}: {error}", here, code="vocabulary"))
        except RecipeError as error:
            self.problems += [p.at(*here) for p in error.problems]
        return layer

    def _tokens(self, name: str, encoding: str) -> tuple[str, ...]:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise ValueError("expected a file beside the recipe or in a folder there")
        path = self.folder / name
        tokens = read_file(path, encoding)
        self.digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if not tokens:
            raise ValueError("the file is empty")
        return tokens
