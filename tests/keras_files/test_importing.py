"""Model files of real Keras become runs that predict the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.keras_files.drawn_models import Graph
from tests.keras_files.importing_by import call, hold, imported
from tests.parity.harness import close
from tests.runs.test_keras_opens import ZOO
from tests.runs.zoo import PIPELINES, UNSAVED
from trainer.errors import FileError, RecipeError
from trainer.keras_files.importing import Asked, import_file
from trainer.layers.base import Layer
from trainer.recipe.document import Document
from trainer.recipe.load import load_recipe
from trainer.train.terms import Options

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # Keras's own word about the drawn models.
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning"),
]
L = keras.layers
ANIMALS = [(n, i) for zoo in (ZOO, PIPELINES) for n, animals in zoo.items() for i in range(len(animals))]
GRAPHS = 24
NOT_SAVED_AGAIN = set(UNSAVED)


def chain(shape: tuple[Any, ...], layers: str) -> tuple[keras.Model, np.ndarray]:
    """A model of Keras around layers as a recipe writes them, with rows for it."""
    ids, numbers = shape[-1] == "ids", np.random.default_rng(1)
    shape = shape[:-1] if ids else shape
    specs = Document.parse(f"[{{{layers}}}]").value
    middle = [keras.layers.deserialize(Layer.parse(spec).to_keras()) for spec in specs]
    model = keras.Sequential([L.Input(shape), *middle, L.Flatten(), L.Dense(2)])
    for weight in model.weights:
        if "seed" not in weight.path:
            value = np.asarray(weight.value.detach())
            weight.assign(np.abs(value + numbers.normal(0, 0.3, value.shape)).astype(value.dtype))
    x = numbers.integers(0, 7, (9, *shape)) if ids else numbers.normal(1, 1, (9, *shape))
    return model, x.astype("float32")


@pytest.mark.parametrize(("name", "number"), ANIMALS, ids=[f"{name}-{n}" for name, n in ANIMALS])
def test_every_layer(name: str, number: int, tmp_path: Path) -> None:
    shape, layers = {**ZOO, **PIPELINES}[name][number]
    model, x = chain(shape, layers)
    # One format each: which of the two makes no difference to a layer's options.
    file = tmp_path / ("model.keras" if number % 2 else "model.h5")
    model.save(file)
    made, run = imported(file, tmp_path)
    assert name in [row.there for row in made.rows] or name == "GroupQueryAttention"
    assert made.notes == made.warnings == []
    hold(run, model, {"x": x})


def test_most_of_the_catalogue_is_imported() -> None:
    assert len({name for name, _ in ANIMALS}) > 90


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_drawn_graphs(seed: int, tmp_path: Path) -> None:
    keras.utils.clear_session()
    graph = Graph(seed)
    file = tmp_path / ["model.keras", "model.h5", "model.weights.h5"][seed % 3]
    if seed % 3 == 2:
        (tmp_path / "model.json").write_text(graph.model.to_json())
        graph.model.save_weights(file)
    else:
        graph.model.save(file)
    _, run = imported(file, tmp_path)
    hold(run, graph.model, graph.rows())


def compiled(file: Path) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A trained model of two outputs in a file, with its rows and predictions."""
    a = keras.Input((4,), name="a")
    hidden = L.Dense(5, activation="relu", name="hidden")(a)
    left, right = L.Dense(1, name="left")(hidden), L.Dense(3, activation="softmax", name="right")(hidden)
    model = keras.Model(a, [left, right])
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9), clipnorm=1.0),
        loss={"left": "mse", "right": keras.losses.CategoricalCrossentropy(label_smoothing=0.1)},
        loss_weights={"left": 0.25, "right": 1.0},
        metrics={"left": ["mae"], "right": ["accuracy", keras.metrics.TopKCategoricalAccuracy(k=2)]},
    )
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    model.fit(x, {"left": x.sum(1), "right": np.eye(3)[np.arange(32) % 3]}, verbose=0)
    model.save(file)
    return model, x, model.predict(x, verbose=0)


def test_what_the_recipe_says(tmp_path: Path) -> None:
    compiled(tmp_path / "two.keras")
    made, _ = imported(tmp_path / "two.keras", tmp_path)
    loaded = load_recipe(made.directory / "recipe.yaml")
    assert loaded.recipe.name == "two"
    assert Document.read(made.directory / "recipe.yaml").value == {
        "name": "two",
        "dataset": {
            "source": {"npz": {"path": "two-rows.npz"}},
            "inputs": {"a": {}},
            "targets": {"left": {}, "right": {}},
        },
        "model": {
            "inputs": {"a": [4]},
            "layers": [
                {"Dense": {"name": "hidden", "units": 5, "activation": "relu"}},
                {"Dense": {"name": "left", "units": 1}},
                {"Dense": {"name": "right", "units": 3, "activation": "softmax", "inputs": "hidden"}},
            ],
            "outputs": ["left", "right"],
            "weights": {"from": f"two/{made.directory.name}", "optimizer": True},
        },
        "compile": {
            "optimizer": {
                "Adam": {
                    "learning_rate": {
                        "ExponentialDecay": {"initial_learning_rate": 0.01, "decay_steps": 10, "decay_rate": 0.9}
                    },
                    "clipnorm": 1.0,
                }
            },
            "loss": {"left": "mean_squared_error", "right": {"CategoricalCrossentropy": {"label_smoothing": 0.1}}},
            "loss_weights": {"left": 0.25, "right": 1.0},
            "metrics": {"left": ["mae"], "right": ["accuracy", {"TopKCategoricalAccuracy": {"k": 2}}]},
        },
        "fit": {"epochs": 10, "batch_size": 32},
    }


def test_the_commands_that_take_a_run_take_an_imported_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, x, (left, right) = compiled(tmp_path / "two.h5")
    np.savez("rows.npz", x)
    np.savez("right.npz", left=left, right=right)
    np.savetxt("rows.csv", x, delimiter=",")
    np.savez("data.npz", a=x, left=x.sum(1), right=np.eye(3)[np.arange(32) % 3])
    answer = call("import", "two.h5", "--check-against", "rows.npz", "right.npz", "--json")
    assert answer.code == 0
    found = json.loads(answer.out)["result"]
    assert found["optimizer"] is True
    assert found["parity"][0]["difference"] < 1e-5
    assert [row["here"] for row in found["rows"]] == ["Dense", "Dense", "Dense"]
    np.savez("wrong.npz", left=left + 1, right=right)
    answer = call("import", "two.h5", "--name", "again", "--check-against", "rows.npz", "wrong.npz")
    assert answer.code == 1
    assert "NOT EQUAL to wrong.npz" in answer.out
    for words in (
        ["predict", "two", "rows.npz"],
        ["predict", "two", "rows.csv", "-o", "made.npz"],
        ["summary", "two"],
        ["weights", "two"],
        ["evaluate", "two", "--data", "data.npz"],
        ["validate", str(next(Path("runs/two").glob("*/recipe.yaml")))],
        ["report", "two"],
        ["export", "two", "--to", "keras", "-o", "back.keras"],
    ):
        assert call(*words).code == 0, words
    close(np.load("made.npz")["left"], left[:, 0], "left")
    back = keras.saving.load_model("back.keras")
    assert int(back.optimizer.iterations.value) == 1
    assert "imported" in call("runs").out
    refused = call("evaluate", "two")
    assert refused.code == 5
    assert "no rows of its own" in refused.err
    assert call("resume", "two").code == 5
    assert json.loads(next(Path("runs/two").glob("*/run.json")).read_text())["state"] == "imported"


def test_the_recipe_trains_on_from_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, x, _ = compiled(tmp_path / "two.keras")
    assert call("import", "two.keras").code == 0
    recipe = next(Path("runs/two").glob("*/recipe.yaml"))
    refused = call("fit", str(recipe))
    assert refused.code == 3
    assert "two-rows.npz" in refused.err
    np.savez(recipe.parent / "two-rows.npz", a=x, left=x.sum(1), right=np.eye(3)[np.arange(32) % 3])
    done = call("fit", str(recipe), "--set", "fit.epochs=1")
    assert done.code == 0, done.err
    assert "model.h5: 3 loaded" in done.err


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("empty.h5", "an empty file"),
        ("pointer.h5", "a Git LFS pointer"),
        ("pickle.h5", "a Python pickle"),
        ("page.h5", "a web page"),
        ("torch.keras", "a file of PyTorch"),
        ("arrays.keras", "arrays of numpy"),
        ("text.txt", "something else"),
        ("folder", "a folder"),
        ("unzipped", "a .keras archive that is not zipped"),
        ("parts.weights.json", "the list of weights that stand in several files"),
        ("absent.h5", "there is no file"),
    ],
)
def test_what_is_no_model_file(file: str, says: str, tmp_path: Path) -> None:
    import pickle

    import torch

    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "pointer.h5").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "pickle.h5").write_bytes(pickle.dumps({}, 4))
    (tmp_path / "page.h5").write_text("<!DOCTYPE html><html></html>")
    torch.save({"a": torch.ones(1)}, tmp_path / "torch.keras")
    np.savez(tmp_path / "arrays.npz", x=np.ones(1))
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.keras")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "unzipped").mkdir()
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        (tmp_path / "unzipped" / name).write_bytes(b"")
    (tmp_path / "parts.weights.json").write_text('{"metadata": {}, "weight_map": {}}')
    with pytest.raises(FileError, match=says):
        import_file(Asked(tmp_path / file), Options(runs=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_weights_alone_need_a_model(tmp_path: Path) -> None:
    model = keras.Sequential([L.Input((3,)), L.Dense(2)])
    model.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(FileError, match="without one") as caught:
        import_file(Asked(tmp_path / "only.weights.h5"), Options(runs=tmp_path / "runs"))
    assert "--weights only.weights.h5" in caught.value.problems[0].hint
    (tmp_path / "model.json").write_text(json.dumps(model.to_json()))
    _, run = imported(tmp_path / "model.json", tmp_path, weights=tmp_path / "only.weights.h5")
    hold(run, model, {"x": np.ones((4, 3), "float32")})
    made, _ = imported(tmp_path / "model.json", tmp_path, name="fresh")
    assert made.warnings == ["the file holds no weights: the model begins with new ones"]


def test_a_model_without_a_shape_is_asked_for_one(tmp_path: Path) -> None:
    model = keras.Sequential([L.Dense(4, activation="relu"), L.Dense(2)])
    (tmp_path / "late.json").write_text(model.to_json())
    with pytest.raises(FileError, match="shape") as caught:
        import_file(Asked(tmp_path / "late.json"), Options(runs=tmp_path / "runs"))
    assert "--shape" in caught.value.problems[0].hint
    _, run = imported(tmp_path / "late.json", tmp_path, shape=(5,))
    (made,) = run.predict([np.ones((3, 5), "float32")]).values()
    assert made.shape == (3, 2)


def test_open_sizes(tmp_path: Path) -> None:
    model = keras.Sequential([L.Input((None, 3)), L.Conv1D(4, 2, padding="same"), L.GlobalMaxPooling1D()])
    model.save(tmp_path / "open.keras")
    _, run = imported(tmp_path / "open.keras", tmp_path)
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(0).normal(size=(4, 9, 3)).astype("float32"))
    from trainer.train.reading import read_inputs

    rows = read_inputs(run, "rows.npz", (tmp_path / "rows.npz").read_bytes())
    hold(run, model, {"x": rows[0]})


def test_weights_that_are_no_numbers_are_loaded_with_a_warning(tmp_path: Path) -> None:
    model = keras.Sequential([L.Input((2,)), L.Dense(1, name="odd")])
    model.layers[0].set_weights([np.array([[np.nan], [1.0]]), np.zeros(1)])
    model.save(tmp_path / "odd.h5")
    made, run = imported(tmp_path / "odd.h5", tmp_path)
    assert made.warnings == ["weights of odd hold what is no number (NaN)"]
    assert np.isnan(run.predict([np.ones((1, 2), "float32")])["odd"]).all()


def test_unknown_losses_and_metrics_do_not_stop_an_import(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("mine")
    def contrastive_loss(y_true: Any, y_pred: Any) -> Any:
        return keras.ops.mean(y_pred - y_true)

    model = keras.Sequential([L.Input((2,)), L.Dense(1, activation="sigmoid")])
    model.compile("adam", loss=contrastive_loss, metrics=[contrastive_loss, "accuracy"])
    for file in ("own.keras", "own.h5"):
        model.save(tmp_path / file)
        made, _ = imported(tmp_path / file, tmp_path)
        assert any("contrastive_loss" in note for note in made.notes)
        asked = Document.read(made.directory / "recipe.yaml").value["compile"]
        assert asked["loss"] == "binary_crossentropy"
        assert asked["metrics"] == ["accuracy"]


PLUGIN = '''
from trainer.layers.base import Layer
from trainer.options import PositiveFloat

class Doubling(Layer, keras=""):
    """Times a factor.

    Shape: (batch, ...) -> (batch, ...)
    """
    factor: PositiveFloat = 2.0
    "What the input is multiplied with."

    def forward(self, w, x):
        return x * self.factor
'''


@pytest.mark.usefixtures("plugins_forgotten")
def test_custom_classes_are_named_all_at_once_and_come_from_plugins(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("mine")
    class Doubling(L.Layer):
        def __init__(self, factor: float = 2.0, **rest: Any):
            super().__init__(**rest)
            self.factor = factor

        def call(self, x: Any) -> Any:
            return x * self.factor

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "factor": self.factor}

    @keras.saving.register_keras_serializable("mine")
    class Other(L.Layer):
        def call(self, x: Any) -> Any:
            return x

    model = keras.Sequential([L.Input((2,)), Doubling(3.0), L.Dense(2), Doubling(name="second"), Other()])
    model.save(tmp_path / "own.keras")
    with pytest.raises(FileError) as caught:
        import_file(Asked(tmp_path / "own.keras"), Options(runs=tmp_path / "runs"))
    said = str(caught.value)
    assert all(word in said for word in ("Doubling", "second", "Other", "plugin"))
    chain = keras.Sequential(model.layers[:-1])
    chain.build((None, 2))
    chain.save(tmp_path / "own.keras")
    (tmp_path / "mine.py").write_text(PLUGIN)
    made, run = imported(tmp_path / "own.keras", tmp_path, plugins=(tmp_path / "mine.py",))
    hold(run, chain, {"x": np.ones((3, 2), "float32")})
    assert (made.directory / "mine.py").is_file()
    with pytest.raises(RecipeError, match="no-plugins"):
        import_file(
            Asked(tmp_path / "own.keras", plugins=(tmp_path / "mine.py",)),
            Options(runs=tmp_path / "runs", allow_plugins=False),
        )


@pytest.mark.parametrize("ending", ["keras", "weights.h5"])
def test_what_lora_learned_is_in_the_weights(ending: str, tmp_path: Path) -> None:
    words, dense = L.Embedding(9, 6), L.Dense(4)
    model = keras.Sequential([L.Input((5,), name="x"), words, dense])
    for layer in (words, dense):
        layer.enable_lora(2)
    for number, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(number).normal(size=weight.shape))
    (model.save if ending == "keras" else model.save_weights)(tmp_path / f"model.{ending}")
    (tmp_path / "model.json").write_text(model.to_json())
    made, run = imported(tmp_path / f"model.{ending}", tmp_path)
    assert [row.notes for row in made.rows] == [
        ("what LoRA learned is part of the weights here, as Keras saves them",)
    ] * 2
    hold(run, model, {"x": np.random.default_rng(0).integers(0, 9, (4, 5))})


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_the_layer_that_only_convnext_has(ending: str, tmp_path: Path) -> None:
    from keras.src.applications.convnext import LayerScale

    a = keras.Input((4, 4, 6), name="a")
    scaled = [LayerScale(0.1, 6, name=f"scale_{n}") for n in range(2)]
    made = L.EinsumDense("...x,xy->...y", 6, name="between")(scaled[0](L.Conv2D(6, 1)(a)))
    model = keras.Model(a, L.Add()([a, scaled[1](made)]))
    for number, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(number).normal(size=weight.shape))
    model.save(tmp_path / f"model.{ending}")
    _, run = imported(tmp_path / f"model.{ending}", tmp_path)
    hold(run, model, {"a": np.random.default_rng(0).normal(size=(3, 4, 4, 6)).astype("float32")})


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")
def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    model = keras.Sequential([L.Input((6,)), L.Dense(8, name="wide"), L.Dense(2, name="last")])
    model.quantize("int8")
    model.save(tmp_path / "small.keras")
    with pytest.raises(FileError, match="wide: its weights are quantized") as caught:
        import_file(Asked(tmp_path / "small.keras"), Options(runs=tmp_path / "runs"))
    assert [p.message for p in caught.value.problems] == [f"{n}: its weights are quantized" for n in ("wide", "last")]


def test_weights_of_another_model_are_told_by_layer(tmp_path: Path) -> None:
    import h5py

    model = keras.Sequential([L.Input((6,)), L.Dense(8, name="wide"), L.Dense(2, name="last")])
    model.save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"units": 8', '"units": 9')
    with pytest.raises(FileError, match=r"wide asks for 63, and has arrays of \(6, 8\), \(8,\)"):
        import_file(Asked(tmp_path / "model.h5"), Options(runs=tmp_path / "runs"))


def test_explicit_masks_are_refused(tmp_path: Path) -> None:
    a = keras.Input((5,))
    vectors = L.Embedding(4, 3, name="vectors")(a)
    made = L.LSTM(2, name="reader")(vectors, mask=keras.ops.not_equal(a, 0))
    keras.Model(a, made).save(tmp_path / "mask.keras")
    with pytest.raises(FileError, match="reader is handed a mask"):
        import_file(Asked(tmp_path / "mask.keras"), Options(runs=tmp_path / "runs"))


def test_texts_before_the_model(tmp_path: Path) -> None:
    """TextVectorization needs TensorFlow in Keras: here is what it writes, over a model that Keras wrote."""
    model = keras.Sequential([L.Input((4,), name="ids"), L.Embedding(6, 3), L.GlobalAveragePooling1D(), L.Dense(1)])
    model.save(tmp_path / "ids.h5")
    _, ids = imported(tmp_path / "ids.h5", tmp_path)
    import h5py

    words = {"max_tokens": 6, "standardize": "lower_and_strip_punctuation", "split": "whitespace", "ngrams": None}
    words |= {"output_mode": "int", "output_sequence_length": 4, "vocabulary": ["the", "cat", "sat"], "name": "words"}
    with h5py.File(tmp_path / "ids.h5", "r+") as file:
        held = json.loads(file.attrs["model_config"])
        config = held["config"]
        config["layers"][0]["config"] |= {"batch_shape": [None, 1], "dtype": "string", "name": "text"}
        config["layers"].insert(1, {"class_name": "TextVectorization", "config": words})
        file.attrs["model_config"] = json.dumps(held)
        names = ["words", *file["model_weights"].attrs["layer_names"]]
        file["model_weights"].create_group("words").attrs["weight_names"] = np.array([], "S1")
        file["model_weights"].attrs["layer_names"] = names
    _, run = imported(tmp_path / "ids.h5", tmp_path, name="texts")
    from trainer.train.reading import read_inputs

    rows = read_inputs(run, "rows.txt", b"The cat sat.\na dog sat\n")
    wanted = ids.predict([np.array([[2, 3, 4, 0], [1, 1, 4, 0]], "float32")])
    close(next(iter(run.predict(rows).values())), next(iter(wanted.values())), "texts")


def test_real_keras_is_asked_only_when_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    compiled(tmp_path / "two.keras")
    answer = call("import", "two.keras", "--check-with", "python")
    assert answer.code == 0, answer.err
    assert "equal to Keras of" in answer.out
    refused = call("import", "two.keras", "--check-with", "./no-python")
    assert refused.code == 4
    assert "No such file" in refused.err
