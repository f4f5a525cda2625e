"""Operations in the code of a Keras 3 model: layers compute the most common, the others are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from tests.keras_files.importing_by import hold, imported
from trainer.errors import FileError
from trainer.keras_files.importing import Asked, import_file
from trainer.train.terms import Options

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
L = keras.layers
Change = Callable[[Any], Any]
X = np.random.default_rng(0).normal(size=(5, 4, 6)).astype("float32")
CHANGES: dict[str, Change] = {
    "x + 1": lambda x: x + 1,
    "1 + x": lambda x: 1 + x,
    "x - 0.5": lambda x: x - 0.5,
    "2 - x": lambda x: 2.0 - x,
    "x * 3": lambda x: x * 3,
    "x / 4": lambda x: x / 4,
    "-x": lambda x: -x,
    "x ** 2": lambda x: x**2,
    "square": ops.square,
    "x + x": lambda x: x + x,
    "relu": ops.relu,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "exp": ops.exp,
    "log_softmax": ops.log_softmax,
    "softmax": lambda x: ops.softmax(x, axis=1),
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "leaky_relu": lambda x: ops.leaky_relu(x, negative_slope=0.3),
    "elu": lambda x: ops.elu(x, 0.5),
    "maximum": lambda x: ops.maximum(x, 0.0),
    "clip": lambda x: ops.clip(x, 0, 1),
    "concatenate": lambda x: ops.concatenate([x, x * 2], axis=-1),
    "reshape": lambda x: ops.reshape(x, (-1, 3, 8)),
    "expand_dims": lambda x: ops.expand_dims(x, -1),
    "squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "transpose": lambda x: ops.transpose(x, (0, 2, 1)),
}
OTHERS: dict[str, Change] = {
    "GetItem": lambda x: x[:, 0],
    "Mean": lambda x: ops.mean(x, axis=1),
    "Gelu": ops.gelu,
    "Divide": lambda x: ops.divide(1.0, x),
    "Reshape": lambda x: ops.reshape(x, (-1, 3)),
    "Transpose": lambda x: ops.transpose(x, (1, 0, 2)),
    "Clip": lambda x: ops.clip(x, -1, 1),
    "Maximum": lambda x: ops.maximum(x, 1.0),
}


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_what_layers_compute(ending: str, tmp_path: Path) -> None:
    a = keras.Input((4, 6), name="a")
    model = keras.Model(a, [change(a) for change in CHANGES.values()])
    model.save(tmp_path / f"model.{ending}")
    _, run = imported(tmp_path / f"model.{ending}", tmp_path)
    hold(run, model, {"a": X})


def test_an_operation_called_again_is_two_of_them(tmp_path: Path) -> None:
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    dense = L.Dense(6)
    model = keras.Model([a, b], L.Dense(2)(ops.relu((dense(a) - dense(b)) ** 2 * 0.5 - 1)))
    model.save(tmp_path / "two.keras")
    _, run = imported(tmp_path / "two.keras", tmp_path)
    hold(run, model, {"a": X[:, 0], "b": X[:, 1]})


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_named(name: str, tmp_path: Path) -> None:
    a = keras.Input((4, 6), name="a")
    keras.Model(a, OTHERS[name](a)).save(tmp_path / "model.keras")
    with pytest.raises(FileError, match=f"{name}|an operation on a tensor and a number is no layer"):
        import_file(Asked(tmp_path / "model.keras"), Options(runs=tmp_path / "runs"))


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_no_mask_goes_through_an_operation(ending: str, tmp_path: Path) -> None:
    """Nothing hands a mask on there: a mean behind it counts every step, one behind a layer does not."""
    a = keras.Input((5,), name="a")
    words = L.Embedding(6, 4, mask_zero=True)(a)
    made = [words, words + words, words * 2.0, ops.relu(words), L.Add()([words, words]), L.ReLU()(words)]
    model = keras.Model(a, [L.GlobalAveragePooling1D()(x) for x in made])
    model.save(tmp_path / f"model.{ending}")
    _, run = imported(tmp_path / f"model.{ending}", tmp_path)
    hold(run, model, {"a": np.random.default_rng(0).integers(0, 3, (7, 5))})
