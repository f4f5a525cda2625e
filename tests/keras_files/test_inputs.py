"""The inputs of a described model: what is said of them, what stands before the model, what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import keras
import pytest

from trainer.errors import FileError
from trainer.keras_files.recipe import Translation, translated

L = keras.layers


@dataclass
class Described:
    """A description alone, as a file has it: no weights."""

    architecture: dict[str, Any]
    training: dict[str, Any] | None = None
    old: bool = False


def recipe_of(model: keras.Model, shape: tuple[int | None, ...] | None = None) -> Translation:
    return translated(Described(json.loads(model.to_json())), "model", shape=shape)


def test_an_input_of_a_type_that_rows_do_not_have() -> None:
    made = recipe_of(keras.Sequential([L.Input((4,), dtype="float16", name="x"), L.Dense(2)]))
    assert made.notes == ["the input x is of float16 in the file, of float32 here"]


@pytest.mark.parametrize("names", [["x"], ["x", "other"]])
def test_inputs_of_integers(names: list[str]) -> None:
    inputs = [keras.Input((4,), dtype="int32" if n == "x" else "float32", name=n) for n in names]
    read = [L.Flatten()(L.Embedding(9, 2)(inputs[0])), *inputs[1:]]
    made = recipe_of(keras.Model(inputs, L.Dense(2)(L.Concatenate()([*read, read[0]]))))
    named = {"name": "x"} if len(names) > 1 else {}
    assert made.recipe["model"]["layers"][0] == {"InputLayer": {**named, "dtype": "int32"}}
    assert made.recipe["model"]["inputs"] == {n: [4] for n in names}


def test_what_reads_raw_rows_stands_before_the_model() -> None:
    x = keras.Input((3,), name="x")
    model = keras.Model(x, L.Dense(2, name="dense")(L.Rescaling(1.0, name="look")(x)))
    described = json.loads(model.to_json())
    # Keras itself needs TensorFlow to make one.
    looked = next(e for e in described["config"]["layers"] if e["class_name"] == "Rescaling")
    looked["class_name"] = "StringLookup"
    looked["config"] = {"name": "look", "vocabulary": ["a", "b"], "output_mode": "multi_hot"}
    made = translated(Described(described), "model")
    row = made.rows[0]
    assert (row.path, row.name, row.notes) == (("look",), "x", ["stands before the model, on raw rows"])
    assert made.recipe["model"] == {"inputs": {"x": [3]}, "layers": [{"Dense": {"units": 2}}]}
    assert made.level.inputs[0].shape == (None, 3)
    assert [type(step).__name__ for step in made.level.inputs[0].steps] == ["StringLookup"]


def test_the_batch_size_of_the_file_and_a_shape_that_is_asked_for() -> None:
    fixed = keras.Sequential([L.Input((None, 4), batch_size=6, name="x"), L.LSTM(2)])
    assert recipe_of(fixed).recipe["fit"]["batch_size"] == 6
    made = recipe_of(fixed, shape=(7, 4))
    assert made.recipe["model"]["inputs"] == {"x": [7, 4]}
    assert made.recipe["fit"]["batch_size"] == 32


def test_two_layers_of_one_name() -> None:
    described = json.loads(keras.Sequential([L.Input((4,)), L.Dense(2), L.Dense(2)]).to_json())
    for layer in described["config"]["layers"][1:]:
        layer["config"]["name"] = "twin"
    with pytest.raises(FileError, match="the model: two layers have one name"):
        translated(Described(described), "model")


def test_models_too_deep_inside_each_other() -> None:
    model = keras.Sequential([L.Input((4,)), L.Dense(2)], name="m0")
    for depth in range(1, 18):
        model = keras.Sequential([L.Input((4,)), model], name=f"m{depth}")
    with pytest.raises(FileError, match=r"m16/m15/.*/m0: expected at most 16 models inside each other"):
        recipe_of(model)
