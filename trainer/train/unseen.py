"""What stands in for the rows of a run that has none of its own, as an imported model: one row of zeros."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainer.errors import RecipeError
from trainer.layers.host import HostLayer
from trainer.recipe.outline import Known, Outline
from trainer.recipe.schema import Recipe
from trainer.shapes import Shape
from trainer.sources.columns import Rows
from trainer.train.rows import Sets

IMPORTED = "imported"
"State of a run whose model came from a file."


def stand_in(recipe: Recipe, outline: Outline) -> Sets:
    """A row of the shapes that the recipe says; sizes that it leaves open are 1.

    Raises:
        RecipeError: it leaves shapes out.
    """
    if outline.graph is None:
        raise RecipeError("the recipe of an imported model must say the shapes of its inputs", path=("model", "inputs"))
    columns: dict[str, Any] = {}
    for (name, known), (tensor, number) in zip(outline.inputs.items(), outline.graph.inputs.items(), strict=True):
        assert name == tensor
        columns |= _input(known, outline.graph.shapes[number])
    goals = recipe.compile.goals(list(outline.graph.outputs))
    for known, goal, shape in zip(outline.targets.values(), goals.values(), outline.graph.output_shapes, strict=True):
        counts = goal.loss is not None and goal.loss.counts
        columns |= _column(known, np.zeros(_row(shape[:-1] if counts else shape), "int64" if counts else "float32"))
    return Sets(Rows(columns))


def _input(known: Known, shape: Shape) -> dict[str, Any]:
    first = known.feature.preprocess[0] if known.feature.preprocess else None
    if not isinstance(first, HostLayer):
        return _column(known, np.zeros(_row(shape), "float32"))
    return _column(known, np.array([""]) if "text" in first.reads else np.zeros(1, "int64"))


def _column(known: Known, values: np.ndarray) -> dict[str, Any]:
    """The values under the field or the columns that a feature reads."""
    if known.feature.columns is None:
        return {known.feature.field or "": values}
    parts = values.reshape(1, -1)
    return {name: parts[:, i % parts.shape[1]] for i, name in enumerate(known.feature.columns)}


def _row(shape: Shape) -> tuple[int, ...]:
    return (1, *(n or 1 for n in shape[1:]))


def open_shapes(outline: Outline) -> dict[str, tuple[int | None, ...]]:
    """The shape of a raw row of each input that goes to the model as it is, None for sizes that are open."""
    assert outline.graph is not None
    graph = outline.graph
    plain = [name for name, known in outline.inputs.items() if not known.feature.preprocess]
    return {name: tuple(graph.shapes[graph.inputs[name]][1:]) for name in plain}
