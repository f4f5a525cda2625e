"""Adaptive pooling against Keras over drawn configurations, and against its definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import normal, placed, sizes
from tests.parity.harness import cell_of, close, hold_layer
from trainer.block import problems_of
from trainer.layers.base import Layer
from trainer.layers.plan import Plan

KINDS, RANKS = ("Average", "Max"), (1, 2, 3)


def drawn(rank: int, seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape without the batch) of one configuration."""
    random = np.random.default_rng([rank, seed])
    options = {
        "output_size": sizes(random, rank, 6),
        "data_format": random.choice([None, "channels_last", "channels_first"]),
    }
    spatial = tuple(int(n) for n in random.integers(1, 7 if rank == 3 else 14, rank))
    return options, placed(spatial, int(random.integers(1, 5)), options["data_format"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("seed", range(60))
def test_equals_keras(kind: str, rank: int, seed: int) -> None:
    options, shape = drawn(rank, seed)
    mask = np.ones((3, shape[0]), bool) if rank == 1 else None
    hold_layer({f"Adaptive{kind}Pooling{rank}D": options}, normal(seed, 3, *shape), mask=mask, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "m"), [(7, 3), (8, 4), (3, 7), (5, 5), (1, 4), (6, 1)])
def test_windows_are_those_of_the_definition(kind: str, n: int, m: int) -> None:
    cell, _ = cell_of({f"Adaptive{kind}Pooling1D": {"output_size": m}}, (None, n, 2))
    x = torch.from_numpy(normal(n, 3, n, 2))
    windows = [x[:, i * n // m : math.ceil((i + 1) * n / m)] for i in range(m)]
    expected = [part.mean(1) if kind == "Average" else part.amax(1) for part in windows]
    close(cell(x), torch.stack(expected, 1), "windows")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [1, 2])
def test_memory_stays_channels_last(kind: str, rank: int) -> None:
    """torch has no such kernel for volumes: their output is channels first underneath."""
    cell, _ = cell_of({f"Adaptive{kind}Pooling{rank}D": {"output_size": 4}}, (None, *(9,) * rank, 5))
    assert cell(torch.randn(2, *(9,) * rank, 5)).is_contiguous()


def test_size_need_not_be_known() -> None:
    cell, shape = cell_of({"AdaptiveMaxPooling2D": {"output_size": [2, 3]}}, (None, None, 7, 2))
    assert shape == (None, 2, 3, 2)
    assert cell(torch.randn(2, 5, 7, 2)).shape == (2, 2, 3, 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", RANKS)
def test_config(kind: str, rank: int) -> None:
    name = f"Adaptive{kind}Pooling{rank}D"
    hold_config({name: {"output_size": 3}})
    hold_config({name: {"output_size": [2] * rank, "data_format": "channels_first", "name": "pooled"}})
    hold_config({name: {"output_size": 1, "data_format": None, "trainable": False}})


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ({"AdaptiveMaxPooling2D": {"output_size": 2}}, (None, 784), r"target_shape: \[28, 28, 1\]"),
        ({"AdaptiveAveragePooling1D": {"output_size": 2}}, (None, 8, 8, 1), r"\(batch, length, channels\), found"),
        ({"AdaptiveAveragePooling3D": {"output_size": 2}}, (None, 8, 8, 8), r"target_shape: \[8, 8, 8, 1\]"),
    ],
)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


@pytest.mark.parametrize(
    ("value", "words"),
    [([2], "a list of 2, found [2]"), (0, "found 0"), ([2, -1], "found [2, -1]"), ("2", 'found "2"'), (None, "null")],
)
def test_refuses_options(value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({"AdaptiveMaxPooling2D": {"output_size": value}})
    (problem,) = problems_of(caught.value)
    assert problem.path == ("AdaptiveMaxPooling2D", "output_size")
    assert words in problem.message


def test_needs_its_size() -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse("AdaptiveMaxPooling2D")
    assert "needs output_size" in problems_of(caught.value)[0].message
