"""A network's layers may be called what they like."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.recipes import loaded
from trainer.cli.app import run
from trainer.runs.directory import RunDirectory
from trainer.train.job import Options, fit
from trainer.train.use import OpenRun

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


NESTED = """
name: nested
dataset: {source: digits, inputs: {image: {preprocess: [{Reshape: {target_shape: [8, 8]}}]}}, limit: 40}
model:
  layers:
    - Bidirectional: {layer: {LSTM: {units: 3}}, name: both}
    - Sequential:
        {name: inner, layers: [BatchNormalization, {Dense: {units: 4, trainable: false}}, {Dense: {units: 3}}]}
    - BatchNormalization: {trainable: false}
    - Dense: {units: 10, activation: softmax}
compile: {loss: sparse_categorical_crossentropy}
fit: {epochs: 1}
"""


def test_the_names_of_a_layer_s_weights(tmp_path: Path) -> None:
    """Those that stand in the graph are those of the built layers, in the order of files."""
    options = Options(runs=tmp_path, device="cpu")
    outcome = fit(loaded(NESTED), options, NESTED.encode(), None)
    network = OpenRun(RunDirectory(outcome.directory), options).built.network
    for name in network.graph.layers:
        assert network.graph.weights_of(name) == [path for _, path, _, _ in network.cell(name).rows()]
    told = network.graph.weights_of("inner")
    assert told[:2] == ["inner/batch_normalization/gamma", "inner/batch_normalization/beta"]
    assert told[-1] == "inner/dense/bias"
    assert run(["weights", str(outcome.directory), "--quiet"]) == 0
