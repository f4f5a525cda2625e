"""Transposed convolutions against Keras over drawn configurations: forward, gradients, shapes, configs, errors."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import named, normal, placed, sizes
from tests.parity.harness import cell_of, close, hold_layer
from trainer.block import problems_of
from trainer.layers.base import Layer
from trainer.layers.conv_transpose import crops
from trainer.layers.plan import Plan

ACTIVATIONS = ["linear", "relu", "tanh", "gelu", "sigmoid"]
RANKS = (1, 2, 3)


def drawn(rank: int, seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape without the batch) of one configuration that Keras takes."""
    random = np.random.default_rng([rank, seed])
    strides = sizes(random, rank, 4) if random.random() < 0.7 else 1
    steps = [strides] * rank if isinstance(strides, int) else strides
    options: dict[str, Any] = {
        "filters": int(random.integers(1, 4)),
        "kernel_size": sizes(random, rank, 5),
        "strides": strides,
        "padding": str(random.choice(["valid", "same"])),
        "output_padding": [int(random.integers(0, n)) for n in steps] if random.random() < 0.5 else None,
        "data_format": random.choice([None, "channels_last", "channels_first"]),
        "dilation_rate": sizes(random, rank, 3) if max(steps) == 1 else 1,
        "activation": str(random.choice(ACTIVATIONS)),
        "use_bias": bool(random.random() < 0.7),
    }
    spatial = tuple(int(n) for n in random.integers(3, 5 if rank == 3 else 8, rank))
    return options, placed(spatial, int(random.integers(1, 4)), options["data_format"])


CASES = [(rank, seed) for rank in RANKS for seed in range(90)]


@pytest.mark.parametrize(("rank", "seed"), CASES)
def test_equals_keras(rank: int, seed: int) -> None:
    options, shape = drawn(rank, seed)
    mask = np.ones((3, shape[0]), bool) if rank == 1 else None
    hold_layer({f"Conv{rank}DTranspose": options}, normal(seed, 3, *shape), mask=mask, seed=seed, tolerance=2e-5)


def test_the_draw_reaches_every_corner() -> None:
    layers: list[Any] = [Layer.parse({f"Conv{rank}DTranspose": drawn(rank, seed)[0]}) for rank, seed in CASES]
    ends = [end for layer in layers for end in layer.ends()]
    assert sum(after > before for before, after in ends) > 30
    assert sum(after < 0 for _, after in ends) > 30
    assert sum(max(layer.dilation_rate) > 1 for layer in layers) > 30
    assert sum(layer.output_padding is None for layer in layers) > 80
    assert {layer.data_format for layer in layers} == {"channels_last", "channels_first"}


@pytest.mark.parametrize("window", range(1, 7))
@pytest.mark.parametrize("stride", range(1, 6))
def test_lengths_are_those_that_the_options_promise(window: int, stride: int) -> None:
    for n in (1, 2, 5):
        full = (n - 1) * stride + window
        assert full - sum(crops(window, stride, "same", None)) == n * stride
        assert full - sum(crops(window, stride, "valid", None)) == (n - 1) * stride + max(window, stride)
        for extra in range(stride):
            assert full - sum(crops(window, stride, "valid", extra)) == full + extra
            assert full - sum(crops(window, stride, "same", extra)) == (n - 1) * stride + window % 2 + extra


def test_is_the_gradient_of_a_convolution() -> None:
    """With `same` and a stride that the windows fill alike, both cut the same ends."""
    shape = (1, 8, 8, 3)
    down, _ = cell_of({"Conv2D": {"filters": 2, "kernel_size": 4, "strides": 2, "padding": "same"}}, (None, *shape[1:]))
    up, _ = cell_of(
        {"Conv2DTranspose": {"filters": 3, "kernel_size": 4, "strides": 2, "padding": "same"}}, (1, 4, 4, 2)
    )
    up.kernel.data = down.kernel.data
    x = torch.randn(shape, requires_grad=True)
    pull = torch.randn(1, 4, 4, 2)
    (down(x) * pull).sum().backward()
    close(up(pull), x.grad, "gradient of the convolution")


def test_one_step_spread_by_hand() -> None:
    cell, _ = cell_of({"Conv1DTranspose": {"filters": 1, "kernel_size": 2, "strides": 3}}, (None, 2, 1))
    named(cell)["kernel"].data = torch.tensor([[[1.0]], [[10.0]]])
    made = cell(torch.tensor([[[2.0], [3.0]]])).squeeze()
    close(made, [2.0, 20.0, 0.0, 3.0, 30.0, 0.0], "each step spread over two, three apart")


def test_size_known_only_with_data() -> None:
    cell, shape = cell_of({"Conv2DTranspose": {"filters": 3, "kernel_size": 3, "strides": 2}}, (None, None, 8, 2))
    assert shape == (None, None, 17, 3)
    assert cell(torch.zeros(2, 5, 8, 2)).shape == (2, 11, 17, 3)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_memory_stays_channels_last(rank: int, padding: str) -> None:
    options = {"filters": 4, "kernel_size": 3, "strides": 2, "padding": padding, "activation": "relu"}
    cell, _ = cell_of({f"Conv{rank}DTranspose": options}, (None, *(5,) * rank, 3))
    made = cell(torch.randn(2, *(5,) * rank, 3))
    assert list(made.stride()) == sorted(made.stride(), reverse=True)
    assert made.stride(-1) == 1


CONFIGS = [
    {"Conv1DTranspose": {"filters": 3, "kernel_size": 3}},
    {"Conv2DTranspose": {"filters": 3, "kernel_size": [3, 5], "strides": [2, 3], "output_padding": [1, 2]}},
    {"Conv2DTranspose": {"filters": 3, "kernel_size": 3, "strides": 2, "output_padding": 1, "padding": "same"}},
    {"Conv3DTranspose": {"filters": 2, "kernel_size": 2, "dilation_rate": [1, 2, 3], "data_format": "channels_first"}},
    {
        "Conv1DTranspose": {
            "filters": 3,
            "kernel_size": [4],
            "output_padding": 0,
            "activation": "relu",
            "use_bias": False,
            "kernel_initializer": "HeNormal",
            "bias_initializer": "Ones",
            "kernel_regularizer": {"L2": {"l2": 0.1}},
            "bias_regularizer": {"L1": {"l1": 0.5}},
            "activity_regularizer": "L1L2",
            "kernel_constraint": "MaxNorm",
            "bias_constraint": "NonNeg",
            "trainable": False,
            "name": "up",
        }
    },
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


@pytest.mark.parametrize("rank", RANKS)
def test_names_are_those_of_keras(rank: int) -> None:
    final = Layer.find(f"Conv{rank}DTranspose")
    assert Layer.find(f"Convolution{rank}DTranspose") is final
    signature = list(vars(keras.layers)[final.__name__].__init__.__code__.co_varnames)
    ours = [n for n in final.options() if n not in ("name", "trainable", "dtype", "inputs")]
    assert ours == signature[1 : 1 + len(ours)]


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [
        ({}, (None, 8, 8), r"\(batch, height, width, channels\).*target_shape: \[8, 8, 1\]"),
        ({}, (None, 8, 8, None), "channels of the input must be known"),
        ({"strides": 2, "dilation_rate": 2}, (None, 8, 8, 1), "can't both be above 1"),
        ({"kernel_size": 2, "output_padding": 0, "padding": "same"}, (None, 1, 8, 1), r"leave nothing .* \[1, 8\]"),
    ],
)
def test_refuses_input(options: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse({"Conv2DTranspose": {"filters": 3, "kernel_size": 3, **options}}).build(Plan(), shape)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("kernel_size", [3], "a list of 2, found [3]"),
        ("output_padding", 1, "output_padding below strides [1, 1] on every axis, found [1, 1]"),
        ("output_padding", [0], "a list of 2, found [0]"),
        ("output_padding", -1, "found -1"),
        ("padding", "causal", '"causal"'),
        ("data_format", "last", "channels_last"),
        ("groups", 2, "has no option"),
    ],
)
def test_refuses_options(option: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({"Conv2DTranspose": {"filters": 3, "kernel_size": 3, option: value}})
    (problem,) = problems_of(caught.value)
    assert problem.path == ("Conv2DTranspose", option)
    assert words in problem.message
