"""Real Keras: Sequential, compile, fit; the backend is the environment's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
from keras import layers as L
from peer_data import Data, Result
from repeated import milliseconds
from rows import Row

LAYERS: dict[str, Callable[..., list[Any]]] = {
    "dense": lambda units, activation: [L.Dense(units, activation=activation)],
    "conv": lambda filters, size, padding, activation: [
        L.Conv2D(filters, size, padding=padding, activation=activation)
    ],
    "norm": lambda activation: [L.BatchNormalization(), L.Activation(activation)],
    "pool": lambda: [L.MaxPooling2D()],
    "flatten": lambda: [L.Flatten()],
    "dropout": lambda rate: [L.Dropout(rate)],
    "embedding": lambda words, width, masked: [L.Embedding(words, width, mask_zero=masked)],
    "lstm": lambda units: [L.LSTM(units)],
    "gru": lambda units: [L.GRU(units)],
    "both": lambda units: [L.Bidirectional(L.LSTM(units))],
}
LOSSES = {"binary": "binary_crossentropy", "classes": "sparse_categorical_crossentropy", "mse": "mse"}


class Clock(keras.callbacks.Callback):
    """The seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self.began)


def model_of(row: Row) -> Any:
    """The model, compiled."""
    stack = [layer for kind, *options in row.stack for layer in LAYERS[kind](*options)]
    model: Any = keras.Sequential([L.Input(row.shape), *stack])
    model.compile(row.optimizer, LOSSES[row.loss], metrics=["mae" if row.loss == "mse" else "accuracy"])
    return model


def judged(row: Row, data: Data, batch: int) -> dict[str, float]:
    """Milliseconds of evaluating and of predicting the training rows."""
    (x, y), model = data.train, model_of(row)
    return {
        "evaluate_ms": milliseconds(lambda: model.evaluate(x, y, batch_size=batch, verbose=0)),
        "predict_ms": milliseconds(lambda: model.predict(x, batch_size=batch, verbose=0)),
    }


def train(row: Row, data: Data, epochs: int) -> Result:
    """Fit, then evaluate the test rows."""
    model = model_of(row)
    clock = Clock()
    history = model.fit(*data.train, epochs=epochs, batch_size=row.batch, verbose=0, callbacks=[clock])
    if data.test is not None:
        model.evaluate(*data.test, batch_size=row.batch, verbose=0)
    return Result(clock.seconds, model.count_params(), history.history["loss"][-1])
