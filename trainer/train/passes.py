"""A step for batches of one shape: a network, its losses and the way back as one row of operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer.activations.base import Activation
from trainer.layers.base import Layer
from trainer.losses.base import Loss
from trainer.losses.shaping import floating, paired
from trainer.model.network import Cell, Network, Step
from trainer.program import Program, Pull
from trainer.train.casts import between_casts
from trainer.train.feed import Batch
from trainer.train.islands import Unable, island, through_autograd
from trainer.train.objective import Goal, Objective
from trainer.train.scores import Seen


class Way(NamedTuple):
    """How the gradient at a tensor becomes gradients at those that it was made from."""

    reads: tuple[int, ...]
    makes: int
    pull: Pull
    layer: str
    "Path of the layer."


class Mark(NamedTuple):
    """Where the operations of a part of a step begin."""

    at: int
    part: str
    layer: str = ""


class Pass:
    """A step for batches of one shape.

    Raises:
        Unable: a weight or an output has no gradient.
    """

    def __init__(self, network: Network, objective: Objective, program: Program, batch: Batch):
        """`program` has no operations yet."""
        self.network, self.program = network, program
        self._xs = [x.clone() for x in batch.xs]
        self._ys: list[Tensor] = []
        self._weights = [None if w is None else w.clone() for w in batch.weights]
        self._values: dict[int, Any] = dict(zip(network.starts, self._xs, strict=True))
        self._masks: dict[int, Tensor] = {}
        "Of those of them that have one."
        self._slopes: dict[int, Tensor] = {}
        self._read: dict[int, Tensor] = {}
        self._depends: set[int] = set()
        "Tensors that depend on weights that move."
        self._ways: list[Way] = []
        self.marks: list[Mark] = []
        for step in network.steps:
            if step.makes not in self._values:
                self._mark("forward", step.cell.path)
                self._forward(step)
        self._mark("loss")
        goals = enumerate(objective.goals.values())
        self._losses = [self._judge(place, goal, batch.ys[place]) for place, goal in goals]
        for way in reversed(self._ways):
            self._mark("backward", way.layer)
            self._back(way)
        self._mark("loss")
        self.penalty = self._penalize()
        "Of all weights, as the last run found it."
        if not self.program.complete():
            raise Unable
        self.outputs = [self._precise(n) for n in network.ends]
        "What the last run made."
        self._ends_masks = tuple([self._masks.get(n) for n in network.ends])
        self._any_masks = any(mask is not None for mask in self._ends_masks)
        self._form: Any = None
        self._weighed = any(weight is not None for weight in self._weights)
        self._unknown = (None,) * len(self._losses) if all(loss is None for loss in self._losses) else None

    def run(self, batch: Batch) -> None:
        """Outputs, losses and gradients for a batch."""
        # Here and in `seen` every test costs models of small steps a share of their time.
        for own, given in zip(self._xs, batch.xs, strict=False):
            own.copy_(given)
        for own, given in zip(self._ys, batch.ys, strict=False):
            own.copy_(given)
        if self._weighed:
            for own, weight in zip(self._weights, batch.weights, strict=True):
                if own is not None and weight is not None:
                    own.copy_(weight)
        for operation in self.program.operations:
            operation()

    @property
    def losses_follow(self) -> bool:
        """Whether losses are what follows from the outputs: no part of them comes from autograd."""
        return self._unknown is not None

    def buffers(self) -> list[Tensor]:
        """Where a batch's inputs and targets are copied to."""
        return [*self._xs, *self._ys]

    def seen(self, batch: Batch) -> Seen:
        """What the last run made of its batch, copied."""
        outputs = tuple([output.clone() for output in self.outputs])
        losses = self._unknown or tuple([None if loss is None else loss.clone() for loss in self._losses])
        rest = None if self.penalty is None else self.penalty.clone()
        masks = self._ends_masks
        if self._any_masks:
            masks = tuple([None if mask is None else mask.clone() for mask in masks])
        made = Seen(batch, outputs, masks, losses, rest, None, self._form)
        self._form = self._form or made.form()
        return made

    def _mark(self, part: str, layer: str = "") -> None:
        self.marks.append(Mark(len(self.program.operations), part, layer))

    def _forward(self, step: Step) -> None:
        """Add a layer's operations, and those of the last activation as if it were a layer of its own."""
        x, mask, masked = self._read_by(step)
        before = len(self.program.operations)
        if self._with_next(step, x, mask, masked=masked):
            return
        del self.program.operations[before:]
        hears = masked and step.hears
        found = None if step.options else self._masked_by_hand(step, x, mask) if hears else self._by_hand(step, x)
        weights = self._moves(step.cell)
        if found is None:
            del self.program.operations[before:]
            inside = partial(step.layer.forward, step.cell, **step.options, **({"mask": mask} if hears else {}))
            found = self._island(inside, x, weights, [n in self._depends for n in step.reads])
        makes = step.makes if step.last is None else scores_of(step.makes)
        self._made_by(step.reads, makes, *found, moves=bool(weights))
        self._goes_on(step, x, mask, masked=masked)
        if step.last is not None:
            self._activate(step.last, makes, step.makes)

    def _read_by(self, step: Step) -> tuple[Any, Any, bool]:
        """What a layer reads, the mask of that, or of each of several, and whether there is one at all."""
        xs, masks = [self._values[n] for n in step.reads], [self._masks.get(n) for n in step.reads]
        masked = any(mask is not None for mask in masks)
        return (xs[0], masks[0], masked) if len(xs) == 1 else (xs, masks, masked)

    def _goes_on(self, step: Step, x: Any, mask: Any, *, masked: bool) -> Tensor | None:
        """Add the operations that make the mask which goes on with what a layer makes."""
        layer = step.cell.layer
        made = layer.mask_by_hand(self.program, x, mask, **step.options) if masked or layer.starts_mask() else None
        if isinstance(made, list):
            raise Unable
        if made is not None:
            self._masks[step.makes] = made
        return made

    def _with_next(self, step: Step, x: Any, mask: Any, *, masked: bool) -> bool:
        """Add a layer's operations and those of the layer after it as one, where they say so."""
        after = self.network.after(step) if self.program.compiles and not step.options else None
        if after is None or after.parts or after.last is not None or after.penalty is not None:
            return False
        if masked and step.hears:
            return False
        between = self._goes_on(step, x, mask, masked=masked)
        found = self._by_hand(step, x, after.cell, between)
        if found is None:
            return False
        self._goes_on(after, x, between, masked=between is not None)
        if any(after.cell.rows()):
            self.marks[-1] = self.marks[-1]._replace(layer=after.cell.path)
        moves = [*self._moves(step.cell), *self._moves(after.cell)]
        self._made_by(step.reads, after.makes, *found, moves=bool(moves))
        return True

    def _by_hand(
        self, step: Step, x: Any, after: Cell | None = None, between: Tensor | None = None
    ) -> tuple[Any, Any] | None:
        """What a layer says of itself, with the one after it if that is given; None where it says nothing.

        `between` is the mask of what lies between the two.
        """
        p, cell = self.program, self._cell(step)
        if not isinstance(step.layer, Layer):
            return between_casts(p, step.layer, cell, x, after, between)
        if after is None:
            return step.layer.by_hand(p, cell, x)
        return step.layer.by_hand_with(p, cell, x, after.layer, after, between)

    def _masked_by_hand(self, step: Step, x: Any, mask: Any) -> tuple[Any, Any] | None:
        if not isinstance(step.layer, Layer):
            return between_casts(self.program, step.layer, self._cell(step), x, mask=mask)
        return step.layer.by_hand_masked(self.program, self._cell(step), x, mask)

    def _cell(self, step: Step) -> Any:
        """The weights of a layer, as it is handed them."""
        return step.cell

    def _moves(self, cell: Cell) -> list[Tensor]:
        """The weights of a layer that training moves."""
        return [t for *_, t, _ in cell.rows() if id(t) in self.program.gradients]

    def _island(
        self, function: Callable[[Any], Tensor], x: Any, weights: list[Tensor], wanted: list[bool]
    ) -> tuple[Tensor, Pull]:
        return island(self.program, function, x, weights, wanted)

    def _made_by(self, reads: tuple[int, ...], makes: int, made: Any, pull: Any, *, moves: bool = False) -> None:
        self._values[makes] = made
        if moves or any(n in self._depends for n in reads):
            self._depends.add(makes)
            self._ways.append(Way(reads, makes, pull, self.marks[-1].layer))

    def _activate(self, activation: Activation, scores: int, makes: int) -> None:
        p, x = self.program, self._values[scores]
        # The activation overwrites what it is given: only what nobody else reads.
        others = (t for n, t in self._values.items() if n != scores and isinstance(t, Tensor))
        shared = any(t.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for t in others)
        found = activation.by_hand(p, p.make(torch.mul, x, p.constant(1.0, x)) if shared else x)
        if found is None:
            made, pull = self._island(activation, x, [], [True])
        else:
            made, pull = found[0], partial(_back, found[1])
        self._made_by((scores,), makes, made, pull)

    def _judge(self, place: int, goal: Goal, target: Tensor) -> Tensor | None:
        """Add the gradient of an output's loss; the loss itself, unless it follows from the output."""
        p, number, weight = self.program, self.network.ends[place], self._weights[place]
        mask = self._masks.get(number)
        out, read = self._values[number], self._precise(number)
        own = target.clone() if goal.loss.counts else target.to(read.dtype, copy=True)
        self._ys.append(own)
        own, rows = self._rows(own), self._rows(read)
        joins = goal.loss.joins(self.network.ends_in[place]) and scores_of(number) in self._values
        at = scores_of(number) if joins else number
        if at not in self._depends:
            raise Unable
        y_true, y_pred = paired(own, rows, cast=not goal.loss.counts)
        before, slope, value = len(p.operations), None, None
        if weight is None is mask and goal.loss.is_mean(y_true) and y_pred.dtype == read.dtype:
            share = p.copies * y_pred.shape[-1] / y_pred.numel()
            slope = goal.loss.by_hand(p, y_true, y_pred, share, joins)
        if slope is None:
            del p.operations[before:]
            scores = self._values[at] if joins else None
            slope, value = self._by_autograd(goal.loss, own, out, scores, weight, mask, goal.weight)
        elif goal.weight != 1.0:
            p.do(slope.mul_, p.constant(goal.weight, slope))
        self._add(at, p.cast(slope, out.dtype).view(out.shape))
        return value

    def _precise(self, number: int) -> Tensor:
        """An output in float32 at least, as losses and metrics read it."""
        if number not in self._read:
            out = self._values[number]
            self._read[number] = self.program.cast(out, floating(out).dtype)
        return self._read[number]

    def _rows(self, x: Tensor) -> Tensor:
        """A target or an output as the loss is to see it."""
        return x

    def _by_autograd(self, loss: Loss, *given: Any) -> tuple[Tensor, Tensor]:
        return through_autograd(self.program, loss, *given)

    def _add(self, number: int, slope: Tensor) -> None:
        if number in self._slopes:
            self.program.do(self._slopes[number].add_, slope)
        else:
            self._slopes[number] = slope

    def _back(self, way: Way) -> None:
        slope = self._slopes.pop(way.makes, None)
        if slope is None:
            return
        wanted = [n in self._depends for n in way.reads]
        found = [way.pull(slope, wanted[0])] if len(wanted) == 1 else way.pull(slope, wanted)
        for number, of_input in zip(way.reads, found, strict=True):
            if number in self._depends:
                self._add(number, of_input)

    def _penalize(self) -> Tensor | None:
        """Add the gradients of penalties on weights; what they come to."""
        penalized = self.network.penalized
        if not penalized:
            return None
        p, total = self.program, torch.zeros((), dtype=floating(penalized[0][1]).dtype)
        p.do(total.zero_)
        for regularizer, weight in penalized:
            p.penalize(regularizer, weight, total)
        return total


def _back(back: Callable[[Tensor], Tensor], slope: Tensor, wanted: bool) -> Tensor:
    return back(slope)


def scores_of(number: int) -> int:
    """What stands for the scores that the last activation makes a tensor from."""
    return -1 - number
