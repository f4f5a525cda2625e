"""A network's layers may be called what they like."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.recipes import loaded
from trainer.train.job import Options, fit

RECIPE = """
name: names
dataset: {source: digits, inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}]}}, limit: 40}
model:
  layers:
    - Dense: {name: NAME, units: 8}
    - Sequential: {name: inner, layers: [{Dense: {name: NAME, units: 10, activation: softmax}}]}
compile: {loss: sparse_categorical_crossentropy}
fit: {epochs: 1}
"""


@pytest.mark.parametrize("name", ["type", "training", "forward", "keys", "a.b", "T_destination"])
def test_names_that_torch_s_modules_have_themselves(tmp_path: Path, name: str) -> None:
    text = RECIPE.replace("NAME", name)
    outcome = fit(loaded(text), Options(runs=tmp_path, device="cpu"), text.encode(), None)
    assert len(outcome.history["loss"]) == 1
