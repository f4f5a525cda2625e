"""Pooling against Keras over drawn configurations; averages over padded windows against their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import placed, sizes
from tests.parity.harness import cell_of, close, hold_layer
from trainer.block import problems_of
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.shapes import same_padding


def drawn(rank: int, seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape without the batch) of one configuration."""
    random = np.random.default_rng([rank, seed])
    options = {
        "pool_size": sizes(random, rank, 5),
        "strides": random.choice([None, 1]) if random.random() < 0.5 else sizes(random, rank, 6),
        "padding": str(random.choice(["valid", "same"])),
        "data_format": random.choice([None, "channels_last", "channels_first"]),
    }
    spatial = tuple(int(n) for n in random.integers(5, 9 if rank == 3 else 14, rank))
    return options, placed(spatial, int(random.integers(1, 5)), options["data_format"])


def ends(layer: Any, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Entries that windows reach over each end of each spatial axis."""
    if layer.padding == "valid":
        return [(0, 0)] * layer.rank
    spatial = shape[1:] if layer.data_format == "channels_first" else shape[:-1]
    return [same_padding(*axis) for axis in zip(spatial, layer.pool_size, layer.steps, strict=True)]


CASES = [(rank, seed) for rank in (1, 2, 3) for seed in range(70)]


@pytest.mark.parametrize(("rank", "seed"), CASES)
def test_max_equals_keras(rank: int, seed: int) -> None:
    options, shape = drawn(rank, seed)
    x = np.random.default_rng(seed).normal(size=(3, *shape)).astype("float32")
    hold_layer({f"MaxPooling{rank}D": options}, x)


def average(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """The definition: sums over zero-padded windows, divided by the number of entries inside."""
    first = layer.data_format == "channels_first"
    planes = x if first else x.movedim(-1, 1)
    pads = [n for side in reversed(ends(layer, tuple(x.shape[1:]))) for n in side]
    sums, counts = (F.pad(p, pads) for p in (planes, torch.ones_like(planes)))
    for axis, (window, step) in enumerate(zip(layer.pool_size, layer.steps, strict=True), 2):
        sums, counts = (t.unfold(axis, window, step).sum(-1) for t in (sums, counts))
    made = sums / counts
    return made if first else made.movedim(1, -1)


@pytest.mark.parametrize(("rank", "seed"), CASES)
def test_average(rank: int, seed: int) -> None:
    options, shape = drawn(rank, seed)
    spec = {f"AveragePooling{rank}D": options}
    x = np.random.default_rng(seed).normal(size=(3, *shape)).astype("float32")
    cell, out_shape = cell_of(spec, (None, *shape))
    # Keras's torch backend repeats the edge where the padding is uneven, and counts it; its other backends do not.
    if all(before == after for before, after in ends(cell.layer, shape)):
        hold_layer(spec, x)
    ours_x, their_x = (torch.from_numpy(x.copy()).requires_grad_() for _ in range(2))
    ours, expected = cell(ours_x), average(cell.layer, their_x)
    assert tuple(ours.shape)[1:] == out_shape[1:]
    close(ours, expected, "output")
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(seed))
    (ours * pull).sum().backward()
    (expected * pull).sum().backward()
    close(ours_x.grad, their_x.grad, "gradient of the input")


def test_the_draw_reaches_uneven_padding() -> None:
    uneven = [0, 0]
    for rank, seed in CASES:
        options, shape = drawn(rank, seed)
        layer: Any = Layer.parse({f"MaxPooling{rank}D": options})
        sides = list(zip(ends(layer, shape), layer.steps, strict=True))
        uneven[0] += any(after > before and step == 1 for (before, after), step in sides)
        uneven[1] += any(after > before and step > 1 for (before, after), step in sides)
    assert min(uneven) >= 6, uneven


def test_average_of_one_padded_row_by_hand() -> None:
    cell, _ = cell_of({"AveragePooling1D": {"pool_size": 2, "strides": 1, "padding": "same"}}, (None, 3, 1))
    close(cell(torch.tensor([[[1.0], [3.0], [8.0]]])), [[[2.0], [5.5], [8.0]]], "windows (1, 3), (3, 8), (8)")


@pytest.mark.parametrize("kind", ["Max", "Average"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (1, 3), (5, 6, 3), (1, 1, 2), (3, 4, 2, 5), (1, 2, 1, 3)])
def test_global_equals_keras(kind: str, data_format: str, keepdims: bool, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).normal(size=(4, *shape)).astype("float32")
    spec = {f"Global{kind}Pooling{len(shape) - 1}D": {"data_format": data_format, "keepdims": keepdims}}
    hold_layer(spec, x)
    hold_config(spec)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_masked_mean_equals_keras(data_format: str, keepdims: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(5, 7, 7)).astype("float32")
    mask = random.random((5, 7)) < 0.6
    mask[:, 2] = True
    hold_layer({"GlobalAveragePooling1D": {"data_format": data_format, "keepdims": keepdims}}, x, mask=mask, seed=seed)


def test_row_without_a_step_is_nan_as_in_keras() -> None:
    mask = np.array([[True, True, False], [False, False, False]])
    x = np.ones((2, 3, 2), "float32")
    hold_layer("GlobalAveragePooling1D", x, mask=mask)


def test_padding_steps_may_hold_anything() -> None:
    cell, _ = cell_of("GlobalAveragePooling1D", (None, 3, 1))
    x = torch.tensor([[[1.0], [3.0], [float("nan")]]])
    close(cell(x, mask=torch.tensor([[True, True, False]])), [[2.0]], "mean of 1 and 3")


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_memory_stays_channels_last(rank: int, padding: str) -> None:
    cell, _ = cell_of({f"MaxPooling{rank}D": {"padding": padding}}, (None, *(9,) * rank, 5))
    assert cell(torch.randn(2, *(9,) * rank, 5)).is_contiguous()


def test_size_known_only_with_data() -> None:
    cell, shape = cell_of({"MaxPooling2D": {"padding": "same"}}, (None, None, 7, 2))
    assert shape == (None, None, 4, 2)
    assert cell(torch.randn(2, 5, 7, 2)).shape == (2, 3, 4, 2)
    assert cell_of("GlobalMaxPooling1D", (None, None, 2))[1] == (None, 2)


CONFIGS = [
    "MaxPooling1D",
    "MaxPooling2D",
    {"MaxPooling2D": {"pool_size": [2, 3], "strides": 1, "padding": "same", "data_format": "channels_first"}},
    {"AveragePooling1D": {"pool_size": 3}},
    "MaxPooling3D",
    {"MaxPooling3D": {"pool_size": [2, 1, 3], "strides": [1, 2, 1], "padding": "same"}},
    {"AveragePooling3D": {"pool_size": 2, "data_format": "channels_first"}},
    {"GlobalMaxPooling3D": {"keepdims": True}},
    {"GlobalAveragePooling3D": {"data_format": None}},
    {"AveragePooling2D": {"pool_size": 3, "strides": [2, 1], "name": "pooled", "trainable": False}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


def test_aliases() -> None:
    for short, long in (("Max", "Max"), ("Avg", "Average")):
        for rank in ("1D", "2D", "3D"):
            for place in ("", "Global"):
                assert Layer.find(f"{place}{short}Pool{rank}") is Layer.find(f"{place}{long}Pooling{rank}")


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ("MaxPooling2D", (None, 784), r"target_shape: \[28, 28, 1\]"),
        ("MaxPooling1D", (None, 8, 8, 1), r"\(batch, length, channels\), found \(None, 8, 8, 1\)"),
        ("GlobalAveragePooling2D", (None, 8, 8), r"target_shape: \[8, 8, 1\]"),
        ("MaxPooling3D", (None, 8, 8, 8), r"target_shape: \[8, 8, 8, 1\]"),
        ("GlobalMaxPooling3D", (None, 8, 8), r"\(batch, depth, height, width, channels\), found \(None, 8, 8\)"),
        ("MaxPooling2D", (None, 8, 1, 3), "window of 2 does not fit into 1"),
    ],
)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


@pytest.mark.parametrize(
    ("spec", "option"),
    [
        ({"MaxPooling2D": {"pool_size": [2]}}, "pool_size"),
        ({"MaxPooling2D": {"strides": 0}}, "strides"),
        ({"MaxPooling1D": {"padding": "causal"}}, "padding"),
        ({"AveragePooling2D": {}}, "pool_size"),
        ({"GlobalMaxPooling1D": {"keepdims": 1}}, "keepdims"),
    ],
)
def test_refuses_options(spec: Any, option: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse(spec)
    assert problems_of(caught.value)[0].path == (next(iter(spec)), option)
