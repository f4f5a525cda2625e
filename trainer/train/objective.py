"""What a model is judged by."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.losses.base import Loss
from trainer.metrics.base import Metric


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

    @functools.cached_property
    def is_by_rows(self) -> bool:
        """Whether loss and metrics are means over rows, however these are cut into batches."""
        goals = self.goals.values()
        return all(g.loss.is_by_rows() and all(metric.is_by_rows() for metric in g.all_metrics) for g in goals)

    @functools.cached_property
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
