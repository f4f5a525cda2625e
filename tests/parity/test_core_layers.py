"""Activation, Identity, Flatten, Reshape, Permute, RepeatVector and Dropout against Keras."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.harness import cell_of, hold_layer
from trainer.activations.base import Activation
from trainer.block import problems_of
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.naming import snake_case

FUNCTIONS = sorted({snake_case(c.__name__) for c in Activation.spellings().values() if c.keras} - {"glu"})
FORMATS = ("channels_last", "channels_first")


def rows(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("shape", [(6,), (3, 4)])
def test_activation(name: str, shape: tuple[int, ...]) -> None:
    mask = np.ones((5, shape[0]), bool) if len(shape) == 2 else None
    hold_layer({"Activation": {"activation": name}}, rows(5, *shape), mask=mask)


@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 3, 4), (1, 2, 3, 2)])
@pytest.mark.parametrize("data_format", FORMATS)
def test_flatten(shape: tuple[int, ...], data_format: str) -> None:
    hold_layer({"Flatten": {"data_format": data_format}}, rows(5, *shape))


RESHAPES = [
    ((12,), [3, 4]), ((12,), [-1]), ((12,), [-1, 2, 2]), ((12,), [2, -1, 2]), ((3, 4), [12]), ((3, 4), [4, 3]),
    ((2, 3, 4), [-1, 4]), ((2, 3, 4), [24, 1]), ((1,), []), ((2, 2), [1, -1, 1]), ((28, 28), [28, 28, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "target"), RESHAPES)
def test_reshape(shape: tuple[int, ...], target: list[int]) -> None:
    hold_layer({"Reshape": {"target_shape": target}}, rows(5, *shape))
    hold_config({"Reshape": {"target_shape": target}})


PERMUTATIONS = [p for n in (1, 2, 3, 4) for p in itertools.permutations(range(1, n + 1))]


@pytest.mark.parametrize("dims", PERMUTATIONS)
def test_permute(dims: tuple[int, ...]) -> None:
    hold_layer({"Permute": {"dims": list(dims)}}, rows(5, *range(2, 2 + len(dims))))


@pytest.mark.parametrize(("n", "features"), [(1, 1), (3, 4), (7, 2)])
def test_repeat_vector(n: int, features: int) -> None:
    hold_layer({"RepeatVector": {"n": n}}, rows(5, features))


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_identity(shape: tuple[int, ...]) -> None:
    hold_layer("Identity", rows(5, *shape), mask=np.ones((5, shape[0]), bool))


def test_batch_without_rows_keeps_its_shape() -> None:
    for spec in ("Flatten", {"Reshape": {"target_shape": [-1, 2]}}, {"Permute": {"dims": [2, 1]}}):
        cell, shape = cell_of(spec, (None, 3, 4))
        assert tuple(cell(torch.zeros(0, 3, 4)).shape)[1:] == tuple(shape)[1:]


def test_sizes_known_only_with_data() -> None:
    assert cell_of("Flatten", (None, None, 4))[1] == (None, None)
    cell, shape = cell_of({"Reshape": {"target_shape": [-1, 2]}}, (None, None, 4))
    assert shape == (None, None, 2)
    assert cell(torch.zeros(5, 3, 4)).shape == (5, 6, 2)


CONFIGS = [
    {"Activation": {"activation": "relu", "name": "act"}},
    "Identity",
    {"Flatten": {"data_format": None}},
    {"Flatten": {"data_format": "channels_first", "trainable": False}},
    {"Permute": {"dims": [2, 1]}},
    {"RepeatVector": {"n": 3}},
    {"Dropout": {"rate": 0.25}},
    {"Dropout": {"rate": 0, "noise_shape": [None, 1, 3], "seed": 7}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


REFUSED = [
    ({"Reshape": {"target_shape": [5, 3]}}, (None, 784), "784"),
    ({"Reshape": {"target_shape": [5, -1]}}, (None, 784), "multiple of 5"),
    ({"Permute": {"dims": [2, 1]}}, (None, 3), "2 axes"),
    ({"RepeatVector": {"n": 2}}, (None, 3, 4), r"\(batch, features\)"),
    ({"Dropout": {"rate": 0.5, "noise_shape": [None, 1]}}, (None, 3, 4), "noise_shape"),
    ({"Dropout": {"rate": 0.5, "noise_shape": [None, 2]}}, (None, 3), "noise_shape"),
]


@pytest.mark.parametrize(("spec", "shape", "words"), REFUSED)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


BAD_OPTIONS = [
    {"Reshape": {"target_shape": [-1, -1]}},
    {"Reshape": {"target_shape": [-2]}},
    {"Permute": {"dims": [0, 1]}},
    {"Permute": {"dims": [1, 1]}},
    {"Dropout": {"rate": 1.5}},
    {"Dropout": {"rate": 0.5, "noise_shape": [0]}},
    {"Dropout": {"rate": 0.5, "noise_shape": 3}},
    {"Flatten": {"data_format": "channels"}},
    {"RepeatVector": {"n": 0}},
]


@pytest.mark.parametrize("spec", BAD_OPTIONS, ids=str)
def test_refuses_options(spec: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse(spec)
    ((name, options),) = spec.items()
    assert problems_of(caught.value)[0].path == (name, list(options)[-1])


def dropped(options: dict[str, Any], x: torch.Tensor, step: int = 0, training: bool = True) -> torch.Tensor:
    cell, shape = cell_of({"Dropout": options}, (None, *x.shape[1:]))
    assert tuple(shape) == (None, *x.shape[1:])
    cell.train(training)
    cell.clock.step = step
    return cell(x)


@pytest.mark.parametrize("options", [{"rate": 0.5}, {"rate": 0.5, "noise_shape": [None, 1, 4]}, {"rate": 1, "seed": 3}])
def test_dropout_is_keras_s_identity_when_not_training(options: dict[str, Any]) -> None:
    hold_layer({"Dropout": options}, rows(5, 3, 4), mask=np.ones((5, 3), bool))


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.8])
def test_dropout_rate_and_scale(rate: float) -> None:
    x = torch.from_numpy(np.abs(rows(400, 500)) + 0.1)
    out = dropped({"rate": rate}, x)
    kept = out != 0
    # 200,000 draws: six standard deviations of their mean are below 0.007.
    assert abs(1 - kept.float().mean().item() - rate) < 0.007
    torch.testing.assert_close(out[kept], x[kept] / (1 - rate))
    per_row, per_column = kept.float().mean(1).std(), kept.float().mean(0).std()
    assert per_row < 1.3 * (rate * (1 - rate) / 500) ** 0.5
    assert per_column < 1.3 * (rate * (1 - rate) / 400) ** 0.5


def test_dropout_edges() -> None:
    x = torch.from_numpy(rows(4, 5)).requires_grad_()
    assert dropped({"rate": 0}, x) is x
    out = dropped({"rate": 1}, x)
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(x))
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_dropout_gradient_is_the_mask() -> None:
    x = torch.ones(20, 30, requires_grad=True)
    out = dropped({"rate": 0.4}, x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


@pytest.mark.parametrize("noise_shape", [[None, 1, None], [1, None, None], [None, None, 1], [64, 1, 6], [1, 1, None]])
def test_dropout_shares_draws_along_axes_of_one(noise_shape: list[int | None]) -> None:
    out = dropped({"rate": 0.5, "noise_shape": noise_shape}, torch.ones(64, 50, 6))
    for axis, n in enumerate(noise_shape):
        varies = bool((out != out.narrow(axis, 0, 1)).any())
        assert varies == (n != 1), f"axis {axis} of {noise_shape}"


def test_dropout_follows_step_and_seed() -> None:
    x = torch.ones(30, 40)
    assert torch.equal(dropped({"rate": 0.5}, x, step=3), dropped({"rate": 0.5}, x, step=3))
    assert not torch.equal(dropped({"rate": 0.5}, x, step=3), dropped({"rate": 0.5}, x, step=4))
    assert not torch.equal(dropped({"rate": 0.5, "seed": 1}, x), dropped({"rate": 0.5, "seed": 2}, x))
    assert torch.equal(dropped({"rate": 0.5}, x, training=False), x)


def test_dropout_keeps_the_type() -> None:
    assert dropped({"rate": 0.5}, torch.ones(3, 4, dtype=torch.bfloat16)).dtype is torch.bfloat16
