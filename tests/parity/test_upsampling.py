"""UpSampling against Keras; the smooth kernels that its torch backend lacks against its NumPy backend."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
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

FORMATS = ("channels_last", "channels_first")
SMOOTH = ("bicubic", "lanczos3", "lanczos5")


def drawn(rank: int, seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape without the batch) of one configuration."""
    random = np.random.default_rng([rank, seed])
    spatial = tuple(int(n) for n in random.integers(1, 5 if rank == 3 else 9, rank))
    channels = int(random.integers(1, 5))
    if rank == 1:
        return {"size": int(random.integers(1, 6))}, (*spatial, channels)
    options = {
        "size": sizes(random, rank, 4),
        "data_format": random.choice([None, "channels_last", "channels_first"]),
    }
    if rank == 2:
        options["interpolation"] = str(random.choice(["nearest", "bilinear"]))
    return options, placed(spatial, channels, options["data_format"])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(80))
def test_equals_keras(rank: int, seed: int) -> None:
    options, shape = drawn(rank, seed)
    mask = np.ones((3, shape[0]), bool) if rank == 1 else None
    hold_layer({f"UpSampling{rank}D": options}, normal(seed, 3, *shape), mask=mask, seed=seed)


@pytest.fixture(scope="module")
def keras_on_numpy() -> Any:
    """The image functions of Keras's NumPy backend; the package around them wants JAX, so its core is stood in for."""
    path = Path(str(keras.__file__)).parent / "src/backend/numpy/image.py"
    spec = importlib.util.spec_from_file_location("keras_numpy_image", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    core: Any = ModuleType("keras.src.backend.numpy.core")
    core.convert_to_tensor = np.asarray
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, core.__name__, core)
        spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", *SMOOTH])
@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("seed", range(12))
def test_equals_keras_on_numpy(keras_on_numpy: Any, interpolation: str, data_format: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    size = [int(n) for n in random.integers(1, 5, 2)]
    height, width = (int(n) for n in random.integers(1, 12, 2))
    x = normal(seed, 2, *placed((height, width), 3, data_format))
    cell, shape = cell_of(
        {"UpSampling2D": {"size": size, "interpolation": interpolation, "data_format": data_format}},
        (None, *x.shape[1:]),
    )
    target = (height * size[0], width * size[1])
    expected = keras_on_numpy.resize(x, target, interpolation=interpolation, data_format=data_format)
    made = cell(torch.from_numpy(x))
    close(made, expected, interpolation)
    assert tuple(made.shape)[1:] == tuple(shape)[1:]
    exact = keras_on_numpy.resize(x.astype("float64"), target, interpolation=interpolation, data_format=data_format)
    close(cell(torch.from_numpy(x).double()), exact, f"{interpolation} in float64", 1e-10)


@pytest.mark.parametrize("interpolation", SMOOTH)
@pytest.mark.parametrize("data_format", FORMATS)
def test_gradients_of_smooth_kernels(interpolation: str, data_format: str) -> None:
    """The layer is linear, so its gradient is the transpose: <pull, f(x)> = <gradient, x> for every x."""
    options = {"size": [2, 3], "interpolation": interpolation, "data_format": data_format}
    cell, _ = cell_of({"UpSampling2D": options}, (None, 5, 4, 3))
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    made = cell(x)
    pull = torch.randn_like(made)
    (gradient,) = torch.autograd.grad((made * pull).sum(), x)
    for _ in range(5):
        other = torch.randn_like(x)
        close((gradient * other).sum(), (pull * cell(other)).sum(), "adjoint", 1e-9)


def test_keras_on_torch_has_another_cubic_and_no_lanczos() -> None:
    """What the docstring says: why the smooth kernels are held against Keras's NumPy backend."""
    x = normal(1, 1, 6, 6, 1)
    layer = keras.layers.UpSampling2D(interpolation="bicubic")
    cell, _ = cell_of({"UpSampling2D": {"interpolation": "bicubic"}}, (None, 6, 6, 1))
    theirs = layer(torch.from_numpy(x))
    assert float((cell(torch.from_numpy(x)) - theirs).abs().max()) > 0.01
    with pytest.raises(ValueError, match="Lanczos"):
        keras.layers.UpSampling2D(interpolation="lanczos3")(torch.from_numpy(x))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", *SMOOTH])
def test_an_even_picture_stays_even(interpolation: str) -> None:
    cell, _ = cell_of({"UpSampling2D": {"size": [3, 2], "interpolation": interpolation}}, (None, 4, 5, 1))
    close(cell(torch.full((1, 4, 5, 1), 0.7)), np.full((1, 12, 10, 1), 0.7, "float32"), "an even picture")


@pytest.mark.parametrize("times", [2, 3, 5, 7])
@pytest.mark.parametrize("n", [1, 41, 55, 997, 4099])
def test_long_axes_are_repeated_exactly(n: int, times: int) -> None:
    """Positions are found with float32 inside torch's kernel."""
    x = torch.arange(n, dtype=torch.float32).reshape(1, n, 1)
    cell, _ = cell_of({"UpSampling1D": {"size": times}}, (None, n, 1))
    assert torch.equal(cell(x), x.repeat_interleave(times, 1))


@pytest.mark.parametrize("name", ["UpSampling1D", "UpSampling2D", "UpSampling3D"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", *SMOOTH])
def test_memory_stays_channels_last(name: str, interpolation: str) -> None:
    rank = int(name[-2])
    options = {"interpolation": interpolation} if rank == 2 else {}
    cell, _ = cell_of({name: options}, (None, *(4,) * rank, 5))
    assert cell(torch.randn(2, *(4,) * rank, 5)).is_contiguous()


def test_size_known_only_with_data() -> None:
    cell, shape = cell_of({"UpSampling2D": {"size": [2, 3], "interpolation": "lanczos3"}}, (None, None, 7, 2))
    assert shape == (None, None, 21, 2)
    assert cell(torch.randn(2, 5, 7, 2)).shape == (2, 10, 21, 2)


CONFIGS = [
    "UpSampling1D",
    {"UpSampling1D": {"size": 3, "name": "longer"}},
    "UpSampling2D",
    {"UpSampling2D": {"size": [2, 3], "data_format": "channels_first", "interpolation": "lanczos5"}},
    {"UpSampling2D": {"size": 3, "data_format": None, "interpolation": "bicubic", "trainable": False}},
    "UpSampling3D",
    {"UpSampling3D": {"size": [1, 2, 3], "data_format": "channels_first"}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ("UpSampling2D", (None, 784), r"target_shape: \[28, 28, 1\]"),
        ("UpSampling1D", (None, 8, 8, 1), r"\(batch, length, channels\), found"),
        ("UpSampling3D", (None, 8, 8, 8), r"target_shape: \[8, 8, 8, 1\]"),
    ],
)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


@pytest.mark.parametrize(
    ("name", "option", "value", "words"),
    [
        ("UpSampling1D", "size", [2], "found [2]"),
        ("UpSampling1D", "data_format", "channels_last", "has no option"),
        ("UpSampling2D", "size", [2], "a list of 2, found [2]"),
        ("UpSampling2D", "size", 0, "found 0"),
        ("UpSampling2D", "interpolation", "cubic", "or 'lanczos5', found \"cubic\""),
        ("UpSampling3D", "size", [2, 2], "a list of 3, found [2, 2]"),
        ("UpSampling3D", "interpolation", "nearest", "has no option"),
    ],
)
def test_refuses_options(name: str, option: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: {option: value}})
    (problem,) = problems_of(caught.value)
    assert problem.path == (name, option)
    assert words in problem.message
