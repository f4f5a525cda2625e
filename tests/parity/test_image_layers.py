"""Layers on pictures that draw nothing, beside real Keras: sizes, contrast, histograms; for floats and bytes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.harness import cell_of, close
from tests.parity.pictures import NO_FORMAT, RANGES, Options, Random, ranged, twin_of

# Keras counts with a transposed scalar.
pytestmark = pytest.mark.filterwarnings("ignore:Tensor.T is deprecated on 0-D tensors:UserWarning")


def size(random: Random) -> Options:
    return {"height": int(random.integers(1, 12)), "width": int(random.integers(1, 12))}


def resizing(random: Random) -> Options:
    found = size(random)
    # torch, and Keras with it, errs at a width of 1: `test_averages_down_to_one_column`.
    antialias = bool(random.random() < 0.5) and found["width"] > 1
    kept = str(random.choice(["", "crop_to_aspect_ratio", "pad_to_aspect_ratio"]))
    return {
        **found,
        "interpolation": str(random.choice(["bilinear", "nearest", "bicubic"])),
        "antialias": antialias,
        "fill_value": float(random.choice([0.0, 7.5])),
        **({kept: True} if kept else {}),
    }


DRAWN = {
    "AutoContrast": ranged,
    "CenterCrop": size,
    "ContrastLimitedAdaptiveHistogramEqualization": lambda r: {
        **ranged(r),
        "clip_limit": float(r.choice([0.0, 1.5, 4.0, 40.0])),
        "tile_grid_size": [int(n) for n in r.integers(1, 5, 2)],
    },
    "Equalization": lambda r: {**ranged(r), "bins": int(r.choice([256, 64, 10]))},
    "Resizing": resizing,
}


def config(name: str, seed: int, whole: bool) -> tuple[Any, np.ndarray]:
    random = np.random.default_rng([len(name), seed, whole])
    options = DRAWN[name](random)
    if whole and "value_range" in options:
        options["value_range"] = list(RANGES[0])
    batch, height, width, channels = (int(n) for n in (random.integers(1, 4), *random.integers(4, 14, 2), 3))
    shape = (batch, height, width, channels)
    if name not in NO_FORMAT and random.random() < 0.4:
        options["data_format"] = "channels_first"
        shape = (batch, channels, height, width)
    low, high = options.get("value_range", (0, 255))
    x = random.uniform(0, 1, shape) ** 2 * (high - low) + low
    x[0, ..., 0] = x[0, 0, 0, 0]
    return {name: options}, x.round().astype("uint8") if whole else x.astype("float32")


@pytest.mark.parametrize("whole", [False, True], ids=["floats", "bytes"])
@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("name", DRAWN)
def test_beside_keras(name: str, seed: int, whole: bool) -> None:
    spec, x = config(name, seed, whole)
    training = bool(seed % 2)
    cell, shape = cell_of(spec, (None, *x.shape[1:]))
    cell.train(training)
    ours, twin, given = cell(torch.from_numpy(x)), twin_of(cell.layer), torch.from_numpy(x.copy())
    # Keras's Equalization does nothing when told that it does not train; ours is Keras's on each picture by itself.
    alone = name == "Equalization" and not training
    theirs = torch.cat([twin(row[None]) for row in given]) if alone else twin(given, training=training)
    assert ours.dtype == theirs.dtype
    close(ours, theirs, f"{spec}")
    assert tuple(shape) == tuple(twin_of(cell.layer).compute_output_shape((None, *x.shape[1:])))
    assert tuple(ours.shape)[1:] == tuple(shape)[1:]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("height", [1, 3, 10])
def test_averages_down_to_one_column(height: int, interpolation: str, channels: int, data_format: str) -> None:
    """As Keras does down to one row of the turned picture; down to a column, all its rows are the first."""
    x = torch.rand(2, 8, 7, channels)
    options = {"interpolation": interpolation, "antialias": True, "data_format": data_format}
    given = x if data_format == "channels_last" else x.permute(0, 3, 1, 2).contiguous()
    ours = cell_of({"Resizing": {"height": height, "width": 1, **options}}, (None, *given.shape[1:]))[0](given)
    if data_format == "channels_first":
        ours = ours.permute(0, 2, 3, 1)
    row = keras.layers.Resizing(1, height, interpolation=interpolation, antialias=True)(x.transpose(1, 2).contiguous())
    close(ours, row.transpose(1, 2), "turned")


@pytest.mark.parametrize("name", ["Resizing", "CenterCrop", "AutoContrast"])
@pytest.mark.parametrize("seed", range(10))
def test_gradients_are_keras_s(name: str, seed: int) -> None:
    spec, x = config(name, seed, False)
    cell = cell_of(spec, (None, *x.shape[1:]))[0]
    mine, other = (torch.from_numpy(x.copy()).requires_grad_() for _ in range(2))
    ours, theirs = cell(mine), twin_of(cell.layer)(other)
    pull = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(ours.shape)).astype("float32"))
    (ours * pull).sum().backward()
    (theirs * pull).sum().backward()
    assert mine.grad is not None
    assert other.grad is not None
    known = torch.isfinite(other.grad)
    assert torch.isfinite(mine.grad).all(), "a channel of one value has a gradient too, which Keras's has not"
    close(mine.grad[known], other.grad[known], f"{spec}", 1e-4)


@pytest.mark.parametrize("shape", [(6, 5), (6, 9), (12, 9), (4, 4), (3, 20)])
def test_random_crop_when_not_training(shape: tuple[int, int]) -> None:
    """What Keras documents: the largest window of the size's proportions, scaled, as `smart_resize` does it."""
    x = torch.rand(2, *shape, 3)
    cell, out = cell_of({"RandomCrop": {"height": 6, "width": 5}}, (None, *shape, 3))
    cell.eval()
    assert tuple(out) == (None, 6, 5, 3)
    close(cell(x), keras.preprocessing.image.smart_resize(x, (6, 5)), "documented")


def test_keras_s_random_crop_keeps_the_size_when_not_training() -> None:
    """Why ours differs: should this fail one day, Keras has mended it."""
    layer = keras.layers.RandomCrop(6, 5)
    assert layer.compute_output_shape((None, 10, 12, 3)) == (None, 6, 5, 3)
    assert tuple(layer(np.ones((2, 10, 12, 3), "float32"), training=False).shape) == (2, 10, 12, 3)


def test_keras_s_equalization_counts_a_whole_batch_and_is_lost_from_models() -> None:
    """Why ours stands before the model: should this fail one day, Keras has mended it."""
    x, layer = torch.rand(4, 6, 6, 1) ** 2 * 255, keras.layers.Equalization()
    assert not torch.equal(layer(x)[:1], layer(x[:1]))
    pictures = keras.Input((6, 6, 1))
    model = keras.Model(pictures, keras.layers.Flatten()(layer(pictures)))
    assert [type(inner).__name__ for inner in model.layers] == ["InputLayer", "Flatten"]
