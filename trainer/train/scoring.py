"""Loss and metrics over batches, as Keras reports them: means weighted by rows, penalties included in the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer.errors import DataError, Path
from trainer.losses.base import Loss
from trainer.losses.shaping import floating
from trainer.metrics.base import Metric
from trainer.model.network import Made, Network
from trainer.train.backward import gradients
from trainer.train.feed import Batch, Feed, Slot

FOLD_EVERY = 4096


@dataclass(frozen=True)
class Goal:
    """What one output is judged by: the loss, and what is reported beside it."""

    loss: Loss
    metrics: Sequence[Metric] = ()
    weighted_metrics: Sequence[Metric] = ()
    "Metrics that heed the weights of rows."
    weight: float = 1.0
    "Factor of the loss; penalties stay as they are."

    @property
    def all_metrics(self) -> list[Metric]:
        """The metrics, then the weighted ones."""
        return [*self.metrics, *self.weighted_metrics]


@dataclass(frozen=True)
class Objective:
    """What a model is judged by, output by output."""

    goals: Mapping[str, Goal]

    @property
    def only(self) -> Goal:
        """The goal of the first output, which is the only one of most models."""
        return next(iter(self.goals.values()))

    def metrics(self) -> list[tuple[str, int, Metric, bool]]:
        """(name in logs, number of the output, metric, whether it heeds weights of rows) of every metric."""
        several = len(self.goals) > 1
        return [
            (f"{output}_{metric.name}" if several else str(metric.name), place, metric, index >= len(goal.metrics))
            for place, (output, goal) in enumerate(self.goals.items())
            for index, metric in enumerate(goal.all_metrics)
        ]

    def loss_names(self) -> list[str]:
        """Names in logs of the outputs' own losses, which a model with one output has not."""
        return [f"{output}_loss" for output in self.goals] if len(self.goals) > 1 else []


class Scores:
    """Running sums of the loss and of each metric over a phase; they can be saved in the middle of an epoch.

    Losses of steps are kept as they come and summed (in float64) when somebody looks, so a step costs nothing here.
    """

    def __init__(self, objective: Objective, device: torch.device):
        self.metrics, self._loss_names = objective.metrics(), ["loss", *objective.loss_names()]
        self._goals = objective.goals
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._losses: list[tuple[torch.Tensor, ...]] = []
        self._sizes: list[int] = []
        self.totals, self.rows, self.batches = [0.0] * len(self._loss_names), 0, 0
        self.first_bad: int | None = None
        self.states = [metric.start(self.device) for _, _, metric, _ in self.metrics]

    def add(self, judged: Judged) -> None:
        """Add a batch."""
        batch, made = judged.batch, judged.made
        outputs = [floating(output.detach()) for output in made.outputs]
        self._losses.append((judged.value.detach(), *judged.values))
        self._sizes.append(batch.size)
        if len(self._losses) >= FOLD_EVERY:
            self._fold()
        for (name, place, metric, weighs), state in zip(self.metrics, self.states, strict=True):
            weight = batch.weights[place] if weighs else None
            try:
                metric.update(state, batch.ys[place], outputs[place], weight, made.masks[place])
            except DataError as error:
                raise self._of_metric(error, name) from None

    def _of_metric(self, error: DataError, name: str) -> DataError:
        """What a metric can't take, with its name and its place in the recipe."""
        path, metric = next((p, m) for n, p, m in self._paths() if n == name)
        found = [
            replace(p, path=p.path or path, message=f"{type(metric).__name__}: {p.message}") for p in error.problems
        ]
        return DataError(*found)

    def _paths(self) -> Iterator[tuple[str, Path, Metric]]:
        names = iter(name for name, *_ in self.metrics)
        for output, goal in self._goals.items():
            key = (output,) if len(self._goals) > 1 else ()
            for word in ("metrics", "weighted_metrics"):
                for index, metric in enumerate(getattr(goal, word)):
                    yield next(names), ("compile", word, *key, index), metric

    def _fold(self) -> None:
        if not self._losses:
            return
        losses = torch.stack([value for step in self._losses for value in step]).reshape(len(self._losses), -1)
        columns = losses.double().cpu().numpy().T
        sizes = np.asarray(self._sizes)
        bad = np.flatnonzero(~np.isfinite(columns[0]))
        if self.first_bad is None and len(bad):
            self.first_bad = self.batches + int(bad[0])
        # One by one, so that the sum does not depend on how often somebody looked.
        for place, losses in enumerate(columns):
            for product in (losses * sizes).tolist():
                self.totals[place] += product
        self.rows += int(sizes.sum())
        self.batches += len(sizes)
        self._losses.clear()
        self._sizes.clear()

    def loss(self) -> float:
        """The mean loss so far."""
        self._fold()
        return self.totals[0] / max(self.rows, 1)

    def logs(self) -> dict[str, float]:
        """The values so far, by name."""
        self._fold()
        logs = {name: total / max(self.rows, 1) for name, total in zip(self._loss_names, self.totals, strict=True)}
        for (name, _, metric, _), state in zip(self.metrics, self.states, strict=True):
            value = metric.result(state)
            values = value.tolist() if isinstance(value, torch.Tensor) else value
            if isinstance(values, list):
                logs |= {f"{name}_{i}": float(v) for i, v in enumerate(values)}
            else:
                logs[name] = float(values)
        return logs

    def state(self) -> dict[str, Any]:
        """The sums, for a checkpoint."""
        self._fold()
        states = [
            {k: v.cpu().numpy().copy() if isinstance(v, torch.Tensor) else v for k, v in s.items()} for s in self.states
        ]
        return {"totals": self.totals, "rows": self.rows, "batches": self.batches, "metrics": states}

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Take up the sums of a checkpoint."""
        self.reset()
        self.totals, self.rows, self.batches = list(saved["totals"]), saved["rows"], saved["batches"]
        for state, kept in zip(self.states, saved["metrics"], strict=True):
            for key, value in state.items():
                is_tensor = isinstance(value, torch.Tensor)
                state[key] = (
                    torch.as_tensor(kept[key], dtype=value.dtype, device=self.device) if is_tensor else kept[key]
                )


class BatchLogs(Mapping[str, float]):
    """The values after a batch; metrics are computed when one is asked for, since most callbacks look at the loss."""

    def __init__(self, scores: Scores):
        self._scores = scores
        self._all: dict[str, float] | None = None

    def _every(self) -> dict[str, float]:
        if self._all is None:
            self._all = self._scores.logs()
        return self._all

    def __getitem__(self, name: str) -> float:
        return self._scores.loss() if name == "loss" else self._every()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._every())

    def __len__(self) -> int:
        return len(self._every())


class Judged(NamedTuple):
    """A batch after the network and the loss."""

    value: torch.Tensor
    "The loss of all outputs, weighed, with all penalties."
    values: tuple[torch.Tensor, ...]
    "The loss of each output by itself, when there are several."
    made: Made
    roots: list[torch.Tensor]
    "Where going back begins: the loss, or the scores before a last activation that the loss joins."
    seeds: list[torch.Tensor]
    "Gradients of the loss with respect to the roots."
    batch: Batch
    "The batch as the loss saw it: with mixed targets, where layers mixed the rows."

    def gradients(self, parameters: Sequence[torch.Tensor], scale: float = 1.0) -> tuple[torch.Tensor | None, ...]:
        """Of `scale` times the loss, for each parameter; None where it does not depend on one."""
        seeds = self.seeds if scale == 1.0 else [seed * scale for seed in self.seeds]
        return gradients(self.roots, seeds, parameters)


def judge(network: Network, objective: Objective, batch: Batch) -> Judged:
    """Let the network see a batch and the losses see what it made."""
    made = network.run(*batch.xs)
    batch = followed(batch, made)
    values: list[torch.Tensor] = []
    weighed: list[torch.Tensor] = []
    rest: list[torch.Tensor] = []
    roots: list[torch.Tensor] = []
    seeds: list[torch.Tensor] = []
    grad = torch.is_grad_enabled()
    for place, goal in enumerate(objective.goals.values()):
        y, weight, mask = batch.ys[place], batch.weights[place], made.masks[place]
        scores = made.scores[place] if grad and goal.loss.joins(network.ends_in[place]) else None
        joined = None
        if scores is not None and weight is None and mask is None:
            joined = goal.loss.value_and_slope(y, made.outputs[place])
        value = joined[0] if joined else goal.loss(y, made.outputs[place], weight, mask, scores)
        values.append(value)
        value = value if goal.weight == 1.0 else value * goal.weight
        weighed.append(value)
        if joined is None or scores is None:
            rest.append(value)
        else:
            roots.append(scores)
            seeds.append(joined[1] if goal.weight == 1.0 else joined[1] * goal.weight)
    penalties = [*network.penalties(), *made.penalties]
    total = added([*weighed, *penalties])
    moving = [t for t in (*rest, *penalties) if t.requires_grad]
    if moving or not roots:
        root = added(moving) if roots else total
        roots.append(root)
        seeds.append(torch.ones_like(root))
    own = tuple([v.detach() for v in values]) if len(values) > 1 else ()
    return Judged(total, own, made, roots, seeds, batch)


def added(terms: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of one or more tensors, from the first on."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def followed(batch: Batch, made: Made) -> Batch:
    """The batch with targets and weights mixed as the network mixed the rows; as it is when it mixed none."""
    ys, weights = batch.ys, batch.weights
    for blend in made.mixings:
        ys = tuple([blend(y) for y in ys])
        weights = tuple([None if w is None else blend(w) for w in weights])
    return Batch(batch.xs, ys, weights) if made.mixings else batch


def evaluate(
    network: Network,
    feed: Feed,
    objective: Objective,
    batch_size: int,
    steps: int | None = None,
    keep: list[tuple[np.ndarray, ...]] | None = None,
) -> dict[str, float]:
    """Loss and metrics over rows in their order, in inference mode; the outputs of each batch go to `keep`."""
    scores = Scores(objective, feed.device)
    was = network.training
    network.eval()
    with torch.inference_mode():
        for batch in feed.batches(batch_size, stop=None if steps is None else min(steps, feed.steps(batch_size))):
            judged = judge(network, objective, batch)
            scores.add(judged)
            if keep is not None:
                keep.append(tuple([as_array(made) for made in judged.made.outputs]))
    network.train(was)
    return scores.logs()


def as_array(made: torch.Tensor) -> np.ndarray:
    """What a network made, half precision as float32."""
    return (floating(made) if made.is_floating_point() else made).cpu().numpy()


def predict(
    network: Network, slots: Sequence[Slot], batch_size: int = 256, want: Sequence[int] | None = None
) -> list[np.ndarray]:
    """The outputs for rows in their order, in inference mode; `want` asks for other tensors of the graph.

    A network with stateful layers has a batch size of its own.
    """
    batch_size = network.batch_size or batch_size
    was, count = network.training, len(slots[0].column)
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, count, batch_size):
            rows = [slot.rows(slice(start, min(start + batch_size, count))) for slot in slots]
            parts.append([as_array(made) for made in network.run(*rows, want=want).outputs])
    network.train(was)
    if not parts:
        return [np.zeros((0,))] * len(network.graph.outputs if want is None else want)
    return [np.concatenate(each) for each in zip(*parts, strict=True)]
