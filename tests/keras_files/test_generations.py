"""Files in the layout of every generation load and predict what real Keras does with the same weights."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from tests.keras_files.loading import loaded_file, network_of, predicted
from tests.keras_files.old_layouts import GENERATIONS, write, write_archive, write_weights
from tests.keras_files.old_models import MODELS, SINCE, expected, made, rows
from trainer.keras_files.current import current
from trainer.keras_files.opening import open_file

NOT_THERE = {("keras 2.0 theano", "separable"): "Theano had no separable convolution in Keras 2.0"}
CASES = [
    (generation, name)
    for generation, how in GENERATIONS.items()
    for name in MODELS
    if SINCE.get(name, "1") <= how.version and (generation, name) not in NOT_THERE
]


def close(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("generation", "name"), CASES)
def test_whole_model(generation: str, name: str, tmp_path: Path) -> None:
    model = made(name)
    inputs = rows(name, model)
    path = write(tmp_path / "model.h5", model, GENERATIONS[generation])
    network, _ = loaded_file(path)
    close(predicted(network, *inputs), expected(model, inputs))


@pytest.mark.parametrize(("generation", "name"), [c for c in CASES if c[0] in ("keras 1.2", "keras 2.3.1")])
def test_weights_alone(generation: str, name: str, tmp_path: Path) -> None:
    """The description from one file, other weights from another; by topology, since the names differ."""
    model, other = made(name), made(name, seed=5)
    inputs = rows(name, other)
    described = open_file(write(tmp_path / "model.h5", model, GENERATIONS[generation]))
    weights = open_file(write_weights(tmp_path / "weights.h5", other, GENERATIONS[generation]))
    network = network_of(weights, current(described), tmp_path)
    close(predicted(network, *inputs), expected(other, inputs))


@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("cells",)])
@pytest.mark.parametrize("version", ["2.12.0", "2.13.1"])
def test_archive_of_tensorflow(name: str, version: str, tmp_path: Path) -> None:
    model = made(name)
    inputs = rows(name, model)
    network, _ = loaded_file(write_archive(tmp_path / "model.keras", model, version))
    close(predicted(network, *inputs), expected(model, inputs))


def test_number_of_cases() -> None:
    assert len(CASES) == 10 * len(MODELS) - 2 * 4 - 2 * 2 - len(NOT_THERE)
    assert keras.backend.backend() == "torch"
