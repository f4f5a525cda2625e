"""The step engine without autograd: a network, its losses and the way back as one row of operations.

What can say its own gradient (`by_hand`) becomes operations of a Program; layers that can't run through autograd as
islands between them, which take tensors in at their border and hand gradients out there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer.activations.base import Activation
from trainer.layers.base import Layer
from trainer.losses.base import Loss
from trainer.losses.shaping import floating, paired
from trainer.model.network import Cell, Network, Step
from trainer.optimizers.updater import Updater
from trainer.optimizers.updaters import Updaters
from trainer.program import Program, Pull
from trainer.regularizers.base import Regularizer
from trainer.train.backward import gradients
from trainer.train.feed import Batch
from trainer.train.objective import Goal, Objective
from trainer.train.scores import Seen

MOST_PROGRAMS = 8
"Batches of so many different shapes get a program each; a model that sees more of them is left to autograd."


def hindrance(network: Network, updater: Updater | Updaters) -> str:
    """Why a model's steps are left to autograd as a whole; empty when they need not be."""
    if not isinstance(updater, Updater):
        return "there are several optimizers"
    if updater.dynamic is not None or updater.scale != 1.0:
        return "the loss is scaled"
    if len(updater.blocks) > 1:
        return "weights are of several number types"
    if updater.weight.device.type != "cpu":
        return "it runs on a GPU"
    if network.masked:
        return "there are masks"
    if network.fronts:
        return "preprocessing draws anew for each batch"
    if any(step.parts for step in network.steps):
        return "a layer makes several tensors"
    for cell in network.modules():
        if isinstance(cell, Cell) and cell.layer.dtype is not None:
            return "layers have number types of their own"
        if isinstance(cell, Cell) and getattr(cell.layer, "activity_regularizer", None) is not None:
            return "there are penalties on outputs"
        if isinstance(cell, Cell) and cell.layer.mixes_targets:
            return "rows are mixed"
    known = [s for s in network.steps if type(s.cell.layer).by_hand is not Layer.by_hand]
    return "" if 2 * len(known) >= len(network.steps) else "most layers leave their gradient to autograd"


class Unable(Exception):
    """A batch of this shape must go through autograd."""


class Direct:
    """Steps of one training: a program for each shape that batches come in."""

    def __init__(self, network: Network, objective: Objective, updater: Updater):
        self.network, self.objective, self.updater = network, objective, updater
        self._views = {id(p): view for p, view in zip(updater.parameters, updater.gradients(), strict=True)}
        self._passes: dict[tuple[Any, ...], Pass | None] = {}
        self.watch: Callable[[Pass], Any] = lambda made: None
        "Told of each program that is made, before its first step."

    def step(self, batch: Batch) -> Seen | None:
        """Update the weights by a batch; None, and nothing is done, when autograd must see to it."""
        key = tuple([x.shape for x in batch.xs])
        found = self._passes.get(key)
        if found is None:
            if key in self._passes or len(self._passes) >= MOST_PROGRAMS:
                return None
            found = self._passes[key] = self._built(batch)
        if found is None:
            return None
        found.run(batch)
        self.updater.apply_written()
        return found.seen(batch)

    def _built(self, batch: Batch) -> Pass | None:
        """The program, which has run once; what that moved beside gradients is put back."""
        still = [tensor for _, _, tensor, _ in self.network.rows() if id(tensor) not in self._views]
        kept = [(t, t.clone()) for t in (*still, *self.network.states().values())]
        try:
            made = Pass(self.network, self.objective, self._views, batch)
            self.watch(made)
            return made
        except Unable:
            return None
        finally:
            for tensor, before in kept:
                tensor.copy_(before)
            self.network.forget_draws()


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

    copies = 1
    "Models that stand side by side."

    def __init__(self, network: Network, objective: Objective, views: Mapping[int, Tensor], batch: Batch):
        self.network, self.program, self._views = network, Program(views, self.copies), views
        self._xs = [x.clone() for x in batch.xs]
        self._ys: list[Tensor] = []
        self._weights = [None if w is None else w.clone() for w in batch.weights]
        self._values: dict[int, Any] = dict(zip(network.starts, self._xs, strict=True))
        self._slopes: dict[int, Tensor] = {}
        self._depends: set[int] = set()
        "Tensors that depend on weights that move."
        self._ways: list[Way] = []
        self.marks: list[Mark] = []
        for step in network.steps:
            self._mark("forward", step.cell.path)
            self._forward(step)
        self._mark("loss")
        goals = enumerate(objective.goals.values())
        self._losses = [self._judge(place, goal, batch.ys[place]) for place, goal in goals]
        for way in reversed(self._ways):
            self._mark("backward", way.layer)
            self._back(way)
        self._mark("loss")
        self._penalty = self._penalize()
        if not self.program.complete():
            raise Unable
        self._outputs = [self._values[n] for n in network.ends]
        self._no_masks = (None,) * len(self._outputs)
        self._form = object()
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

    def seen(self, batch: Batch) -> Seen:
        """What the last run made of its batch, copied."""
        outputs = tuple([output.clone() for output in self._outputs])
        losses = self._unknown or tuple([None if loss is None else loss.clone() for loss in self._losses])
        rest = None if self._penalty is None else self._penalty.clone()
        return Seen(batch, outputs, self._no_masks, losses, rest, None, self._form)

    def _mark(self, part: str, layer: str = "") -> None:
        self.marks.append(Mark(len(self.program.operations), part, layer))

    def _forward(self, step: Step) -> None:
        """Add a layer's operations, and those of the last activation as if it were a layer of its own."""
        xs = [self._values[n] for n in step.reads]
        x, before = xs[0] if len(xs) == 1 else xs, len(self.program.operations)
        plain = not step.options and isinstance(step.layer, Layer)
        found = step.layer.by_hand(self.program, self._cell(step), x) if plain else None
        weights = self._moves(step.cell)
        if found is None:
            del self.program.operations[before:]
            inside = partial(step.layer.forward, step.cell, **step.options)
            found = self._island(inside, x, weights, [n in self._depends for n in step.reads])
        makes = step.makes if step.last is None else scores_of(step.makes)
        self._made_by(step.reads, makes, *found, moves=bool(weights))
        if step.last is not None:
            self._activate(step.last, makes, step.makes)

    def _cell(self, step: Step) -> Any:
        """The weights of a layer, as it is handed them."""
        return step.cell

    def _moves(self, cell: Cell) -> list[Tensor]:
        """The weights of a layer that training moves."""
        return [t for *_, t, _ in cell.rows() if id(t) in self._views]

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
        out = self._values[number]
        own = target.clone() if goal.loss.counts else target.to(floating(out).dtype, copy=True)
        self._ys.append(own)
        own, rows = self._rows(own), self._rows(out)
        joins = goal.loss.joins(self.network.ends_in[place]) and scores_of(number) in self._values
        at = scores_of(number) if joins else number
        if at not in self._depends:
            raise Unable
        y_true, y_pred = paired(own, rows, cast=not goal.loss.counts)
        before, slope, value = len(p.operations), None, None
        if weight is None and goal.loss.is_mean(y_true) and y_pred.dtype == out.dtype:
            share = self.copies * y_pred.shape[-1] / y_pred.numel()
            slope = goal.loss.by_hand(p, y_true, y_pred, share, joins)
        if slope is None:
            del p.operations[before:]
            slope, value = self._by_autograd(goal.loss, own, out, self._values[at] if joins else None, weight)
        slope = slope.view(out.shape)
        if goal.weight != 1.0:
            p.do(slope.mul_, p.constant(goal.weight, slope))
        self._add(at, slope)
        return value

    def _rows(self, x: Tensor) -> Tensor:
        """A target or an output as the loss is to see it."""
        return x

    def _by_autograd(self, loss: Loss, *tensors: Any) -> tuple[Tensor, Tensor]:
        return through_autograd(self.program, loss, *tensors)

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
        p, total = self.program, torch.zeros(())
        p.do(total.zero_)
        for regularizer, weight in penalized:
            take = p.receiver(weight)
            assert take is not None
            p.do(_penalty, regularizer, weight.detach(), total, take)
        return total


def _penalty(regularizer: Regularizer, weight: Tensor, total: Tensor, take: Callable[[Tensor], Any]) -> None:
    total.add_(regularizer.penalty(weight))
    take(regularizer.slope(weight))


def _back(back: Callable[[Tensor], Tensor], slope: Tensor, wanted: bool) -> Tensor:
    return back(slope)


def scores_of(number: int) -> int:
    """What stands for the scores that the last activation makes a tensor from."""
    return -1 - number


def island(
    p: Program, function: Callable[[Any], Tensor], x: Any, weights: list[Tensor], wanted: list[bool]
) -> tuple[Tensor, Pull]:
    """`function(x)`, differentiated by autograd, as operations of a program.

    Raises:
        Unable: it makes no single tensor, or one without a gradient.
    """
    xs = x if isinstance(x, list) else [x]
    kept: dict[str, Any] = {}

    def forward() -> Tensor:
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(need) for t, need in zip(xs, wanted, strict=True)]
            made = function(leaves if isinstance(x, list) else leaves[0])
        if not isinstance(made, Tensor):
            raise Unable
        kept.update(made=made, leaves=leaves)
        return made.detach()

    out = forward().clone()
    p.operations.append(lambda: out.copy_(forward()))

    def pull(slope: Tensor, asked: Any) -> Any:
        slopes = [torch.empty_like(t) if need else None for t, need in zip(xs, wanted, strict=True)]
        takes = [take for take in map(p.receiver, weights) if take is not None]
        takes += [s.copy_ for s in slopes if s is not None]

        def back() -> None:
            leaves = [leaf for leaf in kept["leaves"] if leaf.requires_grad]
            found = gradients([kept["made"]], [slope], [*weights, *leaves])
            for take, gradient in zip(takes, found, strict=True):
                if gradient is None:
                    raise Unable
                take(gradient)

        if not kept["made"].requires_grad:
            raise Unable
        p.do(back)
        return slopes if isinstance(x, list) else slopes[0]

    return out, pull


def through_autograd(
    p: Program, loss: Loss, y: Tensor, out: Tensor, scores: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(the gradient at the scores, or else at the output, the loss), as operations of a program."""
    slope, kept = torch.empty_like(out), torch.zeros(())

    def judge() -> None:
        with torch.enable_grad():
            leaf = (out if scores is None else scores).detach().requires_grad_()
            value = loss(y, leaf if scores is None else out, weight, None, None if scores is None else leaf)
            (found,) = gradients([value], [torch.ones_like(value)], [leaf])
        if found is None:
            raise Unable
        slope.copy_(found)
        kept.copy_(value.detach())

    p.do(judge)
    return slope, kept
