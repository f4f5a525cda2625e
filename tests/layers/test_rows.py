"""Layers that look at more than one row: each step by itself in TimeDistributed, and rows that teach nothing."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.harness import cell_of, close
from trainer.errors import DataError
from trainer.layers.base import Layer
from trainer.layers.discretization import Discretization

MEL = {"fft_length": 64, "sequence_stride": 16, "num_mel_bins": 8, "sampling_rate": 8000, "top_db": 10.0}


@pytest.mark.parametrize("inside", [{"MelSpectrogram": MEL}, {"Pipeline": {"layers": [{"MelSpectrogram": MEL}]}}])
def test_the_loudest_is_that_of_a_step(inside: Any) -> None:
    """Each step ten times as loud as the one before it."""
    loud = np.array([1, 10, 100]).reshape(1, 3, 1)
    x = (np.random.default_rng(0).normal(size=(2, 3, 256)) * loud).astype("float32")
    cell, _ = cell_of({"TimeDistributed": {"layer": inside}}, (None, 3, 256))
    cell.train(False)
    close(cell(torch.from_numpy(x)), keras.layers.TimeDistributed(keras.layers.MelSpectrogram(**MEL))(x), "mel")


def test_values_of_a_step_are_counted_by_themselves() -> None:
    x = np.random.default_rng(1).uniform(0, 255, (2, 3, 8, 8, 1)).astype("float32")
    x[:, 1] /= 10
    cell, _ = cell_of({"TimeDistributed": {"layer": "Equalization"}}, (None, 3, 8, 8, 1))
    alone, _ = cell_of("Equalization", (None, 8, 8, 1))
    for part in (cell, alone):
        part.train(True)
    steps = [alone(torch.from_numpy(x[:, t])) for t in range(3)]
    assert torch.equal(cell(torch.from_numpy(x)), torch.stack(steps, 1))


def test_a_place_drawn_for_a_batch_is_drawn_for_each_step() -> None:
    x = torch.arange(40 * 40, dtype=torch.float32).view(1, 1, 40, 40, 1).expand(1, 6, 40, 40, 1)
    cell, _ = cell_of({"TimeDistributed": {"layer": {"RandomCrop": {"height": 4, "width": 4}}}}, (None, 6, 40, 40, 1))
    cell.train(True)
    assert len(set(cell(x)[0, :, 0, 0, 0].tolist())) > 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bins_are_not_learned_from_what_is_no_number(bad: float) -> None:
    layer = Layer.parse({"Discretization": {"num_bins": 3}})
    assert isinstance(layer, Discretization)
    with pytest.raises(DataError, match=r"finite numbers to put into bins, found (nan|inf) in training row 5"):
        layer.learned([np.arange(4.0), np.array([1.0, bad, 2.0])])
