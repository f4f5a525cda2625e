"""Checks across a whole recipe: shapes layer by layer, loss against last layer and target, names that are watched.

Needs neither torch nor the data: what a source declares of its fields is enough. The `Outline` that comes out is made
again, with the real fields, when the data have been opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainer.callbacks.base import Callback, better
from trainer.errors import Problem, RecipeError, nearest
from trainer.layers.base import Layer
from trainer.layers.graph import Graph, grown
from trainer.layers.lines import Again
from trainer.layers.wiring import Wiring, wire
from trainer.model.freezing import frozen
from trainer.recipe.agreement import disagreements
from trainer.recipe.compile import logged
from trainer.recipe.dataset import Dataset, Feature
from trainer.recipe.features import (
    at_each_step,
    before_the_model,
    column_path,
    default_features,
    feature_path,
    raw_shape,
    through,
)
from trainer.recipe.model import Model
from trainer.recipe.outline import Known, Outline
from trainer.recipe.output_check import OutputCheck
from trainer.recipe.parts import Parts
from trainer.recipe.schema import Recipe
from trainer.schedules.base import ConstantRate
from trainer.shapes import Shape, clash
from trainer.sources.columns import Field


def outlines(recipe: Recipe, fields: dict[str, Field] | None = None) -> list[Outline]:
    """The outline of each stage of a recipe: of its phases, or of the one that a recipe without phases is.

    Raises:
        RecipeError: with every problem found.
    """
    made: list[Outline | None] = []
    stages = recipe.stages()
    checkers = [Checker(replace(Parts.of(stage), expect={}), fields) for stage in stages]
    for stage, checker in zip(stages, checkers, strict=True):
        made.append(checker.run())
        checker.problems += _nothing_to_train(stage, made[-1])
    problems = dict.fromkeys(_of_all(recipe, [checker.problems for checker in checkers]))
    history = dict.fromkeys(name for checker in checkers for name in checker.log_names())
    checkers[-1].problems = []
    checkers[-1].expected(recipe.expect, list(history))
    problems |= dict.fromkeys([*checkers[-1].problems, *_sizes_of_states(stages)])
    if problems or None in made:
        raise RecipeError(*problems)
    return [outline for outline in made if outline is not None]


def _of_all(recipe: Recipe, found: Sequence[Sequence[Problem]]) -> Iterator[Problem]:
    """The problems of all stages; one that only some phases have, and that none of them says itself, names them."""
    for number, problems in enumerate(found):
        for problem in problems:
            moved = in_phase(recipe, number, problem)
            if moved == problem and any(problem not in others for others in found):
                moved = replace(moved, message=f"{moved.message} (in phase {number + 1})")
            yield moved


def _nothing_to_train(stage: Recipe, outline: Outline | None) -> list[Problem]:
    """A model with weights that are all frozen."""
    sizes = list(outline.graph.sizes()) if outline is not None and outline.graph is not None else []
    if any(moving for *_, moving, _ in sizes) or not any(still for *_, still in sizes):
        return []
    at = ("model", "layers") if stage.model.frozen is None else ("model", "frozen")
    return [Problem("no layer has weights to train: all of them are frozen", at)]


def _sizes_of_states(stages: list[Recipe]) -> list[Problem]:
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


def _said_in_layers(model: Model | None, name: str) -> Shape | None:
    """The shape of an input that an InputLayer among the layers says."""
    inputs = [layer for layer in (model.held() if model is not None else ()) if layer.is_input]
    return next((layer.whole_shape() for layer in inputs if len(inputs) == 1 or layer.name == name), None)


class Checker:
    """Collects every problem of a recipe that its blocks alone can't show."""

    def __init__(self, parts: Parts, fields: dict[str, Field] | None = None):
        self.parts = parts
        self.fields = fields
        if fields is None and parts.dataset is not None:
            self.fields = parts.dataset.source.fields()
        self.problems: list[Problem] = []
        self.outputs: tuple[str, ...] = self._said_outputs()
        "Names of the model's outputs, as far as the recipe says them; one without a name where they are not known."

    def _said_outputs(self) -> tuple[str, ...]:
        if self.parts.outputs is not None:
            return self.parts.outputs
        return self.parts.compile.outputs_named() if self.parts.compile is not None else ("",)

    def outline(self) -> Outline:
        """The outline of a recipe without mistakes.

        Raises:
            RecipeError: with every problem found.
        """
        made = self.run()
        if self.problems or made is None:
            raise RecipeError(*self.problems)
        return made

    def run(self) -> Outline | None:
        """Fill `problems`; the outline as far as it could be made."""
        made = self._outline(self.parts.dataset) if self.parts.dataset is not None else None
        self._weights()
        self.problems += disagreements(self.parts, made)
        if self.parts.metrics_sound:
            self._watched()
            self.expected(self.parts.expect, self.log_names())
        return made

    def _weights(self) -> None:
        asked = self.parts.sample_weight
        columns = asked if isinstance(asked, dict) else {"": asked} if asked is not None else {}
        for name, column in columns.items():
            try:
                raw_shape(Feature(field=column), self.fields, target=True)
            except ValueError as error:
                path = ("fit", "sample_weight", *((name,) if name else ()))
                self.problems.append(Problem(str(error), path, code="unknown-column"))

    def _take(self, error: RecipeError) -> None:
        self.problems += error.problems

    def _outline(self, dataset: Dataset) -> Outline | None:
        try:
            sources, aims = default_features(dataset, self.fields)
        except RecipeError as error:
            self._take(error)
            return None
        sources = self._named(dataset, sources)
        inputs = {name: self._known("inputs", name, feature) for name, feature in sources.items()}
        targets = {name: self._known("targets", name, feature) for name, feature in aims.items()}
        inputs = {name: self._given(name, known) for name, known in inputs.items()}
        asked = self.parts.model.inputs if self.parts.model is not None else None
        wiring = self._wiring(list(asked or inputs))
        if wiring is None:
            if self.parts.outputs is not None and self.parts.compile is not None:
                OutputCheck(self.parts, self.parts.outputs, self.problems).keys(self.parts.compile)
            return None
        graph = self._graph(wiring, inputs)
        self.outputs = tuple(wiring.outputs)
        check = OutputCheck(self.parts, self.outputs, self.problems)
        ordered = check.matched(dataset, targets)
        if self.parts.compile is not None and self.parts.whole:
            if ordered is None:
                check.keys(self.parts.compile)
            else:
                check.goals(dataset, self.parts.compile, graph, inputs, ordered)
        return None if ordered is None else Outline(inputs, ordered, wiring, graph)

    def _named(self, dataset: Dataset, features: dict[str, Feature]) -> dict[str, Feature]:
        """The inputs by the names that the model gives them, in its order."""
        asked = self.parts.model.inputs if self.parts.model is not None else None
        if asked is None:
            return features
        if dataset.inputs is None and len(asked) == len(features) == 1:
            return dict(zip(asked, features.values(), strict=True))
        missing = [name for name in asked if name not in features]
        for name in missing:
            hint = nearest(name, features) or f"it has {', '.join(features)}"
            message = f'the dataset has no input "{name}"'
            self.problems.append(Problem(message, ("model", "inputs", name), hint, "graph", None, True))
        for name in features:
            # Beside a name that is wrong, one that is left over is most likely what was meant.
            if name not in asked and not missing:
                path = (*feature_path(dataset, "inputs", name),)
                message = f'the model does not read the input "{name}"; it reads {", ".join(asked)}'
                hint = "remove it, or name it under model.inputs"
                self.problems.append(Problem(message, path, hint, "graph", None, True))
        return {name: features[name] for name in asked if name in features}

    def _given(self, name: str, known: Known) -> Known:
        """An input with the shape that the model says, where the data don't tell it."""
        model = self.parts.model
        if model is None or (model.inputs is None and model.input_shape is None):
            return replace(known, shape=known.shape or _said_in_layers(model, name))
        given = model.input_shape if model.inputs is None else model.inputs[name]
        assert given is not None
        if known.shape is not None and clash((None, *given), known.shape):
            expected = f"expected {list(known.shape[1:])}, the shape of the input after preprocessing"
            path = ("model", "input_shape") if model.inputs is None else ("model", "inputs", name)
            hint = "leave input_shape out" if model.inputs is None else "leave model.inputs out"
            self.problems.append(Problem(f"{expected}, found {list(given)}", path, hint, "shape"))
        return replace(known, shape=known.shape or (None, *given))

    def _known(self, word: str, name: str, feature: Feature) -> Known:
        assert self.parts.dataset is not None
        path = feature_path(self.parts.dataset, word, name)
        try:
            shape, field = raw_shape(feature, self.fields, target=word == "targets")
        except ValueError as error:
            at, hint = column_path(self.parts.dataset, word, name, feature), getattr(error, "hint", "")
            self.problems.append(Problem(str(error), at, hint, code="unknown-column"))
            return Known(feature)
        known = Known(feature, None, field.classes if field is not None else None)
        if shape is None:
            return known
        drawn = at_each_step(feature.preprocess)
        if word == "targets" and drawn < len(feature.preprocess):
            name = type(feature.preprocess[drawn]).__name__
            message = f"{name} changes inputs by chance, but targets are what the model shall answer"
            self.problems.append(Problem(message, (*path, "preprocess", drawn, name), code="preprocess"))
            return known
        try:
            return replace(known, shape=through(feature.preprocess, shape, (*path, "preprocess")))
        except RecipeError as error:
            self._take(error)
            return known

    def _wiring(self, inputs: list[str]) -> Wiring | None:
        model = self.parts.model
        if model is None:
            return None
        if not self.parts.whole and any(line.inputs is not None or isinstance(line, Again) for line in model.layers):
            # What is missing would be taken for names that are unknown.
            return None
        misplaced = before_the_model(model.layers)
        self.problems += misplaced
        explicit = self.parts.dataset is not None and self.parts.dataset.inputs is not None
        at = ("model", "inputs") if model.inputs is not None else ("dataset", *(("inputs",) if explicit else ()))
        try:
            wiring = wire(model.layers, inputs, model.outputs if self.parts.whole else None, inputs_at=at)
        except RecipeError as error:
            self._take(error)
            return None
        return None if misplaced else self._frozen(model, wiring)

    def _frozen(self, model: Model, wiring: Wiring) -> Wiring:
        """The wiring with the layers frozen that the model names."""
        if model.frozen is None or not self.parts.whole:
            return wiring
        try:
            return replace(wiring, layers=frozen(wiring.layers, model.frozen, ("model", "frozen")))
        except RecipeError as error:
            self._take(error)
            return wiring

    def _graph(self, wiring: Wiring, inputs: dict[str, Known]) -> Graph | None:
        shapes = {name: known.shape for name, known in inputs.items() if known.shape is not None}
        if len(shapes) < len(wiring.inputs):
            return None
        try:
            return grown(wiring, shapes, name=self.parts.name)
        except RecipeError as error:
            self._take(error)
            return None

    def log_names(self) -> list[str]:
        """Names that the history of this recipe will hold."""
        names = ["loss"]
        if self.parts.compile is not None:
            names = logged(self.parts.compile.goals(self.outputs))
        if self.parts.validates:
            names += [f"val_{n}" for n in names]
        return [*names, "learning_rate"]

    def _watched(self) -> None:
        names = self.log_names()
        for index, callback in self.parts.callbacks:
            self._rate_moves(index, callback)
            watched = callback.monitored()
            if watched is None:
                continue
            if watched in names:
                self._direction(index, callback, watched)
                continue
            hint = nearest(watched, names)
            if watched.startswith("val_") and "val_loss" not in names:
                hint = "nothing is held out for validation; add fit.validation_split or dataset.split.validation"
                if self.parts.folds:
                    hint = "the final fit of a k-fold run has no validation set; watch a training value"
            path = ("callbacks", index, type(callback).__name__, "monitor")
            message = f'nothing produces "{watched}"; the logs hold {", ".join(names)}'
            self.problems.append(Problem(message, path, hint, "monitor"))

    def _rate_moves(self, index: int, callback: Callback) -> None:
        optimizer = self.parts.compile.optimizer if self.parts.compile is not None else None
        rate = getattr(optimizer, "learning_rate", None)
        if callback.sets_learning_rate and rate is not None and not isinstance(rate, ConstantRate):
            name, schedule = type(callback).__name__, type(rate).__name__
            message = f"{name} sets the learning rate, which follows {schedule} already"
            hint = f"write a number as learning_rate, or remove {name}"
            self.problems.append(Problem(message, ("callbacks", index), hint, "learning-rate"))

    def _direction(self, index: int, callback: Callback, watched: str) -> None:
        try:
            better(getattr(callback, "mode", "min"), watched)
        except RecipeError as error:
            path = ("callbacks", index, type(callback).__name__, "monitor")
            self.problems += [replace(p, path=path) for p in error.problems]

    def expected(self, asked: Mapping[str, Any], history: Sequence[str]) -> None:
        """Hold the names of what is expected against what a run produces; `history` are all names in its history."""
        metrics = [n for n in self.log_names() if not n.startswith("val_") and n != "learning_rate"]
        good = ["parameters", "epochs"]
        good += [f"{part}.{m}" for part in ("test", "val", "train") for m in metrics]
        good += [f"history.{m}.{end}" for m in history for end in ("last", "best")]
        good += [f"folds.{m}.{what}" for m in metrics for what in ("mean", "std")]
        for name in asked:
            if name not in good:
                hint = nearest(name, good) or "test.METRIC, val.METRIC, train.METRIC, history.METRIC.last, parameters"
                self.problems.append(Problem(f'no run produces "{name}"', ("expect", name), hint, "expect", None, True))
            elif name.startswith(("val.", "history.val_")) and not self.parts.validates:
                message = f'"{name}" needs validation rows'
                hint = "add fit.validation_split or dataset.split.validation"
                self.problems.append(Problem(message, ("expect", name), hint, "expect", None, True))
            elif name.startswith("folds.") and not self.parts.folds:
                message = f'"{name}" needs folds'
                self.problems.append(Problem(message, ("expect", name), "add fit.kfold", "expect", None, True))
