"""From a checked recipe and rows to everything that trains: pipelines, feeds, network, loss, metrics, updater."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from trainer.errors import DataError, Path, Problem, RecipeError
from trainer.layers.graph import Graph, grown
from trainer.losses.base import Loss
from trainer.losses.shaping import leading
from trainer.metrics.resolve import resolve
from trainer.model.network import Network
from trainer.optimizers.base import Optimizer
from trainer.optimizers.loss_scale import LossScaleOptimizer
from trainer.optimizers.updater import Updater
from trainer.optimizers.updaters import Updaters, updater_of
from trainer.recipe.agreement import pattern_problems
from trainer.recipe.check import outlines
from trainer.recipe.compile import Compile
from trainer.recipe.dataset import Feature
from trainer.recipe.features import column_path
from trainer.recipe.loss_check import LossCheck
from trainer.recipe.outline import Known, Outline
from trainer.recipe.schema import Recipe
from trainer.runs.keras_config import training_config
from trainer.runs.model_file import Description, described
from trainer.shapes import Shape, clash, text
from trainer.sources.columns import Column, Ragged, Rows, Table
from trainer.switches import on
from trainer.train.feed import Feed, Pipeline, Slot, input_dtypes, read_column, reads_lists
from trainer.train.objective import Goal, Objective
from trainer.train.places import check_ids, said_at
from trainer.train.rows import check_class_names, class_weights

LOOKED_AT = 8192
"Rows that are looked at together for numbers that are none."


@dataclass
class Built:
    """A model ready to train or to be used, with the preprocessing that belongs to it."""

    recipe: Recipe
    outline: Outline
    graph: Graph
    network: Network
    objective: Objective
    inputs: dict[str, Pipeline]
    "Preprocessing of each input, in the order in which the model takes them."
    targets: dict[str, Pipeline]
    "Preprocessing of each target, in the order of the outputs."
    device: torch.device
    words: tuple[str, ...] | None = field(default=None)

    def slots(self, columns: Sequence[Column]) -> tuple[Slot, ...]:
        """Raw inputs, ready for the model."""
        dtypes = input_dtypes(self.outline, [p.drawn for p in self.inputs.values()])
        said = [self.graph.wiring.said.get(name) for name in self.inputs]
        made = []
        lists = reads_lists(self.graph.wiring)
        can = on("lists") and self.device.type == "cpu"
        each = zip(self.inputs.items(), columns, dtypes, said, lists, strict=True)
        for (name, pipeline), column, dtype, line, as_lists in each:
            with self._place("inputs", name):
                made.append(Slot(pipeline, column, dtype, self.device, line, can and as_lists))
        return tuple(made)

    def columns(self, rows: Rows) -> list[Column]:
        """The raw inputs that rows hold."""
        return [read_column(rows, known.feature) for known in self.outline.inputs.values()]

    def feed(self, rows: Rows) -> Feed:
        """Rows as batches, with their own weights when the recipe names a weight column."""
        columns = self.columns(rows)
        for name, column in zip(self.outline.inputs, columns, strict=True):
            with self._place("inputs", name):
                check_finite(column, f"input {name}")
        ys = self.goals(rows)
        asked = self.recipe.fit.sample_weight
        weights: list[torch.Tensor | None] = []
        for output, shape in zip(self.graph.outputs, self.graph.output_shapes, strict=True):
            name = asked.get(output) if isinstance(asked, dict) else asked
            path = ("fit", "sample_weight", *((output,) if isinstance(asked, dict) else ()))
            weights.append(None if name is None else sample_weights(rows, name, shape, path).to(self.device))
        xs = self.slots(columns)
        check_ids(self.graph.wiring, dict(zip(self.inputs, xs, strict=True)))
        return Feed(xs, ys, tuple(weights))

    def _place(self, word: str, name: str) -> AbstractContextManager[None]:
        """Problems of a feature's rows stand where the recipe names what it reads."""
        known = (self.outline.inputs if word == "inputs" else self.outline.targets)[name]
        return said_at(column_path(self.recipe.dataset, word, name, known.feature))

    def goals(self, rows: Rows) -> tuple[Slot, ...]:
        """The targets of rows, for each output.

        Raises:
            DataError: a loss can't take them.
        """
        found = []
        for name, loss, shape in self._aims():
            with self._place("targets", name):
                found.append(self._target(rows, name, loss, shape))
        return tuple(found)

    def _aims(self) -> Iterator[tuple[str, Loss, Shape]]:
        """(name of the target, loss, shape of the output) for each output."""
        losses = [goal.loss for goal in self.objective.goals.values()]
        return zip(self.outline.targets, losses, self.graph.output_shapes, strict=True)

    def _target(self, rows: Rows, name: str, loss: Loss, output: Shape) -> Slot:
        raw = read_column(rows, self.outline.targets[name].feature, target=True)
        if loss.counts and isinstance(raw, np.ndarray) and raw.dtype.kind == "f":
            whole = torch.from_numpy(np.ascontiguousarray(raw))
            _refuse(lambda v: v != v.trunc(), whole, "expected class numbers", f"target {name}")
        slot = Slot(self.targets[name], raw, torch.int64 if loss.counts else torch.float32, self.device)
        check_target(loss, slot, output, name, self.targets[name].names())
        return slot

    def training_feed(self, rows: Rows) -> Feed:
        """Rows as batches, weighed by class as well when the recipe asks for it."""
        feed = self.feed(rows)
        asked = self.recipe.fit.class_weight
        if asked is not None:
            ((y,), (given,), (names,)) = feed.ys, feed.weights, [p.names() for p in self.targets.values()]
            check_class_names(asked, names)
            by_class = torch.from_numpy(class_weights(asked, y.rows(slice(None)).cpu().numpy())).to(self.device)
            feed.weights = (by_class if given is None else given * leading(by_class, given),)
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
        return updater_of(self.optimizer, weights, [path for _, path, _, _ in rows])

    @cached_property
    def description(self) -> Description:
        """What this model's files say of it and its training."""
        goals = list(self.objective.goals.values())
        return described(self.network, training_config(self.optimizer, goals, self.graph.name))

    @property
    def optimizer(self) -> Optimizer:
        """The recipe's, in one that scales the loss when the model computes in float16."""
        asked = self.recipe.compile.optimizer
        if self.graph.dtype != "mixed_float16" or isinstance(asked, LossScaleOptimizer):
            return asked
        return LossScaleOptimizer(inner_optimizer=asked)

    def preprocessing(self) -> dict[str, Any]:
        """What was learned from the training rows before the model."""
        parts = {"inputs": self.inputs, "targets": self.targets}
        return {word: {name: p.state() for name, p in pipelines.items()} for word, pipelines in parts.items()}


def real_outlines(recipe: Recipe, table: Table) -> list[Outline]:
    """The outline of each stage of a recipe, with the fields that the opened source really has.

    Raises:
        RecipeError: with every problem found.
        DataError: a column that the recipe reads can't be read.
    """
    found = outlines(recipe, table.fields)
    for word, features in (("inputs", found[0].inputs), ("targets", found[0].targets)):
        for name, known in features.items():
            with said_at(column_path(recipe.dataset, word, name, known.feature)):
                for column in known.feature.columns or (known.feature.field or "",):
                    table.train.column(column)
    return found


def build(
    recipe: Recipe, outline: Outline, sample: Rows, device: torch.device, saved: dict[str, Any] | None = None
) -> Built:
    """Build pipelines and network for rows that look like `sample`.

    `saved` is the preprocessing state of an earlier run; without it the pipelines are adapted to `sample`, which
    must then be all training rows.
    """
    inputs = pipelines(recipe, "inputs", outline.inputs, sample, saved)
    targets = pipelines(recipe, "targets", outline.targets, sample, saved)
    shapes, fronts = {}, {}
    for name, pipeline in inputs.items():
        reaching, fronts[name] = pipeline.front()
        shapes[name] = said_shape(recipe, name, reaching)
    graph = grown(outline.wiring, shapes, recipe.name, recipe.fit.batch_size, recipe.dtype)
    known = outline.targets.items()
    outline = replace(outline, targets={n: replace(t, classes=targets[n].names(t.classes)) for n, t in known})
    if outline.graph is None:
        check_losses(recipe, outline, graph, {name: p.shape for name, p in targets.items()})
        late = list(pattern_problems(recipe.compile.optimizer, graph))
        if late:
            raise RecipeError(*late)
    network = Network(graph, recipe.seed, fronts).to(device)
    network.clock.device = device
    aims = objective(recipe.compile, [p.shape for p in targets.values()], graph)
    return Built(recipe, outline, graph, network, aims, inputs, targets, device)


def pipelines(
    recipe: Recipe, word: str, features: Mapping[str, Known], sample: Rows, saved: dict[str, Any] | None
) -> dict[str, Pipeline]:
    """The preprocessing of inputs or of targets, adapted to rows or taken up from a run."""
    made = {}
    for name, known in features.items():
        with said_at(column_path(recipe.dataset, word, name, known.feature)):
            column = read_column(sample, known.feature, target=word == "targets")
            made[name] = pipeline = Pipeline(known.feature, row_shape(column), f"{word}.{name}")
            if saved is None:
                pipeline.adapt(column)
            else:
                pipeline.load_state(saved[word][name])
    return made


def said_shape(recipe: Recipe, name: str, reaching: Shape) -> Shape:
    """The shape of an input as the recipe says it, else as it reaches the model.

    Raises:
        RecipeError: the two differ.
    """
    model = recipe.model
    given = model.input_shape if model.inputs is None else model.inputs[name]
    shape = (None, *given) if given is not None else reaching
    if clash(shape, reaching):
        message = (
            f"expected {list(reaching[1:])}, the shape of the input after preprocessing, found {list(given or ())}"
        )
        path = ("model", "input_shape") if model.inputs is None else ("model", "inputs", name)
        raise RecipeError(message, path=path, hint=f"leave {path[1]} out", code="shape")
    return shape


def objective(asked: Compile, targets: Sequence[Shape], graph: Graph) -> Objective:
    """What `compile` says, with the metrics that go with targets and outputs of those shapes."""
    goals = {}
    asked_of = asked.goals(list(graph.outputs))
    for (output, goal), target, made in zip(asked_of.items(), targets, graph.output_shapes, strict=True):
        metrics = [resolve(m, target, made) for m in goal.metrics]
        weighted = [resolve(m, target, made) for m in goal.weighted_metrics]
        for index, name in enumerate(goal.log_names()[len(metrics) :]):
            weighted[index] = weighted[index].model_copy(update={"name": name})
        assert goal.loss is not None
        goals[output] = Goal(goal.loss, metrics, weighted, goal.weight)
    return Objective(goals)


def check_losses(recipe: Recipe, outline: Outline, graph: Graph, shapes: Mapping[str, Shape]) -> None:
    """Hold the losses against outputs and targets, where that could not be done before the rows were seen.

    Raises:
        RecipeError: they don't go together.
    """
    problems: list[Problem] = []
    goals = recipe.compile.goals(list(graph.outputs))
    for (output, goal), (name, known) in zip(goals.items(), outline.targets.items(), strict=True):
        target = known.feature if known.classes is None else known.feature.model_copy(update={"preprocess": ()})
        path = ("compile", "loss", *((output,) if isinstance(recipe.compile.loss, dict) else ()))
        assert goal.loss is not None
        LossCheck(goal.loss, graph, output, shapes[name], target, known.classes, problems, path).run()
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
        _refuse(_no_number, values, "expected finite numbers", name)


def sample_weights(rows: Rows, name: str, output: Shape, path: Path) -> torch.Tensor:
    """The column of weights: one a row, or one for each place of an output that has several (a series' steps).

    Raises:
        DataError: there is no such column, or it holds anything but finite numbers of 0 or more.
    """
    try:
        values = read_column(rows, Feature(field=name), target=True)
    except DataError as error:
        raise DataError(*(p.at(*path) for p in error.problems)) from None
    places = () if isinstance(values, Ragged) or values[:1].size == 1 else values.shape[1:]
    if isinstance(values, Ragged) or clash((None, *places), output[: 1 + len(places)]) or len(places) > len(output) - 2:
        each = f", or {text(output[:-1])}" if len(output) > 2 else ""
        message = f'column "{name}" is no sample_weight: expected one number a row{each}'
        raise DataError(message, path=path)
    weights = torch.from_numpy(np.asarray(values, "float32").reshape(len(rows), *places).copy())
    _refuse(lambda w: _no_number(w) | (w < 0), weights, "expected weights of 0 or more", f"column {name}")
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

        def bad(numbers: torch.Tensor) -> torch.Tensor:
            outside = (numbers < 0) | (numbers >= (output[-1] or 0))
            return outside if ignored is None else outside & (numbers != ignored)

        hint = f"there are {len(classes)} classes: units: {len(classes)}" if classes else ""
        _refuse(bad, values, f"expected class numbers from 0 to {(output[-1] or 0) - 1}", f"target {name}", hint)
        return
    _refuse(_no_number, values, "expected finite numbers", f"target {name}")
    if loss.targets == "binary":
        hint = "the first number stands for unknown texts: `num_oov_indices: 0` leaves it out" if classes else ""
        _refuse(lambda v: (v < 0) | (v > 1), values, "expected values from 0 to 1", f"target {name}", hint)


def _no_number(values: torch.Tensor) -> torch.Tensor:
    return ~torch.isfinite(values)


def _refuse(
    bad: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor, expected: str, name: str, hint: str = ""
) -> None:
    # Some rows at a time: what finds bad numbers takes several times the memory of what it looks at.
    for number, part in enumerate(values.split(LOOKED_AT)):
        found = bad(part)
        if not bool(found.any()):
            continue
        row = int(found.reshape(len(part), -1).any(1).nonzero()[0])
        value = part[row].reshape(-1)[found[row].reshape(-1)][0].item()
        where = f"found {value:g} in row {number * LOOKED_AT + row}"
        raise DataError(f"{name}: {expected}, {where}", hint=hint or "rows count from 0 in this set")
