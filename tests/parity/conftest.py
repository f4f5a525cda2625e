"""Threads and number types of parity tests."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import pytest
import torch
from keras.src.backend.common import dtypes

from trainer.optimizers import adam


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread while a module of parity tests runs; workers that share cores wait for each other else."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def keras_in_double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On torch, Keras brings what it calculates to float32, and results back to float64, unless it is kept from it."""
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def adam_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our Adam's corrections are float32, as Keras's are by default, but not where all of Keras is in double."""

    def correction(beta_1: float, beta_2: float, step: int) -> float:
        return (1 - beta_2**step) ** 0.5 / (1 - beta_1**step)

    monkeypatch.setattr(adam, "adam_correction", correction)
