"""Holds recurrent layers against Keras: several outputs, first and last states, masks, states kept between batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import torch
from keras.src import tree

from tests.parity.census import held
from tests.parity.drawing import MASKS, mask_of
from tests.parity.harness import TOLERANCE, close, random_weights
from trainer.layers.base import Layer
from trainer.layers.graph import parameters
from trainer.layers.plan import Plan
from trainer.model.cell import Cell, Clock
from trainer.native.compiler import compiler

Array = np.ndarray


def flat_shapes(shape: Any) -> list[tuple[int | None, ...]]:
    """The shapes in a nested structure of them, in order."""
    if isinstance(shape, (tuple, list)) and all(n is None or isinstance(n, int) for n in shape):
        return [tuple(shape)]
    return [s for part in shape for s in flat_shapes(part)]


def flat_masks(mask: Any) -> list[Any]:
    """The masks in a nested structure of them, in order; None stands for none."""
    return [m for part in mask for m in flat_masks(part)] if isinstance(mask, (list, tuple)) else [mask]


def drawn_mask(random: np.random.Generator, share: float, batch: int, time: int) -> Array | None:
    """A mask of any kind, or none."""
    if random.random() >= share or time < 2:
        return None
    return mask_of(str(random.choice(MASKS)), batch, time, random)


class RecurrentTwins:
    """Our layer and Keras's for one shape of sequence, with equal weights."""

    def __init__(self, spec: Any, shape: tuple[int | None, ...], given: int = 0, seed: int = 0):
        self.spec, self.layer, plan = spec, Layer.parse(spec), Plan()
        self.twin: Any = keras.layers.deserialize({**self.layer.to_keras()})
        self.twin.name = "layer"
        each: Any
        for each in (self.twin, *(getattr(self.twin, n, None) for n in ("forward_layer", "backward_layer"))):
            if getattr(each, "stateful", False) and hasattr(each, "use_cudnn"):
                # Keras's faster way overwrites the state that its own gradient needs.
                each.use_cudnn = False
        self.twin.build(shape)
        held(self.layer, shape, given)
        states = self.states_of(shape[0])[:given] if given else []
        self.out = self.layer.build(plan, [shape, *(tuple(s) for s in states)] if given else shape)
        self.cell = Cell(self.layer, plan, "layer", Clock(0))
        # In training every other pair of seeds goes by compiled code, where there is some.
        self.cell.clock.compiles = compiler() is not None and bool(seed // 2 % 2)
        variables = [*self.twin.trainable_weights, *self.twin.non_trainable_weights]
        self.variables = [v for v in variables if "seed_generator" not in v.path]
        self.hold_weights(plan)
        for (_, _, tensor, _), value, variable in zip(
            self.cell.rows(), random_weights(self.cell, seed), self.variables, strict=True
        ):
            tensor.data.copy_(torch.from_numpy(value))
            variable.assign(value)

    def hold_weights(self, plan: Plan) -> None:
        mine = [(path, tuple(t.shape)) for _, path, t, _ in self.cell.rows()]
        assert mine == [(v.path, tuple(v.shape)) for v in self.variables], self.spec
        assert sum(parameters(self.layer, plan)) == self.twin.count_params()

    def states_of(self, batch: int | None) -> list[Any]:
        """Shapes of the first states that Keras expects, flat."""
        both = getattr(self.twin, "forward_layer", None)
        layers = [self.twin] if both is None else [both, self.twin.backward_layer]
        made = [tree.map_structure(lambda t: t, each.get_initial_state(batch or 2)) for each in layers]
        return [tuple(t.shape) for t in tree.flatten(made)]

    def structured(self, states: list[torch.Tensor]) -> Any:
        """Flat states in Keras's nesting."""
        both = getattr(self.twin, "forward_layer", None)
        if both is not None:
            return states
        return tree.pack_sequence_as(self.twin.get_initial_state(2), states)

    def ours(self, x: torch.Tensor, states: Sequence[torch.Tensor], mask: torch.Tensor | None) -> list[torch.Tensor]:
        out = self.cell([x, *states] if states else x, mask=mask)
        return out if isinstance(out, list) else [out]

    def theirs(
        self, x: torch.Tensor, states: list[torch.Tensor], mask: torch.Tensor | None, training: bool
    ) -> list[torch.Tensor]:
        more: dict[str, Any] = {"initial_state": self.structured(states)} if states else {}
        return tree.flatten(self.twin(x, mask=mask, training=training, **more))

    def hold(
        self, x: Array, given: Sequence[Array] = (), mask: Array | None = None, training: bool = False, seed: int = 0
    ) -> None:
        """Outputs, states, shapes, masks and all gradients for one batch."""
        self.cell.train(training)
        mine, other = ([torch.from_numpy(a.copy()).requires_grad_() for a in (x, *given)] for _ in range(2))
        kept = None if mask is None else torch.from_numpy(mask)
        ours = self.ours(mine[0], mine[1:], kept)
        theirs = self.theirs(other[0], other[1:], kept, training)
        assert len(ours) == len(theirs), f"{self.spec}: {len(ours)} outputs, Keras has {len(theirs)}"
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            close(a, b, f"{self.spec}: output {number}")
        assert [tuple(t.shape)[1:] for t in ours] == [s[1:] for s in flat_shapes(self.out)]
        pull = np.random.default_rng(seed + 1)
        pulls = [torch.from_numpy(pull.normal(size=tuple(t.shape)).astype("float32")) for t in ours]
        found = []
        for outs, inputs, weights in (
            (ours, mine, [t for _, _, t, moves in self.cell.rows() if moves]),
            (theirs, other, [v.value for v in self.twin.trainable_weights]),
        ):
            total = torch.stack([(out * p).sum() for out, p in zip(outs, pulls, strict=True)]).sum()
            found.append(torch.autograd.grad(total, [*inputs, *weights], allow_unused=True))
        self.hold_gradients(*found)

    def hold_gradients(self, ours: Any, theirs: Any) -> None:
        largest = max(float(g.abs().max()) for g in theirs if g is not None)
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a, b = (torch.zeros(()) if g is None else g for g in (a, b))
            worst = float((a - b).abs().max()) if a.numel() and b.numel() else 0.0
            assert worst <= TOLERANCE * largest, f"{self.spec}: gradient {number} off by {worst:.1e} of {largest:.1e}"

    def hold_shapes(self, shape: tuple[int | None, ...]) -> None:
        """Every output's shape as Keras infers it."""
        plan = Plan()
        found = flat_shapes(self.layer.build(plan, shape))
        assert found == flat_shapes(self.twin.compute_output_shape(shape)), self.spec

    def hold_masks(self, x: Array, mask: Array) -> None:
        """Which masks go on, as Keras says."""
        steps = torch.from_numpy(mask)
        ours, theirs = (flat_masks(each.compute_mask(torch.from_numpy(x), steps)) for each in (self.layer, self.twin))
        assert len(ours) >= len(theirs)
        for number, a in enumerate(ours):
            b = theirs[number] if number < len(theirs) else None
            assert (a is None) == (b is None), self.spec
            if a is not None:
                close(a, b, f"{self.spec}: mask {number}")


def states_for(twins: RecurrentTwins, batch: int, seed: int) -> list[Array]:
    """First states with nothing at zero."""
    random = np.random.default_rng([seed, 5])
    return [random.normal(size=(batch, *s[1:])).astype("float32") for s in twins.states_of(batch)]


def hold_nested_config(spec: Any, *skip: str) -> None:
    """Our config reads back, and the one that Keras writes after reading ours is the same, all the way down."""
    layer = Layer.parse(spec)
    assert Layer.parse(layer.spec()) == layer
    ours = json.loads(json.dumps(layer.to_keras()))
    theirs = json.loads(json.dumps(keras.saving.serialize_keras_object(keras.layers.deserialize(layer.to_keras()))))
    left, right = (_pruned(c, {"dtype", "build_config", "shared_object_id", *skip}) for c in (ours, theirs))
    if not layer.name:
        for config in (left, right):
            config["config"].pop("name")
    assert left == right


def _pruned(value: Any, skip: set[str]) -> Any:
    if isinstance(value, dict):
        return {k: _pruned(v, skip) for k, v in value.items() if k not in skip}
    return [_pruned(v, skip) for v in value] if isinstance(value, list) else value
