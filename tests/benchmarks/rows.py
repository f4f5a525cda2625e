"""The programs that are measured: a recipe of ours, and in a few words the same model for everyone else.

Nothing heavy is imported here: the interpreter of the peers reads this file too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

Stack = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Row:
    """A program: what is trained, on what, for how long."""

    recipe: str
    "Our recipe, from the root of the repository."
    stack: Stack
    """Its layers: (dense, units, activation), (conv, filters, size, padding, activation), (norm, activation), (pool,),
    (flatten,), (dropout, rate), (embedding, words, width, whether 0 is masked), (lstm, units), (gru, units), and (both,
    units) for an LSTM in both directions."""
    shape: tuple[int, ...]
    "One row as the model takes it, channels last."
    loss: str
    "binary, classes (numbers of classes) or mse; the metric is accuracy, or mae for mse."
    epochs: int
    batch: int
    optimizer: str = "rmsprop"
    data: str = "numbers"
    """How the raw column becomes the input: numbers, standardised, sixteenths, pixels (divided by 255), multi_hot or
    padded (sequences cut or filled in front)."""
    sets: tuple[str, ...] = ()
    "What `--set` changes in the recipe."
    folds: int = 0
    "Trained once for each of so many folds, one after the other."
    floor: bool = False
    "Whether the time of its bare products and convolutions is measured too."
    drawn: tuple[str, ...] = ()
    "Arguments of drawn.py that make its data."
    timing: int = 1
    "Times the epochs for us, where an epoch is found from the length of two runs."


def row_count(row: Row, rows: int) -> int:
    """Rows that one epoch of one model sees; a fold leaves its part out."""
    return rows - rows // row.folds if row.folds else rows


def steps(row: Row, rows: int) -> int:
    """Steps of an epoch, over all folds."""
    return math.ceil(row_count(row, rows) / row.batch) * max(1, row.folds)


_POOL, _FLATTEN = ("pool",), ("flatten",)


def _block(filters: int) -> Stack:
    one = (("conv", filters, 3, "same", None), ("norm", "relu"))
    return (*one, *one, _POOL)


_BOSTON: Stack = (("dense", 64, "relu"), ("dense", 64, "relu"), ("dense", 1, None))
_CONVOLUTIONS: Stack = (
    ("conv", 32, 3, "valid", "relu"), _POOL, ("conv", 64, 3, "valid", "relu"), _POOL,
    ("conv", 64, 3, "valid", "relu"), _FLATTEN, ("dense", 64, "relu"), ("dense", 10, "softmax"),
)  # fmt: skip
_VGG: Stack = (*_block(32), *_block(64), *_block(128), _FLATTEN, ("dense", 128, "relu"), ("dense", 10, "softmax"))
_ALL_ROWS, _ALL = "fit.validation_split=0", "dataset.split={}"
_MINE = "tests/benchmarks/recipes"


def _boston(batch: int, epochs: int, *sets: str, **more: Any) -> Row:
    sets = (f"fit.batch_size={batch}", *sets)
    return Row("recipes/boston.yaml", _BOSTON, (13,), "mse", epochs, batch, data="standardised", sets=sets, **more)


def _words(recipe: str, kind: str, *, masked: bool = False) -> Row:
    stack = (("embedding", 10000, 32, masked), (kind, 32), ("dense", 1, "sigmoid"))
    return Row(recipe, stack, (200,), "binary", 3, 128, data="padded", sets=(_ALL_ROWS,), floor=not masked)


ROWS: dict[str, Row] = {
    "digits": Row(
        "recipes/digits.yaml", (("dense", 64, "relu"), ("dropout", 0.2), ("dense", 10, "softmax")), (64,), "classes",
        30, 32, "adam", "sixteenths", (_ALL_ROWS, _ALL, "callbacks=[]"),
    ),
    "pima": Row("recipes/pima.yaml", (("dense", 12, "relu"), ("dense", 1, "sigmoid")), (8,), "binary", 100, 10, "adam"),
    "boston": _boston(16, 80, "fit.kfold=null"),
    "boston_1": _boston(1, 30, "fit.kfold=null"),
    "boston_folds": _boston(
        16, 40, "fit.kfold={folds: 4, final: false}", "fit.validation_freq=1000000", folds=4, timing=20
    ),
    "mnist_mlp": Row(
        "recipes/fashion_mnist_mlp.yaml", (("dense", 512, "relu"), ("dense", 10, "softmax")), (784,), "classes",
        4, 128, data="pixels", sets=(_ALL_ROWS,), floor=True,
    ),
    "mnist_cnn": Row(
        "recipes/mnist_cnn_5k.yaml", _CONVOLUTIONS, (28, 28, 1), "classes",
        4, 128, "adam", "pixels", (_ALL_ROWS,), floor=True,
    ),
    "vgg32": Row(
        f"{_MINE}/vgg32.yaml", _VGG, (32, 32, 3), "classes",
        3, 128, "adam", "pixels", floor=True, drawn=("pictures", "--rows", "2000"),
    ),
    "imdb": Row(
        "recipes/imdb.yaml", (("dense", 16, "relu"), ("dense", 16, "relu"), ("dense", 1, "sigmoid")), (10000,),
        "binary", 4, 512, data="multi_hot",
    ),
    "reuters": Row(
        "recipes/reuters.yaml", (("dense", 64, "relu"), ("dense", 64, "relu"), ("dense", 46, "softmax")), (10000,),
        "classes", 6, 512, data="multi_hot", sets=(_ALL,),
    ),
    "imdb_lstm": _words("recipes/imdb_lstm.yaml", "lstm"),
    "imdb_gru": _words(f"{_MINE}/imdb_gru.yaml", "gru"),
    "imdb_masked": _words(f"{_MINE}/imdb_masked.yaml", "both", masked=True),
}  # fmt: skip
