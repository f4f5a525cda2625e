"""Checks across a whole recipe: shapes layer by layer, loss against last layer and target, names that are watched.

Needs neither torch nor the data: what a source declares of its fields is enough. The `Outline` that comes out is made
again, with the real fields, when the data have been opened.
"""

from __future__ import annotations

from dataclasses import replace

from trainer.errors import Problem, RecipeError, nearest
from trainer.layers.graph import Graph, grown
from trainer.layers.lines import Again
from trainer.layers.wiring import Wiring, wire
from trainer.model.freezing import frozen
from trainer.recipe.agreement import disagreements
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
from trainer.recipe.name_check import NameCheck
from trainer.recipe.outline import Known, Outline
from trainer.recipe.output_check import OutputCheck
from trainer.recipe.parts import Parts
from trainer.recipe.phase_check import nothing_to_train, of_all, sizes_of_states
from trainer.recipe.schema import Recipe
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
        checker.problems += nothing_to_train(stage, made[-1])
    problems = dict.fromkeys(of_all(recipe, [checker.problems for checker in checkers]))
    history = dict.fromkeys(name for checker in checkers for name in checker.names.log_names())
    unexpected: list[Problem] = []
    NameCheck(checkers[-1].parts, checkers[-1].outputs, unexpected).expected(recipe.expect, list(history))
    problems |= dict.fromkeys([*unexpected, *sizes_of_states(stages)])
    if problems or None in made:
        raise RecipeError(*problems)
    return [outline for outline in made if outline is not None]


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

    @property
    def names(self) -> NameCheck:
        """The check of names that are watched or expected."""
        return NameCheck(self.parts, self.outputs, self.problems)

    def run(self) -> Outline | None:
        """Fill `problems`; the outline as far as it could be made."""
        made = self._outline(self.parts.dataset) if self.parts.dataset is not None else None
        self._weights()
        self.problems += disagreements(self.parts, made)
        if self.parts.metrics_sound:
            self.names.watched()
            self.names.expected(self.parts.expect, self.names.log_names())
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
