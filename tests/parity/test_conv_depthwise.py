"""Depthwise and separable convolutions against Keras over drawn configurations."""

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
from trainer.layers.plan import Plan

ACTIVATIONS = ["linear", "relu", "tanh", "gelu", "sigmoid"]
NAMES = ["DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"]


def rank_of(name: str) -> int:
    return int(name[-2])


def drawn(name: str, seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape without the batch) of one configuration; strides and dilation may meet, as in Keras."""
    random = np.random.default_rng([NAMES.index(name), seed])
    rank = rank_of(name)
    options: dict[str, Any] = {
        "kernel_size": sizes(random, rank, 4),
        "strides": sizes(random, rank, 3) if random.random() < 0.5 else 1,
        "dilation_rate": sizes(random, rank, 3) if random.random() < 0.5 else 1,
        "padding": str(random.choice(["valid", "same"])),
        "depth_multiplier": int(random.integers(1, 4)),
        "data_format": random.choice([None, "channels_last", "channels_first"]),
        "activation": str(random.choice(ACTIVATIONS)),
        "use_bias": bool(random.random() < 0.7),
    }
    if name.startswith("Separable"):
        options["filters"] = int(random.integers(1, 5))
    spatial = tuple(int(n) for n in random.integers(10, 14, rank))
    return options, placed(spatial, int(random.integers(1, 5)), options["data_format"])


CASES = [(name, seed) for name in NAMES for seed in range(80)]


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_equals_keras(name: str, seed: int) -> None:
    options, shape = drawn(name, seed)
    mask = np.ones((3, shape[0]), bool) if rank_of(name) == 1 else None
    hold_layer({name: options}, normal(seed, 3, *shape), mask=mask, seed=seed, tolerance=2e-5)


def test_the_draw_reaches_every_corner() -> None:
    options = [drawn(*case)[0] for case in CASES]
    for key, least in {"padding": 2, "data_format": 3, "depth_multiplier": 3, "activation": 5, "use_bias": 2}.items():
        assert len({o[key] for o in options}) == least, key
    assert sum(np.max(o["dilation_rate"]) > 1 and np.max(o["strides"]) > 1 for o in options) > 20
    uneven = [o for o in options if o["padding"] == "same" and np.any(np.array(o["kernel_size"]) % 2 == 0)]
    assert len(uneven) > 30


def test_filters_stand_channel_by_channel() -> None:
    cell, shape = cell_of({"DepthwiseConv1D": {"kernel_size": 1, "depth_multiplier": 2}}, (None, 3, 2))
    assert shape == (None, 3, 4)
    named(cell)["kernel"].data = torch.tensor([[[1.0, 10.0], [100.0, 1000.0]]])
    close(cell(torch.tensor([[[2.0, 3.0]] * 3]))[0, 0], [2.0, 20.0, 300.0, 3000.0], "channel 0 twice, channel 1 twice")


def test_a_separable_kernel_is_a_product_of_two() -> None:
    """The same numbers as a Conv2D whose kernel is depthwise times pointwise, summed over the multiplier."""
    options = {"filters": 4, "kernel_size": 3, "padding": "same"}
    separable, _ = cell_of({"SeparableConv2D": {**options, "depth_multiplier": 2}}, (None, 7, 7, 3))
    full, _ = cell_of({"Conv2D": options}, (None, 7, 7, 3))
    parts = named(separable)
    depthwise, pointwise = parts["depthwise_kernel"], parts["pointwise_kernel"].reshape(3, 2, 4)
    named(full)["kernel"].data = torch.einsum("hwcm,cmf->hwcf", depthwise, pointwise).detach()
    x = torch.randn(2, 7, 7, 3)
    close(separable(x), full(x), "convolution with the product")


@pytest.mark.parametrize("name", NAMES)
def test_memory_stays_channels_last(name: str) -> None:
    filters = {"filters": 4} if name.startswith("Separable") else {"depth_multiplier": 2}
    rank = rank_of(name)
    cell, _ = cell_of({name: {"kernel_size": 3, "padding": "same", **filters}}, (None, *(9,) * rank, 5))
    assert cell(torch.randn(2, *(9,) * rank, 5)).is_contiguous()


def test_size_known_only_with_data() -> None:
    cell, shape = cell_of({"SeparableConv2D": {"filters": 3, "kernel_size": 3}}, (None, None, 8, 2))
    assert shape == (None, None, 6, 3)
    assert cell(torch.zeros(2, 5, 8, 2)).shape == (2, 3, 6, 3)


CONFIGS = [
    {"DepthwiseConv1D": {"kernel_size": 3}},
    {"DepthwiseConv2D": {"kernel_size": [3, 5], "strides": [2, 2], "padding": "same", "depth_multiplier": 2}},
    {"SeparableConv1D": {"filters": 2, "kernel_size": 3, "dilation_rate": 2, "data_format": "channels_first"}},
    {"SeparableConv2D": {"filters": 2, "kernel_size": 3, "depth_multiplier": 3, "use_bias": False}},
    {
        "DepthwiseConv2D": {
            "kernel_size": 2,
            "activation": "relu",
            "depthwise_initializer": "HeNormal",
            "bias_initializer": "Ones",
            "depthwise_regularizer": {"L2": {"l2": 0.1}},
            "bias_regularizer": {"L1": {"l1": 0.5}},
            "activity_regularizer": "L1L2",
            "depthwise_constraint": "MaxNorm",
            "bias_constraint": "NonNeg",
            "name": "apart",
        }
    },
    {
        "SeparableConv2D": {
            "filters": 3,
            "kernel_size": 2,
            "depthwise_initializer": "HeNormal",
            "pointwise_initializer": "LecunUniform",
            "bias_initializer": "Ones",
            "depthwise_regularizer": {"L2": {"l2": 0.1}},
            "pointwise_regularizer": {"L1": {"l1": 0.25}},
            "bias_regularizer": {"L1": {"l1": 0.5}},
            "activity_regularizer": "L1L2",
            "depthwise_constraint": "MaxNorm",
            "pointwise_constraint": "UnitNorm",
            "bias_constraint": "NonNeg",
            "trainable": False,
        }
    },
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


def test_weights_carry_what_acts_on_them() -> None:
    plan = Plan()
    Layer.parse(CONFIGS[5]).build(plan, (None, 9, 9, 2))
    found = [[type(v).__name__ for v in (w.initializer, w.regularizer, w.constraint)] for w in plan.weights]
    assert found == [["HeNormal", "L2", "MaxNorm"], ["LecunUniform", "L1", "UnitNorm"], ["Ones", "L1", "NonNeg"]]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_of_keras(name: str) -> None:
    final = Layer.find(name)
    if name.startswith("Separable"):
        assert Layer.find(name.replace("Conv", "Convolution")) is final
    signature = list(vars(keras.layers)[name].__init__.__code__.co_varnames)
    ours = [n for n in final.options() if n not in ("name", "trainable", "dtype", "inputs")]
    assert ours == signature[1 : 1 + len(ours)]


@pytest.mark.parametrize(
    ("name", "options", "shape", "words"),
    [
        ("DepthwiseConv2D", {}, (None, 784), r"add {Reshape: {target_shape: \[28, 28, 1\]}}"),
        ("DepthwiseConv1D", {}, (None, 8, 8, 1), r"\(batch, length, channels\), found \(None, 8, 8, 1\)$"),
        ("DepthwiseConv2D", {}, (None, 8, 8, None), "channels of the input must be known"),
        ("SeparableConv1D", {"filters": 2}, (None, 8, None), "channels of the input must be known"),
        ("SeparableConv2D", {"filters": 2}, (None, 8, 2, 3), "window of 3 does not fit into 2"),
    ],
)
def test_refuses_input(name: str, options: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse({name: {"kernel_size": 3, **options}}).build(Plan(), shape)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("kernel_size", [3], "a list of 2, found [3]"),
        ("depth_multiplier", 0, "above 0"),
        ("padding", "causal", '"causal"'),
        ("strides", [1, 0], "found [1, 0]"),
        ("groups", 2, "has no option"),
    ],
)
@pytest.mark.parametrize("name", ["DepthwiseConv2D", "SeparableConv2D"])
def test_refuses_options(name: str, option: str, value: Any, words: str) -> None:
    filters = {"filters": 2} if name.startswith("Separable") else {}
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: {"kernel_size": 3, **filters, option: value}})
    (problem,) = problems_of(caught.value)
    assert problem.path == (name, option)
    assert words in problem.message
