"""A whole `fit` against real Keras: equal first weights, no shuffling, several epochs, equal histories and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.harness import close
from tests.train.recipes import loaded
from trainer.runs.keras_config import model_config
from trainer.train.build import Built, build, real_outline
from trainer.train.job import Options, open_table
from trainer.train.loop import Training
from trainer.train.rows import divide

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


def ours(text: str) -> tuple[Built, Training]:
    """A training of ours, ready to run."""
    made = loaded(text)
    table = open_table(made.recipe, None, Options())
    sets = divide(made.recipe, table)
    built = build(made.recipe, real_outline(made.recipe, table), sets.train, torch.device("cpu"))
    assert sets.validation is not None
    feeds = built.training_feed(sets.train), built.feed(sets.validation)
    recipe = made.recipe
    training = Training(
        built.network, built.loss, built.metrics, built.updater(), (), recipe.fit, recipe.seed, *feeds, Path()
    )
    return built, training


def twin(built: Built, text: str) -> Any:
    """The same model in real Keras, with our first weights and compile settings."""
    model = keras.Sequential.from_config(model_config(built.graph)["config"])
    for name in built.graph.layers:
        rows = [t.detach().numpy() for _, _, t, _ in built.network.cell(name).rows()]
        layer = model.get_layer(name)
        for variable, value in zip((*layer.trainable_weights, *layer.non_trainable_weights), rows, strict=False):
            variable.assign(value)
    optimizer = keras.optimizers.deserialize(built.recipe.compile.optimizer.to_keras())
    model.compile(optimizer, keras.losses.deserialize(built.loss.to_keras()), metrics=["accuracy"])
    return model


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("case", CASES)
def test_history_equals_keras(case: str) -> None:
    layers, optimizer, loss, target, more = CASES[case]
    text = MLP.replace("TARGET", target).replace("LAYERS", layers).replace("OPTIMIZER", optimizer)
    text = text.replace("LOSS", loss).replace("MORE", more)
    built, training = ours(text)
    model = twin(built, text)
    whole = training.train, training.validation
    assert whole[1] is not None
    x = np.concatenate([f.x.rows(slice(None)).numpy() for f in whole if f is not None])
    y = np.concatenate([f.y.rows(slice(None)).numpy() for f in whole if f is not None])
    fit = built.recipe.fit
    theirs = model.fit(
        x,
        y,
        epochs=fit.epochs,
        batch_size=fit.batch_size,
        validation_split=fit.validation_split,
        validation_freq=fit.validation_freq,
        shuffle=False,
        class_weight=fit.class_weight,
        verbose=0,
    ).history
    history = training.run()
    history.pop("learning_rate")
    assert set(history) == set(theirs)
    for name, values in theirs.items():
        known = [v for v in history[name] if v == v]
        np.testing.assert_allclose(known, values, rtol=1e-5, atol=1e-7, err_msg=name)
    built.network.eval()
    close(built.network.run(torch.from_numpy(x))[0], model.predict(x, verbose=0), "predictions after training", 1e-4)
