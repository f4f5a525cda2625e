"""Holds our layers against real Keras: equal weights in, equal outputs, gradients, masks, shapes and names out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch

from tests.parity.census import held
from trainer.layers import arrays
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.model.cell import Cell, Clock

TOLERANCE = 1e-5


def close(ours: Any, theirs: Any, what: str, tolerance: float = TOLERANCE, least: float = 1e-6) -> None:
    """Equal within `tolerance` of the scale of Keras's values, or of the `least` one that is told from rounding."""
    a, b = as_numpy(ours), as_numpy(theirs)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, Keras has {b.shape}"
    if b.size == 0:
        return
    if b.dtype.kind in "biuSUO":
        np.testing.assert_array_equal(a, b, err_msg=what)
        return
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b), err_msg=f"{what}: NaN")
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    scale = max(float(np.abs(b).max()), least)
    worst = float(np.abs(a - b).max()) / scale
    assert worst <= tolerance, f"{what}: differs by {worst:.2e} of the scale {scale:.3g}"


def as_numpy(value: Any) -> np.ndarray:
    return arrays.as_numpy(value) if isinstance(value, torch.Tensor) else np.asarray(value)


def cell_of(spec: Any, shape: tuple[int | None, ...], seed: int = 0) -> tuple[Cell, tuple[int | None, ...]]:
    """A built layer of ours and its output shape; `shape` begins with the batch."""
    layer = Layer.parse(spec)
    plan = Plan()
    out = layer.build(plan, shape)
    return Cell(layer, plan, "layer", Clock(seed)), out


def twin_of(layer: Layer, shape: tuple[int | None, ...]) -> keras.layers.Layer:
    """The real Keras layer made from our config, built for `shape`."""
    twin = keras.layers.deserialize(layer.to_keras())
    twin.build(shape)
    held(layer, shape)
    return twin


def random_weights(cell: Cell, seed: int = 0) -> list[np.ndarray]:
    """Weights with nothing at its default; variances stay positive."""
    random = np.random.default_rng(seed)
    made = []
    for spec, _, tensor, _ in cell.rows():
        value = random.normal(0, 0.5, tuple(tensor.shape))
        made.append((np.abs(value) + 0.1 if "variance" in spec.name else value).astype("float32"))
    return made


def hold_layer(
    spec: Any,
    x: np.ndarray,
    *,
    training: bool = False,
    mask: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> None:
    """One configuration: build both with equal weights; hold names, shapes, forward, gradients, mask and state."""
    shape = (None, *x.shape[1:])
    cell, out_shape = cell_of(spec, shape)
    layer = cell.layer
    twin = twin_of(layer, shape)
    rows = list(cell.rows())
    mine = [(s.name, tuple(t.shape)) for s, _, t, _ in rows]
    theirs = [(v.name, tuple(v.shape)) for v in (*twin.trainable_weights, *twin.non_trainable_weights)]
    assert mine == [t for t in theirs if "seed_generator" not in t[0]], f"{spec}: weights {mine}, Keras has {theirs}"
    values = random_weights(cell, seed)
    with torch.no_grad():
        for (_, _, tensor, _), value, variable in zip(
            rows, values, (*twin.trainable_weights, *twin.non_trainable_weights), strict=False
        ):
            tensor.copy_(torch.from_numpy(value))
            variable.assign(value)
    cell.train(training)
    floating = x.dtype.kind == "f"
    ours_x, their_x = (torch.from_numpy(x.copy()).requires_grad_(floating) for _ in range(2))
    args = {"mask": torch.from_numpy(mask)} if mask is not None else {}
    ours = cell(ours_x, **args) if layer.takes_mask else cell(ours_x)
    extra = {"training": training} if twin._call_has_training_arg else {}
    masked = {"mask": torch.from_numpy(mask)} if mask is not None and "mask" in twin._call_signature.parameters else {}
    their = twin(their_x, **masked, **extra)
    close(ours, their, f"{spec}: output")
    expected = tuple(n if n is None else int(n) for n in twin.compute_output_shape(shape))
    assert tuple(out_shape) == expected, f"{spec}: shape {out_shape}, Keras infers {expected}"
    if mask is not None:
        hold_mask(spec, layer, twin, ours_x, torch.from_numpy(mask))
    if ours.requires_grad or their.requires_grad:
        hold_gradients(spec, cell, twin, ours, their, ours_x, their_x, tolerance, seed)
    for (_, path, tensor, _), variable in zip(
        cell.rows(), (*twin.trainable_weights, *twin.non_trainable_weights), strict=False
    ):
        close(tensor, variable.value, f"{spec}: {path} after the call", tolerance)


def hold_mask(spec: Any, layer: Layer, twin: Any, x: torch.Tensor, mask: torch.Tensor) -> None:
    theirs = twin.compute_mask(x, mask) if hasattr(twin, "compute_mask") and twin.supports_masking else None
    ours = layer.compute_mask(x, mask)
    assert (ours is None) == (theirs is None), f"{spec}: mask {ours}, Keras has {theirs}"
    if ours is not None:
        close(ours, theirs, f"{spec}: mask")


def hold_gradients(
    spec: Any, cell: Cell, twin: Any, ours: Any, their: Any, ours_x: Any, their_x: Any, tolerance: float, seed: int
) -> None:
    pull = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=tuple(ours.shape)).astype("float32"))
    (ours * pull).sum().backward()
    (their * pull).sum().backward()
    if ours_x.requires_grad:
        close(ours_x.grad, their_x.grad, f"{spec}: gradient of the input", tolerance)
    moving = [(p, t) for _, p, t, m in cell.rows() if m]
    for (path, tensor), variable in zip(moving, twin.trainable_weights, strict=True):
        close(tensor.grad, variable.value.grad, f"{spec}: gradient of {path}", tolerance)
