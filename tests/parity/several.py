"""Holds a layer of several inputs against real Keras, as the harness holds one of a single input."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import torch
from keras.src import backend

from tests.parity.census import held
from tests.parity.harness import TOLERANCE, close, random_weights
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.model.cell import Cell, Clock

Array = np.ndarray


def several_of(spec: Any, shapes: Sequence[tuple[int | None, ...]], seed: int = 0) -> tuple[Cell, Any]:
    """A built layer of ours for several inputs, and its output shape."""
    layer = Layer.parse(spec)
    plan = Plan()
    out = layer.build(plan, list(shapes))
    return Cell(layer, plan, "layer", Clock(seed)), out


class Twins:
    """Our layer and Keras's, equal weights. `apart`: Keras takes the inputs one by one, not as a list."""

    def __init__(self, spec: Any, shapes: Sequence[tuple[int | None, ...]], apart: bool, seed: int):
        self.spec, self.apart, self.shapes = spec, apart, list(shapes)
        self.cell, self.shape = several_of(spec, shapes)
        self.twin: Any = keras.layers.deserialize(self.cell.layer.to_keras())
        self.twin.build(*self.shapes) if apart else self.twin.build(self.shapes)
        held(self.cell.layer, shapes)
        variables = [*self.twin.trainable_weights, *self.twin.non_trainable_weights]
        self.variables = [v for v in variables if "seed_generator" not in v.path]
        rows = list(self.cell.rows())
        mine = [(path.split("/", 1)[1], tuple(t.shape)) for _, path, t, _ in rows]
        theirs = [(v.path.split("/", 1)[1], tuple(v.shape)) for v in self.variables]
        assert mine == theirs, f"{spec}: weights {mine}, Keras has {theirs}"
        for (_, _, tensor, _), value, variable in zip(
            rows, random_weights(self.cell, seed), self.variables, strict=True
        ):
            tensor.data.copy_(torch.from_numpy(value))
            variable.assign(value)

    def ours(self, xs: list[torch.Tensor], masks: list[torch.Tensor | None] | None) -> torch.Tensor:
        return self.cell(xs, mask=masks) if self.cell.layer.takes_mask else self.cell(xs)

    def theirs(self, xs: list[torch.Tensor], masks: list[torch.Tensor | None] | None, training: bool) -> Any:
        for x, mask in zip(xs, masks or [], strict=False):
            if mask is not None:
                backend.set_keras_mask(x, mask)
        more = {"training": training} if self.twin._call_has_training_arg else {}
        if getattr(self.cell.layer, "use_causal_mask", False):
            more["use_causal_mask"] = True
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Layer .* was passed an input with a mask", UserWarning)
            return self.twin(*xs, **more) if self.apart else self.twin(xs, **more)


def hold_several(
    spec: Any,
    xs: Sequence[Array],
    *,
    masks: Sequence[Array | None] | None = None,
    training: bool = False,
    apart: bool = False,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> None:
    """One configuration: weights, output, its shape and mask, gradients and penalties, all as Keras has them."""
    shapes = [(None, *x.shape[1:]) for x in xs]
    made = Twins(spec, shapes, apart, seed)
    made.cell.train(training)
    mine, other = ([torch.from_numpy(x.copy()).requires_grad_() for x in xs] for _ in range(2))
    kept = None if masks is None else [None if m is None else torch.from_numpy(m) for m in masks]
    with Penalties(made.cell) as penalties:
        ours = made.ours(mine, kept)
    theirs = made.theirs(other, kept, training)
    close(ours, theirs, f"{spec}: output", tolerance)
    inferred = made.twin.compute_output_shape(*shapes) if apart else made.twin.compute_output_shape(shapes)
    assert tuple(made.shape) == tuple(inferred), f"{spec}: shape {made.shape}, Keras infers {inferred}"
    assert tuple(ours.shape)[1:] == tuple(made.shape)[1:]
    parameters = sum(t.numel() for _, _, t, _ in made.cell.rows())
    assert parameters == sum(int(np.prod(v.shape)) for v in made.variables)
    hold_output_mask(spec, made.cell.layer.compute_mask(mine, kept) if kept else None, backend.get_keras_mask(theirs))
    expected = sum(float(loss.detach()) for loss in made.twin.losses)
    assert abs(penalties.total(ours) - expected) <= 1e-5 * max(1.0, expected)
    pull = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=tuple(ours.shape)).astype("float32"))
    (ours * pull).sum().backward()
    (theirs * pull).sum().backward()
    largest = max(float(x.grad.abs().max()) for x in other if x.grad is not None)
    for number, (a, b) in enumerate(zip(mine, other, strict=True)):
        slopes_close(a.grad, b.grad, largest, f"{spec}: gradient of input {number}", tolerance)
    moving = [(p, t) for _, p, t, m in made.cell.rows() if m]
    pairs = list(zip(moving, made.twin.trainable_weights, strict=True))
    largest = max((float(v.value.grad.abs().max()) for _, v in pairs), default=0.0)
    for (path, tensor), variable in pairs:
        slopes_close(tensor.grad, variable.value.grad, largest, f"{spec}: gradient of {path}", tolerance)


def slopes_close(ours: Any, theirs: Any, largest: float, what: str, tolerance: float) -> None:
    """Equal within `tolerance` of the largest gradient: a key's bias, say, has none but for rounding."""
    a, b = (torch.zeros(()) if g is None else g.detach() for g in (ours, theirs))
    worst = float((a - b).abs().max())
    assert worst <= tolerance * max(largest, 1e-3), f"{what}: differs by {worst:.2e}, the largest is {largest:.3g}"


def hold_output_mask(spec: Any, ours: torch.Tensor | None, theirs: torch.Tensor | None) -> None:
    assert (ours is None) == (theirs is None), f"{spec}: mask {ours}, Keras has {theirs}"
    if ours is not None:
        close(ours, theirs, f"{spec}: mask")


class Penalties:
    """Adds up penalties on what inner layers make, as a network is to count them."""

    def __init__(self, cell: Cell):
        self.cell, self.found, self.hooks = cell, [], []

    def __enter__(self) -> Penalties:
        for inner in self.cell.children():
            self.hooks.append(inner.register_forward_hook(self._add))
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def _add(self, inner: Any, _: Any, out: torch.Tensor) -> None:
        penalty = getattr(inner.layer, "activity_regularizer", None)
        if penalty is not None:
            self.found.append(penalty.penalty(out) / out.shape[0])

    def total(self, out: torch.Tensor) -> float:
        """With the layer's own on its output."""
        own = getattr(self.cell.layer, "activity_regularizer", None)
        found = [*self.found, own.penalty(out) / out.shape[0]] if own is not None else self.found
        return sum(float(penalty.detach()) for penalty in found)
