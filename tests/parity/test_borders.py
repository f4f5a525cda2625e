"""ZeroPadding and Cropping against Keras over drawn configurations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import normal, placed
from tests.parity.harness import cell_of, close, hold_layer
from trainer.block import problems_of
from trainer.layers.base import Layer
from trainer.layers.plan import Plan

NAMES = [f"{kind}{rank}D" for kind in ("ZeroPadding", "Cropping") for rank in (1, 2, 3)]


def margins(random: np.random.Generator, rank: int) -> Any:
    """An integer, or for each axis an integer or a pair; at most 3 at an end."""
    pairs = [[int(n) for n in random.integers(0, 4, 2)] for _ in range(rank)]
    form = random.integers(0, 3)
    if form == 0:
        return pairs[0][0]
    if rank == 1:
        return pairs[0]
    return [pair[0] for pair in pairs] if form == 1 else [p if random.random() < 0.7 else p[0] for p in pairs]


def drawn(name: str, seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape without the batch) of one configuration."""
    random = np.random.default_rng([NAMES.index(name), seed])
    rank = int(name[-2])
    options = {"padding" if name.startswith("Zero") else "cropping": margins(random, rank)}
    if name != "Cropping1D":
        options["data_format"] = random.choice([None, "channels_last", "channels_first"])
    spatial = tuple(int(n) for n in random.integers(7, 10, rank))
    return options, placed(spatial, int(random.integers(1, 4)), options.get("data_format"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(60))
def test_equals_keras(name: str, seed: int) -> None:
    options, shape = drawn(name, seed)
    mask = np.ones((3, shape[0]), bool) if name[-2] == "1" else None
    hold_layer({name: options}, normal(seed, 3, *shape), mask=mask, seed=seed)
    hold_config({name: options})


@pytest.mark.parametrize("name", NAMES)
def test_defaults(name: str) -> None:
    hold_layer(name, normal(1, 2, *(5,) * int(name[-2]), 3))
    hold_config(name)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("data_format", [None, "channels_first"])
def test_cropping_takes_zero_padding_back(rank: int, data_format: str | None) -> None:
    ends = [1, 2] if rank == 1 else [[1, 2], [0, 3], [2, 0]][:rank]
    x = torch.from_numpy(normal(2, 2, *placed((4,) * rank, 3, None if rank == 1 else data_format)))
    at = {} if rank == 1 else {"data_format": data_format}
    padding, shape = cell_of({f"ZeroPadding{rank}D": {"padding": ends, **at}}, (None, *x.shape[1:]))
    cropping, back = cell_of({f"Cropping{rank}D": {"cropping": ends, **at}}, shape)
    assert back == (None, *x.shape[1:])
    close(cropping(padding(x)), x, "the same entries")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_cropping_copies_nothing(rank: int) -> None:
    x = torch.randn(2, *(5,) * rank, 3)
    cell, _ = cell_of({f"Cropping{rank}D": {"cropping": 1}}, (None, *x.shape[1:]))
    assert cell(x).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padded_memory_stays_channels_last(rank: int) -> None:
    cell, _ = cell_of(f"ZeroPadding{rank}D", (None, *(5,) * rank, 3))
    assert cell(torch.randn(2, *(5,) * rank, 3)).is_contiguous()


def test_size_known_only_with_data() -> None:
    assert cell_of("ZeroPadding2D", (None, None, 7, 2))[1] == (None, None, 9, 2)
    cell, shape = cell_of({"Cropping2D": {"cropping": [[1, 2], 1]}}, (None, None, 7, 2))
    assert shape == (None, None, 5, 2)
    assert cell(torch.randn(2, 6, 7, 2)).shape == (2, 3, 5, 2)


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ("ZeroPadding2D", (None, 784), r"target_shape: \[28, 28, 1\]"),
        ("Cropping1D", (None, 8, 8, 1), r"\(batch, length, channels\), found"),
        ("Cropping1D", (None, 2, 3), r"cropping \[1, 1\] leaves nothing of the length of 2"),
        ({"Cropping2D": {"cropping": [0, [2, 4]]}}, (None, 8, 5, 1), r"cropping \[2, 4\] leaves .* the width of 5"),
        (
            {"Cropping3D": {"cropping": 2, "data_format": "channels_first"}},
            (None, 1, 4, 9, 9),
            r"cropping \[2, 2\] leaves nothing of the depth of 4",
        ),
    ],
)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


@pytest.mark.parametrize(
    ("name", "option", "value", "words"),
    [
        ("ZeroPadding1D", "padding", [1, 2, 3], "a list of 2, found [1, 2, 3]"),
        ("ZeroPadding1D", "padding", -1, "found -1"),
        ("ZeroPadding2D", "padding", [1], "a list of 2, found [1]"),
        ("ZeroPadding2D", "padding", [[1, 2, 3], 1], "found [[1, 2, 3], 1]"),
        ("ZeroPadding2D", "padding", True, "found true"),
        ("ZeroPadding3D", "padding", [1, 1], "a list of 3, found [1, 1]"),
        ("Cropping1D", "data_format", "channels_last", "has no option"),
        ("Cropping2D", "cropping", [[0, -1], 1], "found [[0, -1], 1]"),
        ("Cropping3D", "cropping", "1", 'found "1"'),
    ],
)
def test_refuses_options(name: str, option: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: {option: value}})
    (problem,) = problems_of(caught.value)
    assert problem.path == (name, option)
    assert words in problem.message
