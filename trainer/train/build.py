"""From a checked recipe and rows to everything that trains: pipelines, feeds, network, loss, metrics, updater."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from trainer.errors import DataError, Problem, RecipeError
from trainer.losses.base import Loss
from trainer.losses.shaping import leading
from trainer.metrics.resolve import resolve
from trainer.model.graph import Graph, chain
from trainer.model.network import Network
from trainer.optimizers.base import Optimizer, UpdateRule
from trainer.optimizers.loss_scale import LossScaleOptimizer
from trainer.optimizers.updater import Updater
from trainer.optimizers.updaters import Updaters, updater_of
from trainer.recipe.check import Checker, Outline, Parts
from trainer.recipe.dataset import Feature
from trainer.recipe.features import clash
from trainer.recipe.loss_check import LossCheck
from trainer.recipe.schema import Compile, Recipe
from trainer.shapes import Shape, size, text
from trainer.sources.columns import Column, Ragged, Rows, Table
from trainer.train.feed import Feed, Pipeline, Slot, input_dtype, read_column
from trainer.train.rows import check_class_names, class_weights
from trainer.train.scoring import Objective


@dataclass
class Built:
    """A model ready to train or to be used, with the preprocessing that belongs to it."""

    recipe: Recipe
    outline: Outline
    graph: Graph
    network: Network
    objective: Objective
    x: Pipeline
    y: Pipeline
    device: torch.device
    words: tuple[str, ...] | None = field(default=None)

    @property
    def loss(self) -> Loss:
        """What training minimises."""
        return self.objective.loss

    def feed(self, rows: Rows) -> Feed:
        """Rows as batches, with their own weights when the recipe names a weight column."""
        x_raw = read_column(rows, self.outline.input)
        check_finite(x_raw, f"input {self.outline.input_name}")
        x = Slot(self.x, x_raw, input_dtype((*self.x.drawn, *self.recipe.model.layers)), self.device)
        y_raw = read_column(rows, self.outline.target, target=True)
        if self.loss.counts and isinstance(y_raw, np.ndarray) and y_raw.dtype.kind == "f":
            whole = torch.from_numpy(np.ascontiguousarray(y_raw))
            _refuse(whole != whole.trunc(), whole, "expected class numbers", f"target {self.outline.target_name}")
        dtype = torch.int64 if self.loss.counts else torch.float32
        y = Slot(self.y, y_raw, dtype, self.device)
        check_target(self.loss, y, self.graph.output_shape, self.outline.target_name, self.y.names())
        weight = None
        if self.recipe.fit.sample_weight is not None:
            found = sample_weights(rows, self.recipe.fit.sample_weight, self.graph.output_shape)
            weight = found.to(self.device)
        return Feed(x, y, weight)

    def training_feed(self, rows: Rows) -> Feed:
        """Rows as batches, weighed by class as well when the recipe asks for it."""
        feed = self.feed(rows)
        asked = self.recipe.fit.class_weight
        if asked is not None:
            check_class_names(asked, self.y.names())
            by_class = torch.from_numpy(class_weights(asked, feed.y.rows(slice(None)).cpu().numpy())).to(self.device)
            feed.weight = by_class if feed.weight is None else feed.weight * leading(by_class, feed.weight)
        return feed

    def updater(self) -> Updater | Updaters:
        """The optimizer over this network's trainable weights.

        Raises:
            RecipeError: every layer is frozen.
        """
        rows = [row for row in self.network.rows() if row[3]]
        if not rows:
            raise RecipeError("no layer has weights to train", path=("model", "layers"))
        weights = [(spec, tensor) for spec, _, tensor, _ in rows]
        kinds = sorted({str(tensor.dtype).removeprefix("torch.") for _, tensor in weights})
        if len(kinds) > 1:
            message = f"expected weights of one number type to train, found {' and '.join(kinds)}"
            raise RecipeError(message, path=("model", "layers"), hint="write model.dtype: float64", code="dtype")
        return updater_of(self.optimizer, weights, [path for _, path, _, _ in rows])

    @property
    def optimizer(self) -> Optimizer:
        """The recipe's, which scales the loss when the model computes in float16.

        Raises:
            RecipeError: the optimizer can't be scaled.
        """
        asked = self.recipe.compile.optimizer
        if self.graph.dtype != "mixed_float16" or isinstance(asked, LossScaleOptimizer):
            return asked
        if not isinstance(asked, UpdateRule):
            message = f"mixed_float16 scales the loss, which {type(asked).__name__} can't do"
            raise RecipeError(message, path=("compile", "optimizer"), hint="use mixed_bfloat16", code="dtype")
        return LossScaleOptimizer(inner_optimizer=asked)

    def preprocessing(self) -> dict[str, Any]:
        """What was learned from the training rows before the model."""
        return {"x": self.x.state(), "y": self.y.state()}


def real_outline(recipe: Recipe, table: Table) -> Outline:
    """The outline with the fields that the opened source really has.

    Raises:
        RecipeError: with every problem found.
        DataError: a column that the recipe reads can't be read.
    """
    outline = Checker(Parts.of(recipe), table.fields).outline()
    for feature in (outline.input, outline.target):
        for name in feature.columns or (feature.field or "",):
            table.train.column(name)
    return outline


def build(
    recipe: Recipe, outline: Outline, sample: Rows, device: torch.device, saved: dict[str, Any] | None = None
) -> Built:
    """Build pipelines and network for rows that look like `sample`.

    `saved` is the preprocessing state of an earlier run; without it the pipelines are adapted to `sample`, which
    must then be all training rows.
    """
    x_column = read_column(sample, outline.input)
    y_column = read_column(sample, outline.target, target=True)
    x = Pipeline(outline.input, row_shape(x_column), f"inputs.{outline.input_name}")
    y = Pipeline(outline.target, row_shape(y_column), f"targets.{outline.target_name}")
    for pipeline, column, key in ((x, x_column, "x"), (y, y_column, "y")):
        if saved is None:
            pipeline.adapt(column)
        else:
            pipeline.load_state(saved[key])
    given = recipe.model.input_shape
    reaching, front = x.front()
    shape = (None, *given) if given is not None else reaching
    if clash(shape, reaching):
        found = list(given or ())
        message = f"expected {list(reaching[1:])}, the shape of the input after preprocessing, found {found}"
        raise RecipeError(message, path=("model", "input_shape"), hint="leave input_shape out", code="shape")
    model, inputs = recipe.model, {outline.input_name: shape}
    graph = chain(model.layers, inputs, name=recipe.name, batch_size=recipe.fit.batch_size, dtype=model.dtype)
    outline = replace(outline, classes=y.names() or outline.classes)
    if outline.graph is None:
        check_loss(recipe, outline, graph, y.shape)
    network = Network(graph, recipe.seed, front).to(device)
    network.clock.device = device
    return Built(recipe, outline, graph, network, objective(recipe.compile, y.shape, graph.output_shape), x, y, device)


def objective(asked: Compile, target: Shape, output: Shape) -> Objective:
    """What `compile` says, with the metrics that go with a target and an output of those shapes."""
    metrics = [resolve(m, target, output) for m in asked.metrics]
    weighted = [resolve(m, target, output) for m in asked.weighted_metrics]
    for index, name in enumerate(asked.log_names()[len(metrics) :]):
        weighted[index] = weighted[index].model_copy(update={"name": name})
    return Objective(asked.loss, metrics, weighted, 1.0 if asked.loss_weights is None else asked.loss_weights)


def check_loss(recipe: Recipe, outline: Outline, graph: Graph, target_shape: Shape) -> None:
    """Hold the loss against the last layer and the target, where that could not be done before the rows were seen.

    Raises:
        RecipeError: they don't go together.
    """
    problems: list[Problem] = []
    target = outline.target if outline.classes is None else outline.target.model_copy(update={"preprocess": ()})
    LossCheck(recipe.compile.loss, graph, target_shape, target, outline.classes, problems).run()
    if problems:
        raise RecipeError(*problems)


def row_shape(column: Column) -> Shape:
    """Shape of a column with the batch first; ragged rows have an unknown length."""
    return (None, None) if isinstance(column, Ragged) else (None, *column.shape[1:])


def check_finite(x: Column, name: str) -> None:
    """Refuse inputs that are no numbers, before they make the loss one.

    Raises:
        DataError: names the row.
    """
    if not isinstance(x, Ragged) and x.dtype.kind == "f":
        values = torch.from_numpy(np.ascontiguousarray(x))
        _refuse(~torch.isfinite(values), values, "expected finite numbers", name)


def sample_weights(rows: Rows, name: str, output: Shape) -> torch.Tensor:
    """The column of weights: one a row, or one for each place of an output that has several (a series' steps).

    Raises:
        DataError: there is no such column, or it holds anything but finite numbers of 0 or more.
    """
    try:
        values = read_column(rows, Feature(field=name), target=True)
    except DataError as error:
        raise DataError(*(p.at("fit", "sample_weight") for p in error.problems)) from None
    places = () if isinstance(values, Ragged) or values[:1].size == 1 else values.shape[1:]
    if isinstance(values, Ragged) or clash((None, *places), output[: 1 + len(places)]) or len(places) > len(output) - 2:
        each = f", or {text(output[:-1])}" if len(output) > 2 else ""
        message = f'column "{name}" is no sample_weight: expected one number a row{each}'
        raise DataError(message, path=("fit", "sample_weight"))
    weights = torch.from_numpy(np.asarray(values, "float32").reshape(len(rows), *places).copy())
    _refuse(~torch.isfinite(weights) | (weights < 0), weights, "expected weights of 0 or more", f"column {name}")
    return weights


def check_target(loss: Loss, y: Slot, output: Shape, name: str, classes: tuple[str, ...] | None = None) -> None:
    """Refuse targets that the loss can't take, before the first step; `classes` are what their numbers stand for.

    Raises:
        DataError: class numbers out of range, values that are no 0/1 flags, or not-a-numbers; names the row.
    """
    if y.resident is None or y.resident.numel() == 0:
        return
    values = y.resident
    if loss.targets == "integer":
        ignored = getattr(loss, "ignore_class", None)
        bad = (values < 0) | (values >= (output[-1] or 0))
        if ignored is not None:
            bad &= values != ignored
        hint = f"there are {len(classes)} classes: units: {len(classes)}" if classes else ""
        _refuse(bad, values, f"expected class numbers from 0 to {(output[-1] or 0) - 1}", f"target {name}", hint)
        return
    _refuse(~torch.isfinite(values), values, "expected finite numbers", f"target {name}")
    if loss.targets == "binary":
        hint = "the first number stands for unknown texts: `num_oov_indices: 0` leaves it out" if classes else ""
        _refuse((values < 0) | (values > 1), values, "expected values from 0 to 1", f"target {name}", hint)


def _refuse(bad: torch.Tensor, values: torch.Tensor, expected: str, name: str, hint: str = "") -> None:
    if not bool(bad.any()):
        return
    row = int(bad.reshape(len(values), -1).any(1).nonzero()[0])
    found = values[row].reshape(-1)[bad[row].reshape(-1)][0].item()
    raise DataError(f"{name}: {expected}, found {found:g} in row {row}", hint=hint or "rows count from 0 in this set")


def step_work(graph: Graph, batch_size: int) -> int:
    """Multiply-adds of a forward step, roughly: each weight once for every position that it is used at."""
    total = 0
    for call in graph.calls:
        weights = sum(size(w.shape) or 0 for w in graph.plans[call.layer].weights)
        made = graph.shapes[call.output]
        positions = size(n or 1 for n in (made[0] if isinstance(made, list) else made)[1:-1]) or 1
        total += weights * positions
    return total * batch_size
