"""Checks across a whole recipe: shapes layer by layer, loss against last layer and target, names that are watched.

Needs neither torch nor the data: what a source declares of its fields is enough. The `Outline` that comes out is made
again, with the real fields, when the data have been opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from trainer.callbacks.base import Callback, better
from trainer.errors import Problem, RecipeError, nearest
from trainer.layers.base import Layer
from trainer.losses.base import Loss
from trainer.model.graph import Graph, chain
from trainer.optimizers.base import Optimizer
from trainer.recipe.dataset import Dataset, Feature
from trainer.recipe.features import (
    at_each_step,
    before_the_model,
    clash,
    default_features,
    feature_path,
    raw_shape,
    through,
)
from trainer.recipe.loss_check import LossCheck
from trainer.recipe.metric_check import metric_problems
from trainer.recipe.mixing_check import mixing_problems
from trainer.recipe.schema import MetricUse, Recipe, log_names
from trainer.schedules.base import ConstantRate
from trainer.shapes import Shape
from trainer.sources.columns import Field


@dataclass(frozen=True)
class Outline:
    """What is known of a recipe before training: one input and one target, with shapes where they can be told."""

    input_name: str
    input: Feature
    target_name: str
    target: Feature
    input_shape: Shape | None
    target_shape: Shape | None
    classes: tuple[str, ...] | None
    graph: Graph | None


@dataclass
class Parts:
    """What is sound of a recipe, so that the rest of a faulty one is checked too; None where something is not."""

    name: str = "recipe"
    dataset: Dataset | None = None
    layers: tuple[Layer, ...] = ()
    "The layers up to the first faulty one."
    whole: bool = False
    "Whether `layers` are all of them."
    input_shape: tuple[int, ...] | None = None
    sample_weight: str | None = None
    loss: Loss | None = None
    metrics: tuple[str, ...] | None = None
    "Names of the metrics in logs; None when one of them is faulty."
    judges: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    "The metrics themselves, by their key under compile."
    validates: bool = False
    folds: bool = False
    optimizer: Optimizer | None = None
    callbacks: list[tuple[int, Callback]] = field(default_factory=list)
    expect: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Recipe) -> Parts:
        """All parts of a sound recipe."""
        fit, split = recipe.fit, recipe.dataset.split
        return cls(
            recipe.name,
            recipe.dataset,
            recipe.model.layers,
            True,
            recipe.model.input_shape,
            fit.sample_weight,
            recipe.compile.loss,
            tuple(recipe.compile.log_names()),
            {"metrics": recipe.compile.metrics, "weighted_metrics": recipe.compile.weighted_metrics},
            bool(fit.validation_split)
            or split.validation is not None
            or (fit.kfold is not None and not fit.kfold.final),
            fit.kfold is not None,
            recipe.compile.optimizer,
            list(enumerate(recipe.callbacks)),
            dict(recipe.expect),
        )

    @classmethod
    def salvaged(cls, value: dict[str, Any]) -> Parts:
        """What can be read of a faulty recipe."""
        compiled, fit, model, dataset = (_mapping(value.get(k)) for k in ("compile", "fit", "model", "dataset"))
        metrics, weighted = (
            [_sound(MetricUse.read, m) for m in _list(compiled.get(word))] for word in ("metrics", "weighted_metrics")
        )
        layers = [_sound(Layer.parse, v) for v in _list(model.get("layers"))]
        good = tuple(itertools.takewhile(lambda layer: layer is not None, layers))
        callbacks = [(i, _sound(Callback.parse, v)) for i, v in enumerate(_list(value.get("callbacks")))]
        return cls(
            dataset=_sound(Dataset.read, value.get("dataset")),
            layers=good,
            whole=bool(layers) and len(good) == len(layers),
            sample_weight=fit["sample_weight"] if isinstance(fit.get("sample_weight"), str) else None,
            loss=_sound(Loss.parse, compiled.get("loss")),
            metrics=None if None in (*metrics, *weighted) else tuple(log_names(metrics, weighted)),
            judges={"metrics": tuple(metrics), "weighted_metrics": tuple(weighted)},
            validates=bool(fit.get("validation_split"))
            or bool(_mapping(dataset.get("split")).get("validation"))
            or _mapping(fit.get("kfold")).get("final") is False,
            folds=bool(fit.get("kfold")),
            optimizer=_sound(Optimizer.parse, compiled.get("optimizer")),
            callbacks=[(i, c) for i, c in callbacks if c is not None],
            expect={k: v for k, v in _mapping(value.get("expect")).items() if isinstance(k, str)},
        )


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sound(read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


class Checker:
    """Collects every problem of a recipe that its blocks alone can't show."""

    def __init__(self, parts: Parts, fields: dict[str, Field] | None = None):
        self.parts = parts
        self.fields = fields
        if fields is None and parts.dataset is not None:
            self.fields = parts.dataset.source.fields()
        self.problems: list[Problem] = []

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
        if self.parts.metrics is not None:
            self._watched()
            self._expected()
        return made

    def _weights(self) -> None:
        if self.parts.sample_weight is not None:
            try:
                raw_shape(Feature(field=self.parts.sample_weight), self.fields, target=True)
            except ValueError as error:
                self.problems.append(Problem(str(error), ("fit", "sample_weight"), code="unknown-column"))

    def _take(self, error: RecipeError) -> None:
        self.problems += error.problems

    def _outline(self, dataset: Dataset) -> Outline | None:
        try:
            inputs, targets = default_features(dataset, self.fields)
        except RecipeError as error:
            self._take(error)
            return None
        ((input_name, source),) = inputs.items()
        ((target_name, target),) = targets.items()
        shape, _ = self._shape("inputs", input_name, source)
        target_shape, held = self._shape("targets", target_name, target)
        shape = self._given(shape)
        graph = self._graph(input_name, shape)
        if self.parts.loss is not None:
            steps = (*feature_path(dataset, "inputs", input_name), "preprocess")
            self.problems += mixing_problems(source.preprocess, self.parts.loss, steps)
            self.problems += mixing_problems(self.parts.layers, self.parts.loss, ("model", "layers"))
        classes = held.classes if held is not None else None
        if graph is not None and self.parts.loss is not None and self.parts.whole:
            LossCheck(self.parts.loss, graph, target_shape, target, classes, self.problems).run()
            for key, metrics in self.parts.judges.items():
                self.problems += metric_problems(metrics, self.parts.loss, graph.output_shape, ("compile", key))
        return Outline(input_name, source, target_name, target, shape, target_shape, classes, graph)

    def _given(self, shape: Shape | None) -> Shape | None:
        given = self.parts.input_shape
        if given is None:
            return shape
        if shape is not None and clash((None, *given), shape):
            message = f"expected {list(shape[1:])}, the shape of the input after preprocessing, found {list(given)}"
            self.problems.append(Problem(message, ("model", "input_shape"), "leave input_shape out", "shape"))
        return shape or (None, *given)

    def _shape(self, word: str, name: str, feature: Feature) -> tuple[Shape | None, Field | None]:
        assert self.parts.dataset is not None
        path = feature_path(self.parts.dataset, word, name)
        try:
            shape, field = raw_shape(feature, self.fields, target=word == "targets")
        except ValueError as error:
            key = "columns" if feature.columns is not None else "field"
            self.problems.append(Problem(str(error), (*path, key), code="unknown-column"))
            return None, None
        if shape is None:
            return None, field
        drawn = at_each_step(feature.preprocess)
        if word == "targets" and drawn < len(feature.preprocess):
            name = type(feature.preprocess[drawn]).__name__
            message = f"{name} changes inputs by chance, but targets are what the model shall answer"
            self.problems.append(Problem(message, (*path, "preprocess", drawn, name), code="preprocess"))
            return None, field
        try:
            return through(feature.preprocess, shape, (*path, "preprocess")), field
        except RecipeError as error:
            self._take(error)
            return None, field

    def _graph(self, name: str, shape: Shape | None) -> Graph | None:
        misplaced = before_the_model(self.parts.layers)
        self.problems += misplaced
        if shape is None or not self.parts.layers or misplaced:
            return None
        try:
            return chain(self.parts.layers, {name: shape}, name=self.parts.name)
        except RecipeError as error:
            self._take(error)
            return None

    def log_names(self) -> list[str]:
        """Names that the history of this recipe will hold."""
        names = ["loss", *(self.parts.metrics or ())]
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
        rate = getattr(self.parts.optimizer, "learning_rate", None)
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

    def _expected(self) -> None:
        metrics = [n for n in self.log_names() if not n.startswith("val_") and n != "learning_rate"]
        good = ["parameters", "epochs"]
        good += [f"{part}.{m}" for part in ("test", "val", "train") for m in metrics]
        good += [f"history.{m}.{end}" for m in self.log_names() for end in ("last", "best")]
        good += [f"folds.{m}.{what}" for m in metrics for what in ("mean", "std")]
        for name in self.parts.expect:
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
