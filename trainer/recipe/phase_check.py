"""What only the phases of a recipe show, and where the problems of one of them stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trainer.errors import Problem
from trainer.layers.base import Layer
from trainer.recipe.outline import Outline
from trainer.recipe.schema import Recipe


def of_all(recipe: Recipe, found: Sequence[Sequence[Problem]]) -> Iterator[Problem]:
    """The problems of all stages; one that only some phases have, and that none of them says itself, names them."""
    for number, problems in enumerate(found):
        for problem in problems:
            moved = in_phase(recipe, number, problem)
            if moved == problem and any(problem not in others for others in found):
                moved = replace(moved, message=f"{moved.message} (in phase {number + 1})")
            yield moved


def nothing_to_train(stage: Recipe, outline: Outline | None) -> list[Problem]:
    """A model with weights that are all frozen, unless it is there to be used as it was trained elsewhere."""
    if stage.model.weights is not None and stage.model.frozen is None:
        return []
    sizes = list(outline.graph.sizes()) if outline is not None and outline.graph is not None else []
    if any(moving for *_, moving, _ in sizes) or not any(still for *_, still in sizes):
        return []
    at = ("model", "layers") if stage.model.frozen is None else ("model", "frozen")
    return [Problem("no layer has weights to train: all of them are frozen", at)]


def sizes_of_states(stages: list[Recipe]) -> list[Problem]:
    """Phases whose batches do not fit the states that a stateful layer keeps."""
    first = stages[0].fit.batch_size
    if not any(_stateful(layer) for layer in stages[0].model.held()):
        return []
    message = f"a stateful layer keeps a state for each of the {first} rows of a batch, found {{}} in this phase"
    return [
        Problem(
            message.format(stage.fit.batch_size), ("phases", number, "fit", "batch_size"), "give all phases one size"
        )
        for number, stage in enumerate(stages)
        if stage.fit.batch_size != first
    ]


def _stateful(layer: Layer) -> bool:
    return bool(getattr(layer, "stateful", False)) or any(map(_stateful, layer.held()))


def in_phase(recipe: Recipe, number: int, problem: Problem) -> Problem:
    """A problem with its place under `phases`, where that is what the phase says."""
    if not recipe.phases:
        return problem
    phase, path = recipe.phases[number], problem.path
    if path[:2] == ("model", "frozen") and phase.frozen is not None:
        return replace(problem, path=("phases", number, *path[1:]))
    word, option = [*map(str, path), "", ""][:2]
    block = {"compile": phase.compile, "fit": phase.fit}.get(word)
    said = getattr(block, option, None) is not None
    if said or (path[:1] == ("callbacks",) and phase.callbacks is not None):
        return replace(problem, path=("phases", number, *path))
    return problem
