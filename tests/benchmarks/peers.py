"""One seed program in real Keras (torch backend) or in a plain PyTorch loop; prints the seconds of each epoch as JSON.

python tests/benchmarks/peers.py keras pima --epochs 5
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch

from trainer.sources.base import Places, Source
from trainer.sources.columns import Ragged

SOURCES: dict[str, Any] = {
    "pima": "pima_indians_diabetes",
    "boston": "boston_housing",
    "mnist_mlp": "fashion_mnist",
    "mnist_cnn": {"mnist": {"folder": "mnist-5k"}},
    "imdb": {"imdb": {"num_words": 10000}},
    "reuters": {"reuters": {"num_words": 10000}},
    "imdb_lstm": {"imdb": {"num_words": 10000}},
    "digits": "digits",
}
BATCH = {"pima": 10, "boston": 16, "imdb": 512, "reuters": 512, "digits": 32}


def multi_hot(words: Ragged, width: int) -> np.ndarray:
    """Chollet's vectorize_sequences."""
    out = np.zeros((len(words), width), "float32")
    for row in range(len(words)):
        out[row, words[row]] = 1.0
    return out


def padded(words: Ragged, length: int) -> np.ndarray:
    """Rows cut or padded in front to one length."""
    out = np.zeros((len(words), length), "int64")
    for row in range(len(words)):
        tail = words[row][-length:]
        out[row, length - len(tail) :] = tail
    return out


Arrays = tuple[np.ndarray, np.ndarray]


def arrays(name: str, data: Path | None) -> tuple[Arrays, Arrays | None]:
    """The training and the test rows of a program, preprocessed."""
    table = Source.parse(SOURCES[name]).open(Places(None, data))
    train = prepared(name, table.train.columns)
    test = prepared(name, table.test.columns) if table.test is not None else None
    if name == "boston":
        mean, std = train[0].mean(0), train[0].std(0)
        train = (train[0] - mean) / std, train[1]
        test = test and ((test[0] - mean) / std, test[1])
    return train, test


def prepared(name: str, fields: Mapping[str, Any]) -> Arrays:
    """Input and target as the model takes them."""
    columns = list(fields.values())
    if name == "pima":
        return np.stack(columns[:8], 1).astype("float32"), np.asarray(columns[8], "float32")[:, None]
    x, y = columns[0], np.asarray(columns[-1])
    if name == "boston":
        return np.asarray(x, "float32"), y.astype("float32").reshape(-1, 1)
    if name in ("imdb", "reuters"):
        x = multi_hot(x, 10000)
        return x, y.astype("float32")[:, None] if name == "imdb" else y.astype("int64")
    if name == "imdb_lstm":
        return padded(x, 200), y.astype("float32")[:, None]
    if name == "digits":
        return np.asarray(x, "float32").reshape(-1, 64) / 16, y.astype("int64")
    x = np.asarray(x, "float32") / 255
    return x.reshape(len(x), -1) if name == "mnist_mlp" else x[..., None], y.astype("int64")


def keras_model(name: str) -> Any:
    """The program in Keras, compiled."""
    import keras
    from keras import layers as L

    stacks: dict[str, list[Any]] = {
        "pima": [L.Input((8,)), L.Dense(12, activation="relu"), L.Dense(1, activation="sigmoid")],
        "boston": [L.Input((13,)), L.Dense(64, activation="relu"), L.Dense(64, activation="relu"), L.Dense(1)],
        "mnist_mlp": [L.Input((784,)), L.Dense(512, activation="relu"), L.Dense(10, activation="softmax")],
        "digits": [
            L.Input((64,)), L.Dense(64, activation="relu"), L.Dropout(0.2), L.Dense(10, activation="softmax"),
        ],
        "mnist_cnn": [
            L.Input((28, 28, 1)), L.Conv2D(32, 3, activation="relu"), L.MaxPooling2D(),
            L.Conv2D(64, 3, activation="relu"), L.MaxPooling2D(), L.Conv2D(64, 3, activation="relu"), L.Flatten(),
            L.Dense(64, activation="relu"), L.Dense(10, activation="softmax"),
        ],
        "imdb": [
            L.Input((10000,)), L.Dense(16, activation="relu"), L.Dense(16, activation="relu"),
            L.Dense(1, activation="sigmoid"),
        ],
        "reuters": [
            L.Input((10000,)), L.Dense(64, activation="relu"), L.Dense(64, activation="relu"),
            L.Dense(46, activation="softmax"),
        ],
        "imdb_lstm": [L.Input((200,)), L.Embedding(10000, 32), L.LSTM(32), L.Dense(1, activation="sigmoid")],
    }  # fmt: skip
    model = keras.Sequential(stacks[name])
    loss = {"boston": "mse", "pima": "binary_crossentropy", "imdb": "binary_crossentropy"}
    loss["imdb_lstm"] = "binary_crossentropy"
    optimizer = "adam" if name in ("pima", "mnist_cnn", "digits") else "rmsprop"
    metric = "mae" if name == "boston" else "accuracy"
    model.compile(optimizer, loss.get(name, "sparse_categorical_crossentropy"), metrics=[metric])
    return model


def run_keras(name: str, train: Arrays, test: Arrays | None, epochs: int) -> list[float]:
    """Seconds of each epoch of `model.fit`; the test rows are evaluated afterwards."""
    import keras

    class Clock(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    clock = Clock()
    model, size = keras_model(name), BATCH.get(name, 128)
    model.fit(*train, epochs=epochs, batch_size=size, verbose=0, callbacks=[clock])
    if test is not None:
        model.evaluate(*test, batch_size=size, verbose=0)
    return clock.seconds


class Last(torch.nn.Module):
    """Embedding, LSTM and its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(10000, 32)
        self.lstm = torch.nn.LSTM(32, 32, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(self.embedding(x))[0][:, -1]


def torch_model(name: str) -> torch.nn.Module:
    """The program in torch.nn; classes end in raw scores, as PyTorch users write it."""
    n = torch.nn
    stacks: dict[str, Any] = {
        "pima": lambda: [n.Linear(8, 12), n.ReLU(), n.Linear(12, 1)],
        "boston": lambda: [n.Linear(13, 64), n.ReLU(), n.Linear(64, 64), n.ReLU(), n.Linear(64, 1)],
        "mnist_mlp": lambda: [n.Linear(784, 512), n.ReLU(), n.Linear(512, 10)],
        "digits": lambda: [n.Linear(64, 64), n.ReLU(), n.Dropout(0.2), n.Linear(64, 10)],
        "mnist_cnn": lambda: [
            n.Conv2d(1, 32, 3), n.ReLU(), n.MaxPool2d(2), n.Conv2d(32, 64, 3), n.ReLU(), n.MaxPool2d(2),
            n.Conv2d(64, 64, 3), n.ReLU(), n.Flatten(), n.Linear(576, 64), n.ReLU(), n.Linear(64, 10),
        ],
        "imdb": lambda: [n.Linear(10000, 16), n.ReLU(), n.Linear(16, 16), n.ReLU(), n.Linear(16, 1)],
        "reuters": lambda: [n.Linear(10000, 64), n.ReLU(), n.Linear(64, 64), n.ReLU(), n.Linear(64, 46)],
        "imdb_lstm": lambda: [Last(), n.Linear(32, 1)],
    }  # fmt: skip
    return n.Sequential(*stacks[name]())


def tensors(name: str, rows: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows as PyTorch takes them."""
    x, y = rows
    if name == "mnist_cnn":
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return torch.from_numpy(x), torch.from_numpy(y)


def run_torch(name: str, train: Arrays, test: Arrays | None, epochs: int) -> list[float]:
    """Seconds of each epoch of a good plain loop: tensors in memory, index batches, metrics kept as tensors."""
    xs, ys = tensors(name, train)
    model = torch_model(name)
    if name in ("pima", "mnist_cnn", "digits"):
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), eps=1e-7)
    else:
        optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    binary, regression = name in ("pima", "imdb", "imdb_lstm"), name == "boston"
    loss_of: Any = (
        torch.nn.BCEWithLogitsLoss() if binary else torch.nn.MSELoss() if regression else torch.nn.CrossEntropyLoss()
    )

    def hits(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if regression:
            return (out - y).abs().sum()
        return (((out > 0) == (y > 0.5)) if binary else out.argmax(1) == y).sum()

    size, seconds = BATCH.get(name, 128), []
    for _ in range(epochs):
        began = time.perf_counter()
        total, right = torch.zeros(()), torch.zeros(())
        for index in torch.randperm(len(xs)).split(size):
            xb, yb = xs[index], ys[index]
            out = model(xb)
            loss = loss_of(out, yb)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            with torch.no_grad():
                right += hits(out, yb)
        print(f"loss {total.item():.4f}, metric {right.item():.4f}", file=sys.stderr)
        seconds.append(time.perf_counter() - began)
    if test is not None:
        model.eval()
        with torch.inference_mode():
            for xb, yb in zip(*(t.split(size) for t in tensors(name, test)), strict=True):
                out = model(xb)
                total += loss_of(out, yb) * len(xb)
                right += hits(out, yb)
        print(f"loss {total.item():.4f}, metric {right.item():.4f}", file=sys.stderr)
    return seconds


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=["keras", "torch"])
    parser.add_argument("program", choices=sorted(SOURCES))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data", type=Path, default=None)
    asked = parser.parse_args()
    train, test = arrays(asked.program, asked.data)
    if asked.program == "digits":
        test = None
    run = run_keras if asked.peer == "keras" else run_torch
    print(json.dumps({"epoch_seconds": run(asked.program, train, test, asked.epochs), "rows": len(train[0])}))


if __name__ == "__main__":
    main()
