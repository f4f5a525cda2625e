"""Loss and metrics over batches, as Keras reports them: means weighted by rows, penalties included in the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from trainer.losses.shaping import floating
from trainer.model.network import Made, Network
from trainer.switches import on
from trainer.train.backward import gradients
from trainer.train.devices import SMALL_STEP, step_work
from trainer.train.feed import Batch, Feed, Slot
from trainer.train.objective import Objective
from trainer.train.scores import Scores, Seen


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

    def seen(self) -> Seen:
        """What the scores are given of it."""
        made, several = self.made, len(self.values) > 1
        outputs = tuple([floating(output.detach()) for output in made.outputs])
        total = self.value.detach()
        return Seen(self.batch, outputs, made.masks, self.values if several else (total,), None, total)

    def gradients(
        self, parameters: Sequence[torch.Tensor], scale: float | torch.Tensor = 1.0
    ) -> tuple[torch.Tensor | None, ...]:
        """Of `scale` times the loss, for each parameter; None where it does not depend on one."""
        seeds = self.seeds if isinstance(scale, float) and scale == 1.0 else [seed * scale for seed in self.seeds]
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
        elif scores.requires_grad:
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
    if steps is None:
        batch_size = rows_at_once(network, objective, batch_size)
    scores = Scores(objective, feed.device)
    was = network.training
    network.eval()
    with torch.inference_mode():
        for batch in feed.batches(batch_size, stop=None if steps is None else min(steps, feed.steps(batch_size))):
            judged = judge(network, objective, batch)
            scores.add(judged.seen())
            if keep is not None:
                keep.append(tuple([as_array(made) for made in judged.made.outputs]))
    network.train(was)
    scores.settle()
    return scores.logs()


MOST_ROWS = 4096
"Rows that go through a network at once, at most."
MOST_NUMBERS = 1 << 24
"Numbers that they are after all layers together, at most: 64 MB."


def rows_at_once(network: Network, objective: Objective | None, batch_size: int) -> int:
    """How many rows to take at a time, where that moves no more than last digits; at least `batch_size`.

    With an objective, loss and metrics must be means over rows. Models with layers in layers, of which it is not known
    what comes about inside, take `batch_size` rows, and others with more inside as many as one thread has work for.
    """
    alike = objective is None or objective.is_by_rows
    if not alike or network.masked or network.across_rows or network.batch_size or not on("evaluation"):
        return batch_size
    numbers = network.row_numbers
    if numbers is None:
        return batch_size
    most = min(MOST_ROWS, MOST_NUMBERS // max(1, numbers))
    if any(layer.more_inside for layer in network.graph.layers.values()):
        most = min(most, SMALL_STEP // max(1, step_work(network.graph, 1, moves=False)))
    return max(batch_size, most)


def as_array(made: torch.Tensor) -> np.ndarray:
    """What a network made, half precision as float32."""
    return (floating(made) if made.is_floating_point() else made).cpu().numpy()


def predict(
    network: Network, slots: Sequence[Slot], batch_size: int = 256, want: Sequence[int] | None = None
) -> list[np.ndarray]:
    """The outputs for rows in their order, in inference mode; `want` asks for other tensors of the graph.

    A network with stateful layers has a batch size of its own.
    """
    batch_size = network.batch_size or rows_at_once(network, None, batch_size)
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
