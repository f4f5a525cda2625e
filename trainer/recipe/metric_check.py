"""Whether metrics can judge class numbers, before a row is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trainer.errors import Path, Problem
from trainer.losses.base import Loss
from trainer.metrics.base import Metric
from trainer.shapes import Shape


def metric_problems(metrics: Sequence[Any], loss: Loss, output: Shape, at: Path) -> Iterator[Problem]:
    """A problem for each metric that can't judge targets which are class numbers, as those of the loss are."""
    classes = output[-1]
    if not loss.counts or classes is None:
        return
    for index, metric in enumerate(metrics):
        why, hint = metric.misfit(classes) if isinstance(metric, Metric) else ("", "")
        if why:
            yield Problem(f"{type(metric).__name__} {why}", (*at, index), hint, "metric")
