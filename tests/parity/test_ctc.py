"""A CTC model beside real Keras: outputs, loss, gradients, a fit's history, and what both decode afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.census import held
from tests.parity.fitting import arrays, hold_history, ours, twin
from tests.parity.harness import close
from tests.train.recipes import loaded
from trainer.losses.base import Loss
from trainer.recipe.load import load_recipe
from trainer.train.decoding import beam_search, greedy
from trainer.train.job import Options

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEXT = """
seed: 3
dataset:
  source: {npz: {path: PATH}}
  inputs: {line: {field: x, preprocess: [{Reshape: {target_shape: [6, 40, 1]}}, {Rescaling: {scale: 1/255}}]}}
  targets:
    symbols:
      field: y
      preprocess: [{IntegerLookup: {vocabulary: [0, 1, 2], mask_token: -1, num_oov_indices: 0}}]
model:
  layers:
    - Conv2D: {filters: 4, kernel_size: 3, padding: same, activation: relu}
    - MaxPooling2D
    - Permute: {dims: [2, 1, 3]}
    - Reshape: {target_shape: [20, 12]}
    - Bidirectional: {layer: {RECURRENT: {units: 6, return_sequences: true}}}
    - Dense: {units: 4}
compile: {optimizer: {Adam: {learning_rate: 0.005}}, loss: CTC}
fit: {epochs: EPOCHS, batch_size: 32, shuffle: false, validation_split: 0.2}
"""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Three hundred lines of one to five symbols, each a bar at a height of its own."""
    random = np.random.default_rng(8)
    x, y = random.integers(0, 60, (300, 6, 40), "uint8"), np.full((300, 5), -1)
    for row in range(len(x)):
        for place in range(random.integers(1, 6)):
            y[row, place] = symbol = random.integers(3)
            left = 8 * place + random.integers(0, 3)
            x[row, 2 * symbol : 2 * symbol + 2, left : left + 4] += 180
    path = tmp_path / "lines.npz"
    np.savez(path, x=x, y=y)
    return path


def text(lines: Path, recurrent: str = "LSTM", epochs: int = 1) -> str:
    return TEXT.replace("PATH", str(lines)).replace("RECURRENT", recurrent).replace("EPOCHS", str(epochs))


@pytest.mark.parametrize("recurrent", ["LSTM", "GRU"])
def test_outputs_loss_and_gradients(lines: Path, recurrent: str) -> None:
    built, training = ours(loaded(text(lines, recurrent)))
    model = twin(built)
    x, y = (torch.from_numpy(rows[:48]) for rows in arrays(training.train, weighed=False))
    made, theirs = built.network(x), model(x, training=True)
    close(made, theirs, "scores of the steps")
    known: Any = keras.losses.CTC()(y, theirs)
    loss = Loss.parse("CTC")(y, made)
    held(Loss.parse("CTC"), "gradients", recurrent)
    close(loss, known, "loss")
    rows = [(path, tensor) for _, path, tensor, _ in built.network.rows()]
    gradients = torch.autograd.grad(loss, [tensor for _, tensor in rows])
    known.backward()
    assert len(rows) == 10
    for (path, _), gradient, weight in zip(rows, gradients, model.trainable_weights, strict=True):
        close(gradient, weight.value.grad, f"gradient of {path}")


@pytest.mark.parametrize("recurrent", ["LSTM", "GRU"])
def test_history(lines: Path, recurrent: str) -> None:
    hold_history(loaded(text(lines, recurrent, epochs=3)))


def test_history_of_the_recipe(data_folder: Path) -> None:
    """An epoch over 400 lines of digits."""
    sets = ["dataset.limit=400", "fit.epochs=1", "fit.shuffle=false", "compile.metrics=[]", "callbacks=[]", "expect={}"]
    sets += [f"model.layers.{place}.Dropout.rate=0" for place in (6, 8)]
    hold_history(load_recipe(RECIPES / "digit_lines_ctc.yaml", sets), options=Options(data=data_folder))


def test_what_a_trained_model_says(lines: Path) -> None:
    """Both decodings of what it makes of lines not seen in training are Keras's, and go with the reported rate."""
    made = text(lines, epochs=30).replace("loss: CTC", "loss: CTC, metrics: [character_error_rate]")
    made = made.replace("0.005", "0.02").replace("batch_size: 32", "batch_size: 16")
    built, training = ours(loaded(made))
    history = training.run()
    assert training.validation is not None
    x, y = arrays(training.validation, weighed=False)
    built.network.eval()
    outputs = built.network(torch.from_numpy(x)).detach().numpy()
    decode: Any = keras.ops.ctc_decode
    for strategy, found in (("greedy", greedy(outputs)), ("beam_search", beam_search(outputs, beam_width=8))):
        options = {} if strategy == "greedy" else {"beam_width": 8}
        paths, scores = decode(outputs, np.full(len(x), outputs.shape[1]), strategy=strategy, **options)
        np.testing.assert_array_equal(found.paths, paths)
        # Probabilities, not their logs: near 0 these are what float32 leaves of a sum near 1.
        ours_scores, their_scores = found.scores.astype("float32"), scores.numpy()
        if strategy == "beam_search":
            ours_scores, their_scores = np.exp(ours_scores), np.exp(their_scores)
        close(ours_scores, their_scores, strategy)
    labels = [[int(c) for c in row if c] for row in y]
    said = [[c for c in row if c >= 0] for row in greedy(outputs).paths[0].tolist()]
    wrong = sum(a != b for a, b in zip(said, labels, strict=True))
    rate = history["val_character_error_rate"][-1]
    assert rate < 0.1
    assert wrong / sum(map(len, labels)) <= rate + 1e-9
    assert (wrong == 0) == (rate == 0)
