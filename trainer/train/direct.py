"""The step engine without autograd: a network, its losses and the way back as one row of operations.

What can say its own gradient (`by_hand`) becomes operations of a Program; layers that can't run through autograd as
islands between them, which take tensors in at their border and hand gradients out there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.layers.base import Layer
from trainer.model.cell import Cell
from trainer.model.network import Network
from trainer.optimizers.updater import Updater
from trainer.optimizers.updaters import Updaters
from trainer.program import Program
from trainer.train.feed import Batch
from trainer.train.islands import Unable
from trainer.train.objective import Objective
from trainer.train.passes import Pass
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
    if any(step.parts for step in network.steps):
        return "a layer makes several tensors"
    for cell in network.modules():
        if isinstance(cell, Cell) and getattr(cell.layer, "activity_regularizer", None) is not None:
            return "there are penalties on outputs"
        if isinstance(cell, Cell) and cell.layer.mixes_targets:
            return "rows are mixed"
    known = [s for s in network.steps if type(s.cell.layer).by_hand is not Layer.by_hand]
    return "" if 2 * len(known) >= len(network.steps) else "most layers leave their gradient to autograd"


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
            # Whatever is drawn for it will be drawn anew.
            found = self._passes[key] = self.built(self._given(batch))
        if found is None:
            return None
        batch = self._given(batch)
        found.run(batch)
        self.updater.apply_written()
        return found.seen(batch)

    def _given(self, batch: Batch) -> Batch:
        """The batch as the model itself is given it."""
        if not self.network.fronts:
            return batch
        return Batch(self.network.through_fronts(batch.xs), batch.ys, batch.weights)

    def built(self, batch: Batch) -> Pass | None:
        """The program for batches like this, which has run once; what that moved beside gradients is put back.

        None when autograd must see to it.
        """
        with self.network.unmoved(self.updater.parameters):
            try:
                program = Program(self._views, compiles=self.network.clock.compiles)
                made = Pass(self.network, self.objective, program, batch)
            except Unable:
                return None
            self.watch(made)
            return made
