"""Running sums of the loss and of each metric, over batches that are added up many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.errors import DataError, Path
from trainer.losses.base import Loss
from trainer.metrics.base import Metric, State
from trainer.train.feed import Batch
from trainer.train.objective import Objective

MOST_NUMBERS, MOST_STEPS = 1 << 18, 1024
"So many outputs, or batches, are kept until they are added to the sums."
MOST_BETWEEN = 16
"The same of large steps: small tensors that are kept between the large ones of a step let the heap grow."


class Seen(NamedTuple):
    """A batch and what came of it; nobody overwrites the tensors."""

    batch: Batch
    outputs: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    losses: tuple[Tensor | None, ...]
    "The loss of each output; None where it is the mean over the rows that follows from the output."
    rest: Tensor | None
    "Penalties."
    total: Tensor | None = None
    "The loss of all outputs, weighed, with all penalties, where it is known."
    kind: Any = None
    "Its `form`, when that is known."

    def tensors(self) -> list[Any]:
        """All that has a row for each of the batch's."""
        return [*self.outputs, *self.batch.ys, *self.batch.weights, *self.masks]

    def flat(self) -> list[Any]:
        """Everything but the inputs, for `of`."""
        return [*self.tensors(), *self.losses, self.rest, self.total]

    @classmethod
    def of(cls, flat: Sequence[Any], count: int) -> Seen:
        """What `flat` gave, for `count` outputs; the inputs are gone."""
        outputs, ys, weights, masks, losses = (tuple(flat[i * count : (i + 1) * count]) for i in range(5))
        return cls(Batch((), ys, weights), outputs, masks, losses, *flat[5 * count :])

    def form(self) -> Any:
        """What batches that can be put end to end have in common."""
        if self.kind is not None:
            return self.kind
        known = [None if t is None else (t.shape[1:], t.dtype) for t in self.tensors()]
        return *known, *(v is None for v in (*self.losses, self.rest, self.total))


class Scores:
    """Sums over a phase; they can be saved in the middle of an epoch.

    What a batch made is kept as it comes, and many batches are added up at once. When that happens follows from the
    batches alone, so that the last digits do not depend on how often somebody looks; whoever looks at fixed steps, as
    callbacks do, lets all be added up first (`settle`).
    """

    def __init__(self, objective: Objective, device: torch.device, large: bool = False):
        """`large`: steps come and go with large tensors, as those of autograd do."""
        self.objective, self.device, self.large = objective, device, large
        self.metrics, self._loss_names = objective.metrics, ["loss", *objective.loss_names()]
        self._alone = not all(metric.is_by_rows() for _, _, metric, _ in self.metrics)
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._kept: list[Seen] = []
        self._numbers = 0
        self.totals, self.rows, self.batches = [0.0] * len(self._loss_names), 0, 0
        self._first_bad: int | None = None
        self.states: list[State] = [metric.start(self.device) for _, _, metric, _ in self.metrics]

    def add(self, seen: Seen) -> None:
        """Add a batch."""
        # Without its inputs, which may be large and of which nothing is asked any more.
        self._kept.append(Seen(Batch((), seen.batch.ys, seen.batch.weights), *seen[1:]))
        self._numbers += sum([output.numel() for output in seen.outputs])
        large = self.device.type == "cpu" and (self.large or seen.total is not None)
        most = MOST_BETWEEN if large else MOST_STEPS
        if self._is_alone(seen.outputs) or self._numbers >= MOST_NUMBERS or len(self._kept) >= most:
            self.settle()

    def _is_alone(self, outputs: Sequence[Tensor]) -> bool:
        """Whether batches must be added one by one."""
        # The last axis of an output of one axis is that of the rows.
        return self._alone or any(output.dim() < 2 for output in outputs)

    def settle(self) -> None:
        """Add up what is kept."""
        for _, group in groupby(self._kept, Seen.form):
            self._settle_alike(list(group))
        self._kept.clear()
        self._numbers = 0

    def add_all(
        self, ys: Sequence[Tensor], outputs: Sequence[Tensor], sizes: Sequence[int], penalties: Tensor | None = None
    ) -> None:
        """Add batches that lie end to end and whose losses follow from their outputs, and penalties of each."""
        self.settle()
        none, start, first = (None,) * len(ys), 0, 0
        for group in [[size] for size in sizes] if self._is_alone(outputs) else [sizes]:
            rows, batches = slice(start, start := start + sum(group)), slice(first, first := first + len(group))
            mine, made = [y[rows] for y in ys], [output[rows] for output in outputs]
            own = self._means(mine, made, group)
            total = self._added(own, None if penalties is None else penalties[batches])
            self._sum(mine, made, none, none, own, total, group)

    def _settle_alike(self, group: list[Seen]) -> None:
        joined = [_joined(parts) for parts in zip(*(seen.tensors() for seen in group), strict=True)]
        count, sizes = len(self.objective.goals), [len(seen.batch.ys[0]) for seen in group]
        outputs, ys, weights, masks = (joined[i * count : (i + 1) * count] for i in range(4))
        known = [_stacked([seen.losses[place] for seen in group]) for place in range(count)]
        own = self._means(ys, outputs, sizes, known)
        total = _stacked([seen.total for seen in group])
        total = self._added(own, _stacked([seen.rest for seen in group])) if total is None else total
        self._sum(ys, outputs, weights, masks, own, total, sizes)

    def _means(
        self,
        ys: Sequence[Tensor],
        outputs: Sequence[Tensor],
        sizes: Sequence[int],
        known: Sequence[Tensor | None] | None = None,
    ) -> list[Tensor]:
        """The loss of each output, batch by batch."""
        goals = self.objective.goals.values()
        found = zip(goals, ys, outputs, known or [None] * len(ys), strict=True)
        return [means(goal.loss, y, output, sizes) if k is None else k for goal, y, output, k in found]

    def _sum(
        self,
        ys: Sequence[Tensor],
        outputs: Sequence[Tensor],
        weights: Sequence[Tensor | None],
        masks: Sequence[Tensor | None],
        own: list[Tensor],
        total: Tensor,
        sizes: Sequence[int],
    ) -> None:
        """Add losses by batch, and the metrics of the rows."""
        self._add_losses([total, *own][: len(self._loss_names)], sizes)
        for (name, place, metric, weighs), state in zip(self.metrics, self.states, strict=True):
            try:
                metric.update(state, ys[place], outputs[place], weights[place] if weighs else None, masks[place])
            except DataError as error:
                raise self._of_metric(error, name) from None

    def _added(self, own: list[Tensor], rest: Tensor | None) -> Tensor:
        """The loss of all outputs, weighed, with all penalties, batch by batch."""
        goals = self.objective.goals.values()
        parts = [v if goal.weight == 1.0 else v * goal.weight for goal, v in zip(goals, own, strict=True)]
        return sum(parts[1:], parts[0]) + (0.0 if rest is None else rest)

    def _add_losses(self, columns: list[Tensor], sizes: Sequence[int]) -> None:
        found = torch.stack(columns).double().cpu().numpy()
        bad = np.flatnonzero(~np.isfinite(found[0]))
        if self._first_bad is None and len(bad):
            self._first_bad = self.batches + int(bad[0])
        # One by one, so that the sum does not depend on how many are added at a time.
        for place, losses in enumerate(found):
            for product in (losses * np.asarray(sizes)).tolist():
                self.totals[place] += product
        self.rows += sum(sizes)
        self.batches += len(sizes)

    def _of_metric(self, error: DataError, name: str) -> DataError:
        """What a metric can't take, with its name and its place in the recipe."""
        path, metric = next((p, m) for n, p, m in self._paths() if n == name)
        found = [
            replace(p, path=p.path or path, message=f"{type(metric).__name__}: {p.message}") for p in error.problems
        ]
        return DataError(*found)

    def _paths(self) -> Iterator[tuple[str, Path, Metric]]:
        names = iter(name for name, *_ in self.metrics)
        for output, goal in self.objective.goals.items():
            key = (output,) if len(self.objective.goals) > 1 else ()
            for word in ("metrics", "weighted_metrics"):
                for index, metric in enumerate(getattr(goal, word)):
                    yield next(names), ("compile", word, *key, index), metric

    def _looked_at(self) -> Scores:
        """The sums with everything added up, these left as they are."""
        if not self._kept:
            return self
        copy = Scores(self.objective, self.device)
        copy.totals, copy.rows, copy.batches, copy._first_bad = [*self.totals], self.rows, self.batches, self._first_bad
        copy.states = [{k: v.clone() if isinstance(v, Tensor) else v for k, v in s.items()} for s in self.states]
        copy._kept = [*self._kept]
        copy.settle()
        return copy

    @property
    def first_bad(self) -> int | None:
        """The first batch whose loss was not finite."""
        return self._looked_at()._first_bad

    def loss(self) -> float:
        """The mean loss so far."""
        now = self._looked_at()
        return now.totals[0] / max(now.rows, 1)

    def logs(self) -> dict[str, float]:
        """The values so far, by name."""
        now = self._looked_at()
        logs = {name: total / max(now.rows, 1) for name, total in zip(self._loss_names, now.totals, strict=True)}
        for (name, _, metric, _), state in zip(self.metrics, now.states, strict=True):
            value = metric.result(state)
            values = value.tolist() if isinstance(value, Tensor) else value
            if isinstance(values, list):
                logs |= {f"{name}_{i}": float(v) for i, v in enumerate(values)}
            else:
                logs[name] = float(values)
        return logs

    def state(self) -> dict[str, Any]:
        """The sums and what is yet to be added to them, for a checkpoint."""
        states = [{k: _array(v) if isinstance(v, Tensor) else v for k, v in s.items()} for s in self.states]
        kept = [[None if t is None else _array(t) for t in seen.flat()] for seen in self._kept]
        return {"totals": self.totals, "rows": self.rows, "batches": self.batches, "metrics": states, "kept": kept}

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Take up the sums of a checkpoint."""
        self.reset()
        self.totals, self.rows, self.batches = list(saved["totals"]), saved["rows"], saved["batches"]
        for state, kept in zip(self.states, saved["metrics"], strict=True):
            for key, value in state.items():
                is_tensor = isinstance(value, Tensor)
                state[key] = (
                    torch.as_tensor(kept[key], dtype=value.dtype, device=self.device) if is_tensor else kept[key]
                )
        for kept in saved["kept"]:
            tensors = [None if t is None else torch.as_tensor(t, device=self.device) for t in kept]
            self._kept.append(Seen.of(tensors, len(self.objective.goals)))
        self._numbers = sum(output.numel() for seen in self._kept for output in seen.outputs)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy().copy()


def _joined(parts: Sequence[Any]) -> Any:
    """Tensors of several batches end to end; None where there are none."""
    there = [t for t in parts if t is not None]
    return None if not there else there[0] if len(there) == 1 else torch.cat(there)


def _stacked(values: Sequence[Tensor | None]) -> Tensor | None:
    """One value for each batch; None where there are none."""
    there = [value for value in values if value is not None]
    return torch.stack(there) if there else None


def means(loss: Loss, y_true: Tensor, output: Tensor, sizes: Sequence[int]) -> Tensor:
    """The mean of the values of rows, batch by batch."""
    values = loss.per_sample(y_true, output)
    found, start = [], 0
    for size, run in groupby(sizes):
        count = len(list(run))
        found.append(values[start : start + count * size].reshape(count, -1).mean(1))
        start += count * size
    return found[0] if len(found) == 1 else torch.cat(found)


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
