"""A row's data as its peers take them: read from the arrays, prepared as their users would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rows import Row

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Data:
    """Training rows, and test rows where there are some."""

    train: Arrays
    test: Arrays | None

    def folds(self, count: int) -> list[Data]:
        """The training rows with each fold in turn, in order, as the test rows."""
        parts = np.array_split(np.arange(len(self.train[0])), count)
        x, y = self.train
        return [Data((np.delete(x, held, 0), np.delete(y, held, 0)), (x[held], y[held])) for held in parts]


@dataclass
class Result:
    """What a peer tells of a training."""

    epoch_seconds: list[float]
    parameters: int
    loss: float
    "Of the last epoch."


def multi_hot(words: np.ndarray, offsets: np.ndarray, width: int) -> np.ndarray:
    """One number a word: 1 where the row has it."""
    out = np.zeros((len(offsets) - 1, width), "float32")
    for row in range(len(out)):
        out[row, words[offsets[row] : offsets[row + 1]]] = 1.0
    return out


def padded(words: np.ndarray, offsets: np.ndarray, length: int) -> np.ndarray:
    """Rows cut or padded in front to one length."""
    out = np.zeros((len(offsets) - 1, length), "int64")
    for row in range(len(out)):
        tail = words[offsets[row] : offsets[row + 1]][-length:]
        out[row, length - len(tail) :] = tail
    return out


def target(row: Row, y: np.ndarray) -> np.ndarray:
    """Class numbers as they are; numbers as a column."""
    return y.astype("int64") if row.loss == "classes" else y.astype("float32").reshape(-1, 1)


def read(row: Row, path: Path) -> Data:
    """The rows of an .npz file, prepared."""
    with np.load(path) as file:
        parts = {
            suffix: (_input(row, file[f"x{suffix}"], file.get(f"offsets{suffix}")), target(row, file[f"y{suffix}"]))
            for suffix in ("", "_test")
            if f"x{suffix}" in file
        }
    if row.data == "standardised":
        mean, std = parts[""][0].mean(0), parts[""][0].std(0)
        parts = {suffix: ((x - mean) / std, y) for suffix, (x, y) in parts.items()}
    return Data(parts[""], parts.get("_test"))


def _input(row: Row, x: np.ndarray, offsets: np.ndarray | None) -> np.ndarray:
    if offsets is not None:
        return multi_hot(x, offsets, row.shape[0]) if row.data == "multi_hot" else padded(x, offsets, row.shape[0])
    scale = {"pixels": 255, "sixteenths": 16}.get(row.data, 1)
    return (np.asarray(x, "float32") / scale).reshape(len(x), *row.shape)
