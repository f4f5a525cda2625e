"""Loss and metrics over batches, as Keras reports them: means weighted by rows, penalties included in the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer.errors import DataError
from trainer.losses.base import Loss
from trainer.losses.shaping import floating
from trainer.metrics.base import Metric
from trainer.model.network import Made, Network
from trainer.train.backward import gradients
from trainer.train.feed import Batch, Feed

FOLD_EVERY = 4096


@dataclass(frozen=True)
class Objective:
    """What a model is judged by: the loss, and what is reported beside it."""

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


class Scores:
    """Running sums of the loss and of each metric over a phase; they can be saved in the middle of an epoch.

    Losses of steps are kept as they come and summed (in float64) when somebody looks, so a step costs nothing here.
    """

    def __init__(self, objective: Objective, device: torch.device):
        self.metrics, self._plain = objective.all_metrics, len(objective.metrics)
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._losses: list[torch.Tensor] = []
        self._sizes: list[int] = []
        self.total, self.rows, self.batches = 0.0, 0, 0
        self.first_bad: int | None = None
        self.states = [metric.start(self.device) for metric in self.metrics]

    def add(self, batch: Batch, made: Made, loss: torch.Tensor) -> None:
        """Add a batch."""
        y_pred = floating(made.output.detach())
        self._losses.append(loss)
        self._sizes.append(batch.x.shape[0])
        if len(self._losses) >= FOLD_EVERY:
            self._fold()
        for index, (metric, state) in enumerate(zip(self.metrics, self.states, strict=True)):
            try:
                metric.update(state, batch.y, y_pred, None if index < self._plain else batch.weight, made.mask)
            except DataError as error:
                raise self._of_metric(error, index) from None

    def _of_metric(self, error: DataError, index: int) -> DataError:
        """What a metric can't take, with its name and its place in the recipe."""
        plain = index < self._plain
        path = ("compile", "metrics", index) if plain else ("compile", "weighted_metrics", index - self._plain)
        name = type(self.metrics[index]).__name__
        found = [replace(p, path=p.path or path, message=f"{name}: {p.message}") for p in error.problems]
        return DataError(*found)

    def _fold(self) -> None:
        if not self._losses:
            return
        losses = torch.stack(self._losses).double().cpu().numpy()
        sizes = np.asarray(self._sizes)
        bad = np.flatnonzero(~np.isfinite(losses))
        if self.first_bad is None and len(bad):
            self.first_bad = self.batches + int(bad[0])
        # One by one, so that the sum does not depend on how often somebody looked.
        for product in (losses * sizes).tolist():
            self.total += product
        self.rows += int(sizes.sum())
        self.batches += len(sizes)
        self._losses.clear()
        self._sizes.clear()

    def loss(self) -> float:
        """The mean loss so far."""
        self._fold()
        return self.total / max(self.rows, 1)

    def logs(self) -> dict[str, float]:
        """The values so far, by name."""
        logs = {"loss": self.loss()}
        for metric, state in zip(self.metrics, self.states, strict=True):
            value = metric.result(state)
            values = value.tolist() if isinstance(value, torch.Tensor) else value
            if isinstance(values, list):
                logs |= {f"{metric.name}_{i}": float(v) for i, v in enumerate(values)}
            else:
                logs[str(metric.name)] = float(values)
        return logs

    def state(self) -> dict[str, Any]:
        """The sums, for a checkpoint."""
        self._fold()
        states = [
            {k: v.cpu().numpy().copy() if isinstance(v, torch.Tensor) else v for k, v in s.items()} for s in self.states
        ]
        return {"total": self.total, "rows": self.rows, "batches": self.batches, "metrics": states}

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Take up the sums of a checkpoint."""
        self.reset()
        self.total, self.rows, self.batches = saved["total"], saved["rows"], saved["batches"]
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
    "The loss with all penalties."
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


def judge(network: Network, loss: Loss, batch: Batch, weight: float = 1.0) -> Judged:
    """Let the network see a batch and the loss, times `weight`, see what it made."""
    made = network.run(batch.x)
    batch = followed(batch, made)
    scores = made.scores if torch.is_grad_enabled() and loss.joins(network.ends_in) else None
    joined = None
    if scores is not None and batch.weight is None and made.mask is None:
        joined = loss.value_and_slope(batch.y, made.output)
    value = joined[0] if joined else loss(batch.y, made.output, batch.weight, made.mask, scores)
    if weight != 1.0:
        value, joined = value * weight, joined and (joined[0], joined[1] * weight)
    penalties = (*network.penalties(), *made.penalties)
    extra = sum(penalties[1:], penalties[0]) if penalties else None
    total = value if extra is None else value + extra
    if joined is None or scores is None:
        return Judged(total, made, [total], [torch.ones_like(total)], batch)
    if extra is None or not extra.requires_grad:
        return Judged(total, made, [scores], [joined[1]], batch)
    return Judged(total, made, [scores, extra], [joined[1], torch.ones_like(extra)], batch)


def followed(batch: Batch, made: Made) -> Batch:
    """The batch with targets and weights mixed as the network mixed the rows; as it is when it mixed none."""
    y, weight = batch.y, batch.weight
    for blend in made.mixings:
        y = blend(y)
        weight = None if weight is None else blend(weight)
    return Batch(batch.x, y, weight) if made.mixings else batch


def evaluate(
    network: Network,
    feed: Feed,
    objective: Objective,
    batch_size: int,
    steps: int | None = None,
    keep: list[np.ndarray] | None = None,
) -> dict[str, float]:
    """Loss and metrics over rows in their order, in inference mode; the outputs of each batch go to `keep`."""
    scores = Scores(objective, feed.x.device)
    was = network.training
    network.eval()
    with torch.inference_mode():
        for batch in feed.batches(batch_size, stop=None if steps is None else min(steps, feed.steps(batch_size))):
            judged = judge(network, objective.loss, batch, objective.weight)
            scores.add(judged.batch, judged.made, judged.value)
            if keep is not None:
                keep.append(floating(judged.made.output).cpu().numpy())
    network.train(was)
    return scores.logs()


def as_array(made: torch.Tensor) -> np.ndarray:
    """What a network made, half precision as float32."""
    return (floating(made) if made.is_floating_point() else made).cpu().numpy()


def predict(network: Network, slot: Any, batch_size: int = 256, until: int | None = None) -> np.ndarray:
    """Outputs for rows in their order, in inference mode; `until` asks for another tensor of the graph.

    A network with stateful layers has a batch size of its own.
    """
    batch_size = network.batch_size or batch_size
    was = network.training
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(slot.column), batch_size):
            rows = slot.rows(slice(start, min(start + batch_size, len(slot.column))))
            parts.append(as_array(network.run(rows, until=until)[0]))
    network.train(was)
    return np.concatenate(parts) if parts else np.zeros((0,))
