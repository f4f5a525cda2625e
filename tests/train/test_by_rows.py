"""Under `preprocess` what a row becomes never depends on the rows that it comes with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.harness import close
from tests.train.recipes import directory_of, output, trained
from trainer.layers.base import Layer
from trainer.recipe.dataset import Feature
from trainer.train.job import Options
from trainer.train.pipeline import Pipeline
from trainer.train.use import OpenRun

MEL = {"fft_length": 16, "sequence_stride": 8, "num_mel_bins": 3, "sampling_rate": 8000, "top_db": 10.0}
WRITTEN = "{MelSpectrogram: {fft_length: 16, sequence_stride: 8, num_mel_bins: 3, sampling_rate: 8000, top_db: 10.0}}"
DIGITS = """
name: sounds
seed: 3
dataset:
  source: digits
  inputs: {image: {preprocess: [STEPS]}}
  targets: {label: {}}
  split: {test: {last: 100}}
  limit: 300
model: {layers: [Flatten, {Dense: {units: 10, activation: softmax}}]}
compile: {optimizer: adam, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 1, batch_size: 50, validation_split: 0.2}
"""
STEPS = {
    "once": f"{{Reshape: {{target_shape: [64]}}}}, {WRITTEN}",
    "each-batch": "{Reshape: {target_shape: [8, 8, 1]}}, {RandomTranslation: {height_factor: 0.2, width_factor: 0.2}}, "
    f"{{Reshape: {{target_shape: [64]}}}}, {WRITTEN}",
}


def sounds() -> np.ndarray:
    """Each ten times as loud as the one before it, so that top_db of the loudest would leave nothing of the others."""
    loud = 10.0 ** np.arange(4)[:, None]
    return (np.random.default_rng(0).normal(size=(4, 64)) * loud).astype("float32")


def test_each_sound_is_what_keras_makes_of_it_alone() -> None:
    x, layer = sounds(), Layer.parse({"MelSpectrogram": MEL})
    made = Pipeline(Feature(preprocess=(layer,)), (None, 64), "sounds")(x)
    twin = keras.layers.MelSpectrogram(**MEL)
    close(made, torch.stack([twin(row) for row in x]), "rows by themselves")
    close(made, torch.cat([twin(row[None]) for row in x]), "batches of one row")
    together = twin(x)
    assert not np.allclose(made, together, atol=1.0)
    assert layer == Layer.parse({"MelSpectrogram": MEL})


@pytest.mark.parametrize("steps", STEPS)
def test_predictions_do_not_depend_on_the_batch(tmp_path: Path, steps: str) -> None:
    outcome = trained(tmp_path, DIGITS.replace("STEPS", STEPS[steps]))
    run = OpenRun(directory_of(outcome), Options(runs=tmp_path, device="cpu"))
    x: Any = np.abs(sounds()).reshape(4, 8, 8)
    alone = np.concatenate([output(run, x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_allclose(output(run, x), alone, rtol=1e-5)
