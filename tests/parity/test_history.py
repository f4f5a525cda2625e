"""A whole `fit` against real Keras: equal first weights, no shuffling, several epochs, equal histories and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras.src.backend import nn

from tests.parity.fitting import hold_history, ours
from tests.train.recipes import loaded
from trainer.layers import products
from trainer.recipe.load import load_recipe
from trainer.train.devices import settings_kept
from trainer.train.job import Options

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MLP = """
seed: 5
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}
  targets: {label: {TARGET}}
  limit: 700
model:
  layers: [LAYERS]
compile: {optimizer: OPTIMIZER, loss: LOSS, metrics: [accuracy]}
fit: {epochs: 4, batch_size: 48, validation_split: 0.2, shuffle: false, MORE}
"""
ONE_HOT = "preprocess: [{CategoryEncoding: {num_tokens: 10, output_mode: one_hot}}]"
LAST = "{Dense: {units: 10, activation: softmax}}"
DENSE = "{Dense: {units: 32, activation: relu, kernel_regularizer: {L2: {l2: 1e-3}}}}, " + LAST
CNN = (
    "{Reshape: {target_shape: [8, 8, 1]}}, {Conv2D: {filters: 8, kernel_size: 3, activation: relu}}, MaxPooling2D, "
    "{Conv2D: {filters: 16, kernel_size: 2, activation: relu, padding: same}}, BatchNormalization, Flatten, "
    "{Dense: {units: 24, activation: relu, activity_regularizer: {L1: {l1: 1e-4}}}}, " + LAST
)
LSTM = "{Reshape: {target_shape: [8, 8]}}, {LSTM: {units: 16}}, LayerNormalization, " + LAST
SPARSE = "sparse_categorical_crossentropy"
CASES = {
    "mlp-rmsprop-one-hot": (DENSE, "rmsprop", "categorical_crossentropy", ONE_HOT, ""),
    "mlp-adam-sparse": (DENSE, "adam", SPARSE, "", ""),
    "mlp-sgd-nesterov": (
        DENSE,
        "{SGD: {learning_rate: 0.05, momentum: 0.9, nesterov: true}}",
        SPARSE,
        "",
        "",
    ),
    "mlp-class-weight": (
        DENSE,
        "adam",
        SPARSE,
        "",
        "class_weight: {0: 2.0, 3: 0.5, 9: 4.0}",
    ),
    "cnn-adam": (CNN, "adam", "categorical_crossentropy", ONE_HOT, ""),
    "lstm-rmsprop": (LSTM, "rmsprop", SPARSE, "", ""),
    "mlp-schedule": (
        DENSE,
        "{Adam: {learning_rate: {ExponentialDecay: {initial_learning_rate: 0.01, decay_steps: 5, decay_rate: 0.9}}}}",
        SPARSE,
        "",
        "validation_freq: 2",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_history_equals_keras(case: str) -> None:
    layers, optimizer, loss, target, more = CASES[case]
    text = MLP.replace("TARGET", target).replace("LAYERS", layers).replace("OPTIMIZER", optimizer)
    hold_history(loaded(text.replace("LOSS", loss).replace("MORE", more)))


SHIPPED: dict[str, list[str]] = {
    "digits": ["model.layers.1.Dropout.rate=0"],
    "pima": ["fit.epochs=3"],
    "boston": ["fit.kfold=null", "fit.epochs=5", "fit.validation_split=0.2", "expect={}"],
    "fashion_mnist_mlp": ["dataset.limit=1500"],
    "mnist_mlp_5k": ["dataset.limit=1500"],
    "mnist_cnn_5k": ["dataset.limit=1000", "fit.epochs=3"],
    "imdb": ["dataset.limit=2000"],
    "reuters": ["dataset.limit=2500"],
    "reuters_one_hot": ["dataset.limit=2500"],
}
BUNDLED = ("digits",)
CLIPPED: Any = nn.binary_crossentropy


def straight_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """The sigmoid with a slope of 1 everywhere."""
    return torch.sigmoid(x).detach() + (x - x.detach())


def at_scores(target: torch.Tensor, output: torch.Tensor, from_logits: bool = False) -> torch.Tensor:
    """Keras's torch loss with the slope p - y, which its TensorFlow loss has with respect to the scores."""
    assert not from_logits
    pull = (output.detach() - target) * output
    return CLIPPED(target, output.detach()) + (pull - pull.detach())


@pytest.mark.parametrize("name", SHIPPED)
def test_history_of_shipped_recipes(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "pima":
        # Raw inputs make first outputs of exactly 0 and 1, from which Keras on torch learns nothing.
        monkeypatch.setattr(nn, "binary_crossentropy", at_scores)
        monkeypatch.setattr(nn, "sigmoid", straight_sigmoid)
    # Keras multiplies by torch's own products. On a processor where ours are oneDNN's, the last digits of a sum differ,
    # and after some epochs a row on the edge between two classes falls to the other side.
    monkeypatch.setenv("TRAINER_WITHOUT", "onednn")
    data = None if name in BUNDLED else request.getfixturevalue("data_folder")
    sets = [*SHIPPED[name], "fit.shuffle=false", "callbacks=[]"]
    sets += [] if any("epochs" in s for s in sets) else ["fit.epochs=4"]
    hold_history(load_recipe(RECIPES / f"{name}.yaml", sets), options=Options(data=data))


def test_products_by_onednn(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same first epoch; later ones drift apart, as two trainings do whose sums are rounded differently."""
    sets = [*SHIPPED["fashion_mnist_mlp"], "fit.shuffle=false", "callbacks=[]", "fit.epochs=1"]
    histories = []
    for without in ("onednn", ""):
        monkeypatch.setenv("TRAINER_WITHOUT", without)
        monkeypatch.setattr(products, "has_wide", lambda: True)
        _, training = ours(load_recipe(RECIPES / "fashion_mnist_mlp.yaml", sets), Options(data=data_folder))
        with settings_kept():
            histories.append(training.run())
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5, err_msg=name)
