"""Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate and Dot against Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.several import hold_several, several_of
from trainer.errors import RecipeError
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.layers.plan import Plan

ELEMENTWISE = ["Add", "Subtract", "Average", "Multiply", "Maximum", "Minimum"]


def rows(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(size=shape).astype("float32")


def drawn(name: str, seed: int) -> tuple[list[tuple[int, ...]], list[bool] | None]:
    """(input shapes, which inputs have masks) of one configuration of a merge entry by entry."""
    random = np.random.default_rng([ELEMENTWISE.index(name), seed])
    count = 2 if name == "Subtract" else int(random.integers(2, 5))
    rank = int(random.integers(2, 6))
    whole = (4, *(int(n) for n in random.integers(2, 5, rank - 1)))
    shapes = [whole] * count
    if random.random() < 0.5:
        shapes = [
            whole,
            *(tuple(1 if a and random.random() < 0.3 else n for a, n in enumerate(whole)) for _ in shapes[1:]),
        ]
    if random.random() < 0.3:
        shapes = [shapes[0], *(s if random.random() < 0.5 or len(s) < 3 else (s[0], *s[2:]) for s in shapes[1:])]
    if random.random() < 0.5:
        shapes = [shapes[i] for i in random.permutation(count)]
    masked = None
    if rank == 3 and all(len(s) == 3 for s in shapes):
        masked = [bool(random.random() < 0.7) for _ in shapes]
    return shapes, masked


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_equals_keras(name: str, seed: int) -> None:
    shapes, masked = drawn(name, seed)
    random = np.random.default_rng(seed)
    masks = (
        None
        if masked is None
        else [random.random(s[:2]) < 0.6 if m else None for s, m in zip(shapes, masked, strict=True)]
    )
    hold_several(name, [rows(random, *s) for s in shapes], masks=masks, training=bool(seed % 2), seed=seed)


def test_the_draw_reaches_every_corner() -> None:
    found = [drawn(n, s) for n in ELEMENTWISE for s in range(60)]
    assert {len(s) for s, _ in found} == {2, 3, 4}
    assert {len({len(x) for x in s}) for s, _ in found} == {1, 2}
    assert {all(m) + any(m) for _, m in found if m is not None} == {0, 1, 2}
    assert sum(len(set(s)) > 1 for s, _ in found) > 100


@pytest.mark.parametrize("name", ["Multiply", "Maximum", "Minimum"])
def test_the_mask_of_an_input_that_gets_more_axes_is_forgotten(name: str) -> None:
    random = np.random.default_rng(1)
    xs = [rows(random, 4, 5, 3), rows(random, 4, 3)]
    hold_several(name, xs, masks=[random.random((4, 5)) < 0.5, None])


@pytest.mark.parametrize("seed", range(80))
def test_concatenate_equals_keras(seed: int) -> None:
    random = np.random.default_rng([7, seed])
    rank, count = int(random.integers(2, 6)), int(random.integers(2, 5))
    axis = int(random.integers(1, rank))
    shape = (4, *(int(n) for n in random.integers(2, 5, rank - 1)))
    shapes = [(*shape[:axis], int(random.integers(1, 5)), *shape[axis + 1 :]) for _ in range(count)]
    masks = None
    if rank == 3:
        masks = [random.random(s[:2]) < 0.5 if random.random() < 0.6 else None for s in shapes]
    spec = {"Concatenate": {"axis": axis if random.random() < 0.5 else axis - rank}}
    hold_several(spec, [rows(random, *s) for s in shapes], masks=masks, seed=seed)


@pytest.mark.parametrize("seed", range(80))
def test_dot_equals_keras(seed: int) -> None:
    random = np.random.default_rng([8, seed])
    n = int(random.integers(2, 5))
    ranks = [int(r) for r in random.integers(2, 5, 2)]
    axes = [int(random.integers(1, r)) for r in ranks]
    shapes = [
        (4, *(n if a == axis else int(random.integers(1, 5)) for a in range(1, r)))
        for r, axis in zip(ranks, axes, strict=True)
    ]
    axes = [a - r if random.random() < 0.4 else a for a, r in zip(axes, ranks, strict=True)]
    one = axes[0] == axes[1] and random.random() < 0.8
    spec = {"Dot": {"axes": axes[0] if one else axes, "normalize": bool(random.random() < 0.5)}}
    masks = [random.random(s[:2]) < 0.5 if len(s) == 3 else None for s in shapes] if random.random() < 0.3 else None
    hold_several(spec, [rows(random, *s) for s in shapes], masks=masks, seed=seed)


def test_unknown_sizes() -> None:
    assert several_of("Add", [(None, None, 3), (None, 4, 3)])[1] == (None, None, 3)
    assert several_of("Add", [(7, 1, 3), (None, 4, 3)])[1] == (7, 4, 3)
    assert several_of({"Concatenate": {"axis": 1}}, [(None, None, 3), (None, 4, 3)])[1] == (None, None, 3)
    assert several_of("Concatenate", [(None, None, 3), (None, 4, 2)])[1] == (None, None, 5)
    assert several_of({"Dot": {"axes": 1}}, [(None, None, 3), (None, 4, 2)])[1] == (None, 3, 2)


def test_normalized_zeros_stay_zero() -> None:
    cell, _ = several_of({"Dot": {"axes": 1, "normalize": True}}, [(None, 3), (None, 3)])
    x = torch.zeros(2, 3, requires_grad=True)
    out = cell([x, torch.ones(2, 3)])
    assert torch.equal(out, torch.zeros(2, 1))
    assert torch.isfinite(torch.autograd.grad(out.sum(), x)[0]).all()


CONFIGS = [
    *ELEMENTWISE,
    {"Add": {"name": "sum.a", "trainable": False}},
    "Concatenate",
    {"Concatenate": {"axis": 1}},
    {"Dot": {"axes": -1}},
    {"Dot": {"axes": [1, 2], "normalize": True}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


REFUSED = [
    ("Add", [(None, 3), (None, 4)], r"\(None, 3\) and \(None, 4\)"),
    ("Add", [(2, 3), (4, 3)], "one batch size"),
    ("Subtract", [(None, 3)] * 3, "exactly 2 inputs, found 3"),
    ("Concatenate", [(None, 3), (None, 4, 3)], "agree in all axes but 1"),
    ("Concatenate", [(None, 4, 3), (None, 5, 3)], "agree in all axes but 2"),
    ({"Concatenate": {"axis": 0}}, [(None, 3), (None, 3)], "found the batch"),
    ({"Concatenate": {"axis": 2}}, [(None, 3), (None, 3)], "found 2"),
    ({"Dot": {"axes": 1}}, [(None, 3), (None, 4)], r"found 3 \(axis 1\) and 4 \(axis 1\)"),
    ({"Dot": {"axes": 0}}, [(None, 3), (None, 3)], "found the batch"),
    ({"Dot": {"axes": 1}}, [(None, 3)] * 3, "exactly 2 inputs, found 3"),
]


@pytest.mark.parametrize(("spec", "shapes", "words"), REFUSED)
def test_refuses_inputs(spec: Any, shapes: list[tuple[int | None, ...]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shapes)


@pytest.mark.parametrize("spec", [*ELEMENTWISE, "Concatenate", {"Dot": {"axes": 1}}], ids=str)
def test_in_a_chain_the_error_has_a_place(spec: Any) -> None:
    layers = [Layer.parse({"Dense": {"units": 3}}), Layer.parse(spec)]
    with pytest.raises(RecipeError, match=r"expected a list of .* 2 inputs, found one; in a chain") as caught:
        chain(layers, {"x": (None, 4)})
    assert caught.value.problems[0].path == ("model", "layers", 1, type(layers[1]).__name__)


@pytest.mark.parametrize("name", ["Multiply", "Maximum", "Minimum", "Concatenate"])
def test_refuses_a_mask_of_other_axes(name: str) -> None:
    x = torch.zeros(2, 4, 5, 3)
    cell, _ = several_of(name, [(None, 4, 5, 3)] * 2)
    mask = [torch.ones(2, 4, dtype=torch.bool)] * 2
    with pytest.raises(RecipeError, match="one axis less"):
        cell.layer.compute_mask([x, x], mask) if name == "Concatenate" else cell([x, x], mask=mask)


@pytest.mark.parametrize("axes", [[1], [1, 2, 3], "last", 1.0, [1, None]])
def test_refuses_options(axes: Any) -> None:
    with pytest.raises(ValidationError, match="an integer or a list of two integers"):
        Layer.parse({"Dot": {"axes": axes}})
