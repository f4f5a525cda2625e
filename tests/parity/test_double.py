"""Layers in double precision against Keras in double precision: what remains there is no rounding."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.parity.double import equal_weights, twin_in_double, variables
from tests.parity.harness import cell_of, close
from tests.runs.test_keras_opens import ZOO

SINGLE = {"Normalization", "Rescaling"}
"""What they make is float32, whatever comes."""
CASES = [
    pytest.param(shape, text, id=f"{name}-{number}")
    for name, animals in ZOO.items()
    for number, (shape, text) in enumerate(animals)
    if "}, {" not in text and name not in SINGLE
]


pytestmark = pytest.mark.usefixtures("keras_in_double")


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
