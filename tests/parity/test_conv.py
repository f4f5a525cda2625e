"""Conv1D, Conv2D and Conv3D against Keras over drawn configurations: forward, gradients, shapes, configs, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import placed, sizes
from tests.parity.harness import cell_of, close, hold_layer
from trainer.block import problems_of
from trainer.layers.base import Layer
from trainer.layers.plan import Plan

ACTIVATIONS = ["linear", "relu", "tanh", "softmax", "gelu", "sigmoid"]


def drawn(rank: int, seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape without the batch) of one configuration that Keras takes."""
    random = np.random.default_rng([rank, seed])
    groups = int(random.choice([1, 1, 2, 3]))
    channels = groups * int(random.integers(1, 4))
    strided = random.random() < 0.5
    options: dict[str, Any] = {
        "filters": groups * int(random.integers(1, 4)),
        "kernel_size": sizes(random, rank, 4),
        "strides": sizes(random, rank, 4) if strided else 1,
        "dilation_rate": 1 if strided else sizes(random, rank, 3),
        "padding": str(random.choice(["valid", "same", "causal"] if rank == 1 else ["valid", "same"])),
        "data_format": random.choice([None, "channels_last", "channels_first"]),
        "groups": groups,
        "activation": str(random.choice(ACTIVATIONS)),
        "use_bias": bool(random.random() < 0.7),
    }
    spatial = tuple(int(n) for n in random.integers(10, 12 if rank == 3 else 15, rank))
    first = options["data_format"] == "channels_first"
    if options["activation"] == "softmax":
        # Over the width a bias changes nothing: its gradient would be rounding alone. Over one channel Keras warns.
        options["use_bias"] = options["use_bias"] and not first
        options["filters"] = max(options["filters"], 2 * groups)
    return options, placed(spatial, channels, options["data_format"])


CASES = [(f"Conv{rank}D", rank, seed) for rank, many in ((1, 90), (2, 120), (3, 80)) for seed in range(many)]


@pytest.mark.parametrize(("name", "rank", "seed"), CASES)
def test_equals_keras(name: str, rank: int, seed: int) -> None:
    options, shape = drawn(rank, seed)
    x = np.random.default_rng(seed).normal(size=(3, *shape)).astype("float32")
    hold_layer({name: options}, x, seed=seed, tolerance=2e-5)


def test_the_draw_reaches_every_corner() -> None:
    options = [drawn(rank, seed)[0] for _, rank, seed in CASES]
    for key, least in {"padding": 3, "data_format": 3, "groups": 3, "activation": 6, "use_bias": 2}.items():
        assert len({o[key] for o in options}) == least, key
    uneven = [o for o in options if o["padding"] == "same" and np.any(np.array(o["kernel_size"]) % 2 == 0)]
    assert len(uneven) > 30
    assert sum(np.max(o["dilation_rate"]) > 1 for o in options) > 50
    assert sum(np.max(o["strides"]) > 1 for o in options) > 50


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", "causal"])
def test_input_shorter_than_the_window(length: int, padding: str) -> None:
    x = np.random.default_rng(1).normal(size=(2, length, 2)).astype("float32")
    hold_layer({"Conv1D": {"filters": 3, "kernel_size": 6, "padding": padding, "strides": 2}}, x)


def test_size_known_only_with_data() -> None:
    cell, shape = cell_of({"Conv2D": {"filters": 3, "kernel_size": 4, "padding": "same"}}, (None, None, 8, 2))
    assert shape == (None, None, 8, 3)
    assert cell(torch.zeros(2, 5, 8, 2)).shape == (2, 5, 8, 3)
    assert cell_of({"Conv1D": {"filters": 3, "kernel_size": 4}}, (None, None, 2))[1] == (None, None, 3)


@pytest.mark.parametrize("spec", ["Conv1D", "Conv2D", "Conv3D"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_memory_stays_channels_last(spec: str, padding: str) -> None:
    """Input and output are views: the next layer, or a Flatten, finds contiguous memory."""
    rank = int(spec[4])
    cell, _ = cell_of({spec: {"filters": 4, "kernel_size": 3, "padding": padding}}, (None, *(9,) * rank, 5))
    assert cell(torch.randn(2, *(9,) * rank, 5)).is_contiguous()


@pytest.mark.parametrize("filters", [1, 3])
def test_gradients_in_double_precision(filters: int) -> None:
    """torch, and Keras on it, can't go back through the kernel of a single filter as it lies in Keras's order."""
    cell, _ = cell_of({"Conv2D": {"filters": filters, "kernel_size": 3}}, (None, 6, 6, 2))
    x, found = torch.randn(2, 6, 6, 2), []
    for each in (torch.float32, torch.float64):
        cell.to(each).zero_grad()
        cell(x.to(each)).square().sum().backward()
        found.append(cell.kernel.grad.float())
    close(*found, "gradient of the kernel", 1e-5)


def test_causal_sees_no_future() -> None:
    options = {"filters": 2, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}
    cell, _ = cell_of({"Conv1D": options}, (None, 12, 1))
    x = torch.randn(1, 12, 1)
    later = x.clone()
    later[:, 7:] += 1
    close(cell(x)[:, :7], cell(later)[:, :7], "steps before the change")
    assert not torch.equal(cell(x)[:, 7:], cell(later)[:, 7:])


CONFIGS = [
    {"Conv2D": {"filters": 3, "kernel_size": 3}},
    {"Conv2D": {"filters": 3, "kernel_size": [3, 5], "strides": [2, 1], "padding": "same", "name": "conv.a"}},
    {"Conv2D": {"filters": 4, "kernel_size": 3, "dilation_rate": 2, "groups": 2, "data_format": "channels_first"}},
    {"Conv1D": {"filters": 3, "kernel_size": 3, "padding": "causal", "activation": "relu", "use_bias": False}},
    {"Conv3D": {"filters": 4, "kernel_size": [3, 1, 2], "strides": [1, 2, 1], "groups": 2, "data_format": None}},
    {
        "Conv1D": {
            "filters": 3,
            "kernel_size": [4],
            "kernel_initializer": "HeNormal",
            "bias_initializer": {"Constant": {"value": 0.5}},
            "kernel_regularizer": {"L2": {"l2": 0.1}},
            "bias_regularizer": {"L1": {"l1": 0.5}},
            "activity_regularizer": "L1L2",
            "kernel_constraint": {"MaxNorm": {"max_value": 3, "axis": [0, 1]}},
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
    Layer.parse(CONFIGS[-1]).build(plan, (None, 9, 2))
    kernel, bias = plan.weights
    assert (kernel.shape, bias.shape) == ((4, 2, 3), (3,))
    found = [type(v).__name__ for v in (kernel.initializer, kernel.regularizer, kernel.constraint)]
    assert found == ["HeNormal", "L2", "MaxNorm"]
    assert [type(v).__name__ for v in (bias.initializer, bias.regularizer, bias.constraint)] == [
        "Constant",
        "L1",
        "NonNeg",
    ]


def test_aliases() -> None:
    for name in ("1D", "2D", "3D"):
        assert Layer.find(f"Convolution{name}") is Layer.find(f"Conv{name}")


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ({"Conv2D": {}}, (None, 784), r"found \(None, 784\); add {Reshape: {target_shape: \[28, 28, 1\]}}"),
        ({"Conv2D": {}}, (None, 3072), r"target_shape: \[32, 32, 3\]"),
        ({"Conv2D": {}}, (None, 28, 30), r"target_shape: \[28, 30, 1\]"),
        ({"Conv2D": {"data_format": "channels_first"}}, (None, 28, 30), r"target_shape: \[1, 28, 30\]"),
        (
            {"Conv2D": {}},
            (None, 17),
            r"expected input of shape \(batch, height, width, channels\), found \(None, 17\)$",
        ),
        ({"Conv1D": {}}, (None, 100), r"\(batch, length, channels\).*target_shape: \[100, 1\]"),
        ({"Conv1D": {}}, (None, 28, 28, 1), r"found \(None, 28, 28, 1\)$"),
        ({"Conv3D": {}}, (None, 9, 9, 9), r"\(batch, depth, height, width, channels\).*target_shape: \[9, 9, 9, 1\]"),
        ({"Conv3D": {"data_format": "channels_first"}}, (None, 9, 8, 7), r"target_shape: \[1, 9, 8, 7\]"),
        ({"Conv3D": {}}, (None, 784), r"found \(None, 784\)$"),
        ({"Conv3D": {}}, (None, 9, 2, 9, 1), "window of 3 does not fit into 2"),
        ({"Conv2D": {"groups": 2}}, (None, 8, 8, 4), r"filters \(3\) must be a multiple of groups \(2\)"),
        ({"Conv2D": {"groups": 3}}, (None, 8, 8, 4), "4 channels of the input must be a multiple of groups"),
        ({"Conv2D": {}}, (None, 8, 8, None), "channels of the input must be known"),
        ({"Conv2D": {}}, (None, 2, 8, 1), "window of 3 does not fit into 2"),
        ({"Conv1D": {"dilation_rate": 4}}, (None, 8, 1), "window of 9 does not fit into 8"),
        ({"Conv1D": {"dilation_rate": 2, "strides": 2}}, (None, 8, 1), "can't both be above 1"),
    ],
)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    ((name, options),) = spec.items()
    with pytest.raises(ValueError, match=words):
        Layer.parse({name: {"filters": 3, "kernel_size": 3, **options}}).build(Plan(), shape)


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("kernel_size", [3], "a list of 2, found [3]"),
        ("kernel_size", [3, 3, 3], "a list of 2"),
        ("kernel_size", 0, "found 0"),
        ("strides", "2", 'found "2"'),
        ("dilation_rate", [1, -1], "found [1, -1]"),
        ("padding", "causal", "is for Conv1D"),
        ("padding", "full", '"full"'),
        ("groups", 0, "above 0"),
        ("data_format", "last", "channels_last"),
    ],
)
def test_refuses_options(option: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({"Conv2D": {"filters": 3, "kernel_size": 3, option: value}})
    (problem,) = problems_of(caught.value)
    assert problem.path == ("Conv2D", option)
    assert words in problem.message
