"""ReLU, LeakyReLU, PReLU, ELU and Softmax as layers against Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import normal
from tests.parity.harness import cell_of, close, hold_layer, twin_of
from tests.train.recipes import loaded
from trainer.block import problems_of
from trainer.errors import RecipeError
from trainer.layers.base import Layer
from trainer.layers.plan import Plan

NAMES = ["ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"]


def drawn(name: str, seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape) of one configuration."""
    random = np.random.default_rng([NAMES.index(name), seed])
    rank = int(random.integers(2, 6))
    shape = (4, *(int(n) for n in random.integers(2, 5, rank - 1)))
    axes = [int(a) for a in random.permutation(np.arange(1, rank))[: int(random.integers(1, rank))]]
    number = float(random.choice([0.0, 0.3, 1.0]))
    if name == "ReLU":
        most = [None, 0.0, 0.7, 6.0][int(random.integers(4))]
        return {"max_value": most, "negative_slope": number, "threshold": float(random.choice([0.0, 0.4, 1.0]))}, shape
    if name == "LeakyReLU":
        return {"negative_slope": float(random.choice([0.0, 0.1, 0.3, 2.0]))}, shape
    if name == "ELU":
        return {"alpha": float(random.choice([0.0, 0.5, 1.0, 2.0, -0.5]))}, shape
    if name == "PReLU":
        shared = [None, axes, axes[0]][int(random.integers(3))]
        return {"shared_axes": shared, "trainable": bool(random.random() < 0.8)}, shape
    axes = [a - rank if random.random() < 0.5 else a for a in axes]
    return {"axis": axes[0] if random.random() < 0.4 else axes}, shape


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("name", NAMES)
def test_equals_keras(name: str, seed: int) -> None:
    options, shape = drawn(name, seed)
    x = normal(seed, *shape) * 2
    mask = np.random.default_rng(seed).random(shape[:2]) < 0.5 if len(shape) == 3 and name != "Softmax" else None
    hold_layer({name: options}, x, training=bool(seed % 2), mask=mask, seed=seed)


def test_the_draw_reaches_every_corner() -> None:
    found = [drawn("ReLU", seed)[0] for seed in range(60)]
    assert len({tuple(o.values()) for o in found}) > 25
    assert {type(drawn("PReLU", seed)[0]["shared_axes"]) for seed in range(60)} == {list, int, type(None)}


@pytest.mark.parametrize("seed", range(40))
def test_softmax_of_what_is_not_masked(seed: int) -> None:
    """Masks of the input's shape or broadcast to it, of rows in which nothing counts too."""
    random = np.random.default_rng([11, seed])
    shape = (4, *(int(n) for n in random.integers(2, 5, int(random.integers(1, 4)))))
    axes = [int(a) for a in random.permutation(np.arange(1, len(shape)))[: int(random.integers(1, len(shape)))]]
    kept = tuple(1 if random.random() < 0.2 else n for n in shape)[int(random.integers(0, 2)) :]
    mask = random.random(kept) < 0.6
    mask[0] = False
    spec = {"Softmax": {"axis": axes[0] if len(axes) == 1 else axes}}
    hold_layer(spec, normal(seed, *shape), mask=mask, seed=seed)


def test_softmax_refuses_a_mask_that_does_not_fit() -> None:
    cell, _ = cell_of("Softmax", (None, 4, 3))
    with pytest.raises(RecipeError, match=r"expected a mask that fits the input \(2, 4, 3\), found \(2, 4\)"):
        cell(torch.zeros(2, 4, 3), mask=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="broadcastable"):
        twin_of(cell.layer, (None, 4, 3))(torch.zeros(2, 4, 3), mask=torch.ones(2, 4, dtype=torch.bool))


def test_softmax_may_end_a_classifier() -> None:
    """A loss that needs probabilities sees them."""
    text = """
dataset: {source: digits, inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}]}}, targets: {label: {}}}
model: {layers: [{Dense: {units: 10}}, LAST]}
compile: {optimizer: SGD, loss: sparse_categorical_crossentropy}
fit: {epochs: 1}
"""
    assert loaded(text.replace("LAST", "Softmax")).recipe
    with pytest.raises(RecipeError, match="needs probabilities"):
        loaded(text.replace("LAST", "ReLU"))


def test_borders_of_relu() -> None:
    x = np.array([[-1, 0, 0.5, 1, 6, 7, np.inf, -np.inf]], dtype="float32")
    for options in ({"threshold": 0.5}, {"max_value": 6}, {"max_value": 6, "threshold": 1}, {"threshold": 1.0}):
        cell, _ = cell_of({"ReLU": options}, (None, 8))
        ours, theirs = cell(torch.from_numpy(x)), twin_of(cell.layer, (None, 8))(torch.from_numpy(x))
        assert torch.equal(ours, theirs)


def test_prelu_starts_as_relu() -> None:
    cell, _ = cell_of("PReLU", (None, 5))
    x = torch.from_numpy(normal(1, 3, 5))
    close(cell(x), torch.relu(x), "output")


CONFIGS = [
    "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax",
    {"ReLU": {"max_value": 6.0, "negative_slope": 0.25, "threshold": 1.0, "name": "r.l"}},
    {"LeakyReLU": {"negative_slope": 0.5, "trainable": False}},
    {"ELU": {"alpha": 0.5}},
    {"Softmax": {"axis": [1, 2]}},
    {"PReLU": {"alpha_initializer": {"Constant": {"value": 0.25}}, "alpha_regularizer": {"L2": {"l2": 0.5}},
               "alpha_constraint": "NonNeg", "shared_axes": [1, 2]}},
]  # fmt: skip


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ({"PReLU": {"shared_axes": [3]}}, (None, 4, 2), "shared_axes of the input .* found 3"),
        ("PReLU", (None, None, 2), "name the unknown axis in shared_axes"),
        ({"Softmax": {"axis": 2}}, (None, 3), "found 2"),
        ({"Softmax": {"axis": 0}}, (None, 3), "found the batch"),
    ],
)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


def test_prelu_shares_an_axis_of_unknown_size() -> None:
    cell, shape = cell_of({"PReLU": {"shared_axes": 1}}, (None, None, 2))
    assert shape == (None, None, 2)
    assert cell(torch.ones(3, 7, 2)).shape == (3, 7, 2)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("ReLU", "max_value", -1), ("ReLU", "negative_slope", -0.1), ("ReLU", "threshold", None),
        ("LeakyReLU", "negative_slope", -1), ("PReLU", "shared_axes", [0]), ("Softmax", "axis", []),
    ],
)  # fmt: skip
def test_refuses_options(name: str, option: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: {option: value}})
    assert problems_of(caught.value)[0].path == (name, option)
