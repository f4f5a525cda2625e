"""Layers in double precision against Keras in double precision: what remains there is no rounding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
import yaml
from keras.src.backend.common import dtypes

from tests.parity.census import held
from tests.parity.harness import cell_of, close, random_weights
from tests.runs.test_keras_opens import ZOO
from trainer.layers.base import Layer
from trainer.model.network import Cell

SINGLE = {"Normalization", "Rescaling"}
"""What they make is float32, whatever comes."""
CASES = [
    pytest.param(shape, text, id=f"{name}-{number}")
    for name, animals in ZOO.items()
    for number, (shape, text) in enumerate(animals)
    if "}, {" not in text and name not in SINGLE
]


@pytest.fixture(autouse=True)
def keras_in_double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On torch, Keras brings what it calculates to float32, and results back to float64, unless it is kept from it."""
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def twin_in_double(layer: Layer, shape: tuple[int | None, ...]) -> Any:
    twin = keras.layers.deserialize(layer.to_keras())
    twin.build(shape)
    held(layer, shape, "double")
    return twin


def variables(twin: Any) -> list[Any]:
    found = (*twin.trainable_weights, *twin.non_trainable_weights)
    return [v for v in found if "seed_generator" not in v.path]


def equal_weights(cell: Cell, twin: Any) -> None:
    for (_, _, tensor, _), value, variable in zip(cell.rows(), random_weights(cell), variables(twin), strict=True):
        tensor.data.copy_(torch.from_numpy(value))
        variable.assign(value.astype("float64"))


@pytest.mark.parametrize(("shape", "text"), CASES)
def test_equals_keras(shape: tuple[Any, ...], text: str) -> None:
    random = np.random.default_rng(3)
    ids = shape[-1] == "ids"
    # Ids as floats too, as in a model: by the type of its input Keras's SpectralNormalization casts its output.
    x = random.integers(0, 7, (6, *shape[:-1])).astype("float64") if ids else random.normal(0.3, 1, (6, *shape))
    whole = (None, *x.shape[1:])
    cell, _ = cell_of(yaml.safe_load("{" + text + "}"), whole)
    cell.double().eval()
    twin = twin_in_double(cell.layer, whole)
    equal_weights(cell, twin)
    mine, other = (torch.from_numpy(x.copy()).requires_grad_(not ids) for _ in range(2))
    # Called by itself, a random layer of Keras's takes it for training.
    phase = {"training": False} if "training" in inspect.signature(twin.call).parameters else {}
    ours, theirs = cell(mine), twin(other, **phase)
    close(ours, theirs, f"{text}: output", 1e-10)
    if not theirs.requires_grad:
        # Such as the numbers of bins, which are float32 whatever comes.
        return
    assert ours.dtype == torch.float64
    pull = torch.from_numpy(random.normal(size=tuple(ours.shape)))
    (ours * pull).sum().backward()
    (theirs * pull).sum().backward()
    if not ids:
        close(mine.grad, other.grad, f"{text}: gradient of the input", 1e-10)
    for (_, path, tensor, moves), variable in zip(cell.rows(), variables(twin), strict=True):
        if moves:
            close(tensor.grad, variable.value.grad, f"{text}: gradient of {path}", 1e-10)
