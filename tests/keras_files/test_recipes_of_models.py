"""Descriptions as recipes: names, wiring, models inside models, what is left out and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.keras_files.importing_by import hold, imported
from trainer.errors import FileError
from trainer.keras_files.importing import Asked, import_file
from trainer.keras_files.lines import Names
from trainer.keras_files.opening import open_file
from trainer.recipe.document import Document
from trainer.train.terms import Options

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
L = keras.layers
X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")

SINGLES = [((), "float32", "age"), ((), "int32", "ids"), ((3,), "float32", "more")]


def trip(model: keras.Model, folder: Path, rows: dict[str, np.ndarray], ending: str = "keras") -> Any:
    """The recipe of a model, whose import predicts the same."""
    model.save(folder / f"model.{ending}")
    made, run = imported(folder / f"model.{ending}", folder)
    hold(run, model, rows)
    return Document.read(made.directory / "recipe.yaml").value


def test_names_that_a_recipe_gives_anyway_are_left_out(tmp_path: Path) -> None:
    layers = [L.Dense(3, name="dense"), L.Dense(3, name="mine"), L.ReLU(name="re_lu"), L.Dense(2, name="dense_1")]
    made = trip(keras.Sequential([L.Input((4,), name="x"), *layers]), tmp_path, {"x": X})
    assert made["model"]["layers"] == [
        {"Dense": {"units": 3}},
        {"Dense": {"name": "mine", "units": 3}},
        "ReLU",
        {"Dense": {"units": 2}},
    ]


def test_names_that_no_recipe_can_have() -> None:
    names = Names(["x"])
    found = [names.of(n) for n in ("block/conv", "block_conv", "x", "_hidden", "a" * 80, "ein zwei", "***")]
    assert found == ["block_conv", "block_conv_1", "x_1", "hidden", "a" * 60, "ein_zwei", "layer"]


def test_an_old_name_with_a_slash_is_told(tmp_path: Path) -> None:
    model = keras.Sequential([L.Input((4,)), L.Dense(2, name="block_conv"), L.Dense(1, name="last")])
    text = model.to_json().replace("block_conv", "block/conv")
    (tmp_path / "slash.json").write_text(text)
    model.save_weights(tmp_path / "slash.weights.h5")
    made, run = imported(tmp_path / "slash.weights.h5", tmp_path)
    assert made.rows[0].notes == ("called block_conv here",)
    hold(run, model, {"x": X})


def test_a_chain_written_as_a_graph_needs_no_inputs(tmp_path: Path) -> None:
    a = keras.Input((4,), name="x")
    model = keras.Model(a, L.Dense(1, name="dense_1")(L.Dense(3, name="dense")(a)))
    made = trip(model, tmp_path, {"x": X})
    assert made["model"] == {
        "inputs": {"x": [4]},
        "layers": [{"Dense": {"units": 3}}, {"Dense": {"units": 1}}],
        "weights": made["model"]["weights"],
    }


def test_outputs_that_are_no_layer_of_their_own(tmp_path: Path) -> None:
    """An input as an output, one output twice, and the tensors of a layer that makes several."""
    a, b = keras.Input((4,), name="a"), keras.Input((5, 3), name="b")
    dense = L.Dense(2, name="dense")(a)
    out, state = L.GRU(2, return_state=True, name="gru")(b)
    model = keras.Model([a, b], [dense, dense, a, state, out])
    rows = {"a": X, "b": np.random.default_rng(1).normal(size=(6, 5, 3)).astype("float32")}
    made = trip(model, tmp_path, rows)
    assert made["model"]["outputs"] == ["dense", "dense_1", "a_1", "gru_1", "gru_0"]
    assert set(made["dataset"]["targets"]) == set(made["model"]["outputs"])


def test_an_input_that_nothing_reads_is_left_out(tmp_path: Path) -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    keras.Model([a, b], L.Dense(2)(a)).save(tmp_path / "model.keras")
    made, _ = imported(tmp_path / "model.keras", tmp_path)
    assert made.notes == ["the input b leads to no output and was left out"]
    assert list(made.inputs) == ["a"]


def test_a_model_called_twice_and_one_in_a_wrapper(tmp_path: Path) -> None:
    inside = keras.Input((3,))
    shared = keras.Model(inside, L.Dense(3, name="out")(L.BatchNormalization(name="norm")(inside)), name="shared")
    a = keras.Input((5, 3), name="a")
    each = L.TimeDistributed(shared, name="each")(a)
    first, last = L.GlobalMaxPooling1D()(each), L.GlobalAveragePooling1D()(a)
    second = keras.Model(inside, L.Dense(3)(inside), name="second")
    model = keras.Model(a, L.Add()([second(first), second(last)]))
    rows = {"a": np.random.default_rng(1).normal(size=(6, 5, 3)).astype("float32")}
    for ending in ("keras", "h5"):
        made = trip(model, tmp_path, rows, ending)
        lines = {next(iter(line)): next(iter(line.values())) for line in made["model"]["layers"]}
        assert lines["second"] == {"name": "second_2", "inputs": "global_average_pooling1d"} | {
            "inputs": lines["GlobalAveragePooling1D"]["name"]
        }
        assert lines["TimeDistributed"]["layer"]["Sequential"]["layers"][1] == {"Dense": {"name": "out", "units": 3}}


def test_number_types(tmp_path: Path) -> None:
    layers = [L.Dense(3, dtype="mixed_bfloat16"), L.Dense(2, dtype="mixed_bfloat16")]
    model = keras.Sequential([L.Input((4,)), *layers])
    model.save(tmp_path / "half.keras")
    made, _ = imported(tmp_path / "half.keras", tmp_path)
    recipe = Document.read(made.directory / "recipe.yaml").value
    assert recipe["model"]["dtype"] == "mixed_bfloat16"
    assert recipe["model"]["layers"] == [{"Dense": {"units": 3}}, {"Dense": {"units": 2}}] or all(
        "dtype" not in next(iter(line.values())) for line in recipe["model"]["layers"]
    )
    mixed = keras.Sequential([L.Input((4,)), L.Dense(3, dtype="float64"), L.Dense(2)])
    made = trip(mixed, tmp_path, {"x": X})
    assert [next(iter(line.values())).get("dtype") for line in made["model"]["layers"]] == ["float64", None]


def test_inputs_of_single_numbers(tmp_path: Path) -> None:
    """Rows of a recipe have features: an axis of one is taken off again, so that all layers read what they did."""
    age, ids, more = (keras.Input(shape, dtype=t, name=n) for shape, t, n in SINGLES)
    read = [L.Embedding(7, 4)(ids), L.Reshape((1,))(L.Rescaling(0.5)(age)), more]
    rng = np.random.default_rng(1)
    rows = {"age": rng.normal(size=9).astype("float32"), "ids": rng.integers(0, 7, 9)}
    rows["more"] = rng.normal(size=(9, 3)).astype("float32")
    made = trip(keras.Model([age, ids, more], L.Dense(2, name="out")(L.Concatenate()(read))), tmp_path, rows)
    assert made["model"]["inputs"] == {"age": [1], "ids": [1], "more": [3]}
    assert {"Reshape": {"name": "age_single", "target_shape": [], "inputs": "age"}} in made["model"]["layers"]


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_chain_on_single_numbers(ending: str, tmp_path: Path) -> None:
    ids = keras.Sequential([L.Input((), dtype="int64", name="ids"), L.Embedding(5, 3), L.Dense(2)])
    made = trip(ids, tmp_path, {"ids": np.arange(5)}, ending)
    assert made["model"]["layers"][:2] == [
        {"InputLayer": {"dtype": "int64"}},
        {"Reshape": {"name": "ids_single", "target_shape": []}},
    ]
    numbers = keras.Sequential([L.Input((), name="x"), L.Rescaling(2.0), L.Reshape((1,)), L.Dense(2)])
    trip(numbers, tmp_path, {"x": X[:, 0]}, ending)


def test_the_mode_that_a_call_says(tmp_path: Path) -> None:
    """Keras 3 does not heed it in predict and fit; Keras 2 drops there, which nothing here does."""
    a = keras.Input((4,))
    mc = keras.Model(a, L.Dropout(0.5, name="drops")(a, training=True))
    mc.save(tmp_path / "mc.keras")
    made, run = imported(tmp_path / "mc.keras", tmp_path)
    hold(run, mc, {"x": X})
    assert [row.notes for row in made.rows] == [
        ("called with training=True in the file; here, as in Keras 3, predict does not",)
    ]
    inbound = [[["x", 0, 0, {"training": True}]]]
    layers = [
        {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}, "inbound_nodes": []},
        {"class_name": "Dropout", "config": {"rate": 0.5, "name": "drops"}, "inbound_nodes": inbound},
    ]
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["drops", 0, 0]]}
    old = {"class_name": "Functional", "config": {"name": "m", "layers": layers, **ends}, "keras_version": "2.9.0"}
    (tmp_path / "mc.json").write_text(json.dumps(old))
    with pytest.raises(FileError, match="drops: the call says training=True"):
        import_file(Asked(tmp_path / "mc.json"), Options(runs=tmp_path / "runs"))
    frozen = L.BatchNormalization(name="norm")(a, training=False)
    keras.Model(a, L.Dense(1)(frozen)).save(tmp_path / "frozen.keras")
    made, _ = imported(tmp_path / "frozen.keras", tmp_path)
    assert any("training=False" in note for row in made.rows for note in row.notes)


def test_augmentation_in_a_graph(tmp_path: Path) -> None:
    """Keras writes training=True for each of these calls; RandomShear's factors it writes as it does not take them."""
    a = keras.Input((8, 8, 3), name="a")
    made = L.RandomRotation(0.1)(L.RandomFlip()(a))
    made = L.RandomShear(x_factor=0.1)(made)
    made = L.RandomBrightness(0.1)(L.Rescaling(1 / 255)(made))
    model = keras.Model(a, L.Dense(2)(L.Flatten()(made)))
    model.save(tmp_path / "augmented.keras")
    found, run = imported(tmp_path / "augmented.keras", tmp_path)
    pictures = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 3)).astype("float32")
    hold(run, model, {"a": pictures})
    layers = Document.read(found.directory / "recipe.yaml").value["model"]["layers"]
    assert {"RandomShear": {"x_factor": 0.1}} in layers
    assert {"RandomBrightness": {"factor": [-0.1, 0.1], "value_range": [0.0, 255.0]}} in layers
    assert all(not row.notes for row in found.rows)


def test_a_graph_in_a_wrapper_is_one_mistake(tmp_path: Path) -> None:
    a = keras.Input((4,))
    inner = keras.Model(a, L.Add()([a, L.Dense(4)(a)]))
    keras.Sequential([L.Input((5, 4)), L.TimeDistributed(inner, name="each")]).save(tmp_path / "each.keras")
    with pytest.raises(FileError) as caught:
        import_file(Asked(tmp_path / "each.keras"), Options(runs=tmp_path / "runs"))
    assert [p.message for p in caught.value.problems] == ["each holds a model that is no chain of layers"]


def test_mappings_of_tensors_without_masks(tmp_path: Path) -> None:
    ends = {"p": keras.Input((3,), name="p"), "q": keras.Input((4,), name="q")}
    inner = keras.Model(ends, {"u": L.Dense(2)(ends["p"]), "v": L.Concatenate()(list(ends.values()))}, name="inner")
    a, b = keras.Input((3,), name="a"), keras.Input((4,), name="b")
    made = inner({"p": a, "q": b})
    trip(keras.Model([a, b], L.Concatenate()([made["u"], made["v"]])), tmp_path, {"a": X[:, :3], "b": X})


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_attention_of_groups_of_queries(ending: str, tmp_path: Path) -> None:
    """A class that Keras calls otherwise in its code, with places that MultiHeadAttention had in TensorFlow 2.12."""
    a = keras.Input((5, 8), name="a")
    model = keras.Model(a, L.GroupQueryAttention(4, 4, 2)(a, a))
    trip(model, tmp_path, {"a": np.random.default_rng(0).normal(size=(3, 5, 8)).astype("float32")}, ending)


def test_frozen_layers_and_wrappers(tmp_path: Path) -> None:
    layers = [
        L.Bidirectional(L.LSTM(2, return_sequences=True), trainable=False),
        L.TimeDistributed(L.Dense(3, trainable=False)),
        L.Flatten(),
        L.Dense(1, trainable=False),
    ]
    made = trip(keras.Sequential([L.Input((4, 1)), *layers]), tmp_path, {"x": X[:, :, None]}, "h5")
    lines = [next(iter(line.items())) for line in made["model"]["layers"] if isinstance(line, dict)]
    assert lines[0][1]["trainable"] is False
    assert lines[0][1]["layer"] == {"LSTM": {"units": 2, "return_sequences": True}}
    assert lines[-1][1]["trainable"] is False


def test_a_stateful_model(tmp_path: Path) -> None:
    model = keras.Sequential([L.Input(batch_shape=(6, 4, 1)), L.LSTM(2, stateful=True), L.Dense(1)])
    model.save(tmp_path / "state.keras")
    made, _ = imported(tmp_path / "state.keras", tmp_path)
    recipe = Document.read(made.directory / "recipe.yaml").value
    assert recipe["fit"] == {"epochs": 10, "batch_size": 6, "shuffle": False}


def test_integers_as_inputs(tmp_path: Path) -> None:
    model = keras.Sequential([L.Input((3,), dtype="int32", name="ids"), L.Embedding(9, 2), L.Flatten(), L.Dense(1)])
    made = trip(model, tmp_path, {"ids": np.arange(18).reshape(6, 3) % 9})
    assert made["model"]["layers"][0] == {"InputLayer": {"dtype": "int32"}}


def test_layers_that_stand_in_another_order_in_the_weights(tmp_path: Path) -> None:
    """Places in `.weights.h5` count the file's layers, which need not stand in our order."""
    a = keras.Input((4,), name="a")
    one, two = L.Dense(3, name="one"), L.Dense(3, name="two")
    model = keras.Model(a, L.Subtract(name="less")([one(a), two(a)]))
    model.save(tmp_path / "model.keras")
    held = json.loads(model.to_json())
    layers = held["config"]["layers"]
    layers[1], layers[2] = layers[2], layers[1]
    (tmp_path / "turned.json").write_text(json.dumps(held))
    import h5py

    model.save_weights(tmp_path / "turned.weights.h5")
    with h5py.File(tmp_path / "turned.weights.h5", "r+") as file:
        file.move("layers/dense", "layers/x")
        file.move("layers/dense_1", "layers/dense")
        file.move("layers/x", "layers/dense_1")
    _, run = imported(tmp_path / "turned.weights.h5", tmp_path)
    hold(run, model, {"a": X})


def test_kinds_of_files_are_told_by_content(tmp_path: Path) -> None:
    model = keras.Sequential([L.Input((4,)), L.Dense(2)])
    model.compile("adam", "mse")
    kinds = {}
    for name, save in {
        "a.keras": model.save,
        "b.h5": model.save,
        "c.weights.h5": model.save_weights,
    }.items():
        save(tmp_path / name)
        (tmp_path / name).rename(tmp_path / f"{name}.bin")
        kinds[name] = open_file(tmp_path / f"{name}.bin")
    (tmp_path / "d.txt").write_text(json.dumps(model.to_json()))
    (tmp_path / "e.txt").write_text(json.dumps(model.get_config()))
    assert kinds["a.keras"].kind == "whole model (.keras)"
    assert kinds["b.h5"].kind == "whole model (HDF5)"
    assert kinds["c.weights.h5"].kind == "weights (.weights.h5)"
    assert (kinds["a.keras"].version, kinds["b.h5"].backend) == (keras.__version__, "torch")
    for name in ("d.txt", "e.txt"):
        found = open_file(tmp_path / name)
        assert found.kind == "architecture (JSON)"
        assert found.architecture is not None
        assert found.architecture["class_name"] == "Sequential"
