"""Real Keras opens `model.h5`: the same layers, weights, predictions and figures, and it trains on there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch

from tests.parity.harness import close
from tests.runs.zoo import OTHERS, PIPELINES, UNSAVED
from tests.train.recipes import output, trained
from trainer.errors import FileError
from trainer.layers.bags import Bags
from trainer.layers.base import Layer
from trainer.recipe.load import load_recipe
from trainer.runs.directory import RunDirectory
from trainer.runs.keras_config import KERAS_VERSION
from trainer.runs.model_file import read_model
from trainer.train.feed import Feed
from trainer.train.job import Options, Outcome, fit
from trainer.train.scoring import evaluate, predict
from trainer.train.use import OpenRun

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def is_chain(path: Path) -> bool:
    """Whether a recipe's model is a list of layers, each reading the one above it (graphs have tests of their own)."""
    model = load_recipe(path).recipe.model
    return model.outputs is None and all(
        isinstance(x, Layer) and x.inputs is None and not x.wires for x in model.layers
    )


CHAINS = [path for path in RECIPES if is_chain(path)]
TINY = ["fit.epochs=1", "dataset.limit=100", "callbacks=[]"]
BATCH = 32

pytestmark = [
    # Keras's torch backend hands numpy a tensor without the new argument.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def tiny(path: Path) -> list[str]:
    """Changes that let a recipe train in about a second, on the small MNIST where it asks for the whole one."""
    sets, recipe = list(TINY), load_recipe(path).recipe
    # The test rows are cut off the training rows too, since a published test set is 25,000 rows long.
    sets.append("dataset.split={test: {last: 32}}")
    if recipe.dataset.split.validation is not None:
        sets.append("dataset.split.validation={first: 32}")
    if recipe.fit.kfold is not None:
        sets.append("fit.kfold.folds=2")
    if path.stem == "imdb_lstm":
        sets.append("dataset.inputs.words.preprocess=[{PadSequences: {maxlen: 12}}]")
    if type(recipe.dataset.source).__name__ == "Mnist":
        sets.append("dataset.source={mnist: {folder: mnist-5k}}")
    return sets


@dataclass
class Opened:
    """A finished run, and its model file in real Keras."""

    run: OpenRun
    outcome: Outcome
    keras: Any
    feed: Feed

    @property
    def x(self) -> np.ndarray:
        rows = self.feed.xs[0].rows(slice(None))
        return (rows.dense() if isinstance(rows, Bags) else rows).numpy()

    @property
    def y(self) -> np.ndarray:
        return self.feed.ys[0].rows(slice(None)).numpy()


def opened(outcome: Outcome, data: Path | None = None) -> Opened:
    run = OpenRun(RunDirectory(outcome.directory), Options(data=data, device="cpu", download=False))
    rows = run.sets.test if run.sets.test is not None else run.sets.train
    return Opened(run, outcome, keras.models.load_model(outcome.directory / "model.h5"), run.built.feed(rows))


def hold(made: Opened, tmp_path: Path) -> None:
    """Everything that both sides must agree on, then training there, then Keras's own file back here."""
    hold_layers(made)
    hold_weights(made.outcome.directory / "model.h5", made.keras)
    ours = predict(made.run.built.network, made.feed.xs)[0]
    close(ours, made.keras.predict(made.x, batch_size=BATCH, verbose=0), "predictions")
    hold_figures(made)
    saved = tmp_path / "by_keras.h5"
    made.keras.save(saved)
    hold_weights(saved, made.keras)
    hold_training(made)


def hold_layers(made: Opened) -> None:
    theirs = [(layer.name, type(layer).__name__, layer.trainable) for layer in made.keras.layers]
    graph = made.run.built.graph
    layers, reads = graph.layers, {c.layer: graph.shapes[c.inputs[0]] for c in graph.calls}
    assert theirs == [(name, type(layer).__name__, layer.trainable) for name, layer in layers.items()]
    for (name, layer), twin in zip(layers.items(), made.keras.layers, strict=True):
        described = layer.to_keras()
        fresh = keras.layers.deserialize({**described, "config": {**described["config"], "name": name}})
        fresh.build(reads[name])
        assert plain(twin.get_config()) == plain(fresh.get_config()), name


def plain(value: Any) -> Any:
    """A config with tuples as lists."""
    return json.loads(json.dumps(value, default=str))


def hold_weights(path: Path, model: Any) -> None:
    """The arrays of a file, ours or Keras's, stand in Keras's places under its names, bit for bit."""
    found = read_model(path)
    assert found.keras_version == KERAS_VERSION == keras.__version__
    assert list(found.weights) == [layer.name for layer in model.layers]
    with h5py.File(path) as file:
        for layer in model.layers:
            variables = [v for v in (*layer.trainable_weights, *layer.non_trainable_weights) if kept(v)]
            names = file["model_weights"][layer.name].attrs["weight_names"]
            assert [n if isinstance(n, str) else n.decode() for n in names] == [v.path for v in variables]
            for array, variable in zip(found.weights[layer.name], variables, strict=True):
                theirs = variable.value.detach().numpy()
                assert array.dtype == theirs.dtype, variable.path
                np.testing.assert_array_equal(array, theirs, err_msg=variable.path)


def kept(variable: Any) -> bool:
    """Keras keeps the counters of random layers out of HDF5 files."""
    return "seed_generator" not in variable.path


def hold_figures(made: Opened) -> None:
    built = made.run.built
    ours = evaluate(built.network, made.feed, built.objective, BATCH)
    theirs = made.keras.evaluate(made.x, made.y, batch_size=BATCH, verbose=0, return_dict=True)
    unknown = {name for name, _, metric, _ in built.objective.metrics if not metric.keras}
    assert set(ours) - unknown == set(theirs)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(float(value), rel=1e-5, abs=1e-7), name


def hold_training(made: Opened, epochs: int = 3) -> None:
    """Keras trains on, with fresh slots, since it can't take the optimizer's state from HDF5; the loss falls."""
    model = made.keras
    optimizer = keras.optimizers.deserialize(made.run.recipe.compile.optimizer.to_keras())
    assert type(model.optimizer) is type(optimizer)
    # Keras numbers the names of its optimizers through the process.
    theirs, expected = ({**o.get_config(), "name": ""} for o in (model.optimizer, optimizer))
    assert theirs == {k: pytest.approx(v) if type(v) is float else v for k, v in expected.items()}
    assert int(model.optimizer.iterations.value) == 0
    keras.utils.set_random_seed(1)
    before = model.evaluate(made.x, made.y, verbose=0, return_dict=True)["loss"]
    model.fit(made.x, made.y, epochs=epochs, batch_size=BATCH, verbose=0)
    assert int(model.optimizer.iterations.value) == epochs * -(-len(made.x) // BATCH)
    assert model.evaluate(made.x, made.y, verbose=0, return_dict=True)["loss"] < before


@pytest.mark.parametrize("path", CHAINS, ids=[p.stem for p in CHAINS])
def test_the_model_of_each_recipe(path: Path, tmp_path: Path) -> None:
    data = Path(os.environ["TRAINER_DATA"]) if os.environ["TRAINER_DATA"] else None
    loaded = load_recipe(path, tiny(path))
    try:
        outcome = fit(loaded, Options(runs=tmp_path, data=data, device="cpu", download=False), path.read_bytes())
    except FileError as error:
        if "not here" not in str(error):
            raise
        pytest.skip(f"{path.name}: {error.problems[0].message}: set TRAINER_DATA to the folder of large data sets")
    hold(opened(outcome, data), tmp_path)


def test_there_are_recipes() -> None:
    assert len(CHAINS) >= 13


ACTIVITY = "activity_regularizer: {L2: {l2: 0.003}}, "
RICH = (
    ACTIVITY + "kernel_regularizer: {L2: {l2: 0.01}}, bias_regularizer: {L1: {l1: 0.02}}, "
    "kernel_constraint: {MaxNorm: {max_value: 2}}, kernel_initializer: {HeNormal: {seed: 3}}"
)
LSTM_RICH = f"{RICH}, recurrent_regularizer: {{L1L2: {{l1: 0.001, l2: 0.01}}}}, recurrent_constraint: NonNeg"
VECTOR, SERIES, PICTURE, IDS, ID = (6,), (5, 4), (8, 9, 3), (5, "ids"), (1, "ids")
ZOO: dict[str, list[tuple[Any, str]]] = {
    "Activation": [(VECTOR, "Activation: {activation: gelu}"), (SERIES, "Activation: {activation: softmax}")],
    "AveragePooling1D": [(SERIES, "AveragePooling1D: {pool_size: 3, strides: 2, padding: same}")],
    "AveragePooling2D": [(PICTURE, "AveragePooling2D: {pool_size: [2, 3], data_format: channels_first}")],
    "BatchNormalization": [
        (PICTURE, "BatchNormalization: {axis: 1, momentum: 0.5, epsilon: 0.01, gamma_regularizer: {L2: {l2: 0.1}}}"),
        (VECTOR, "BatchNormalization: {center: false, scale: false}"),
        (VECTOR, "BatchNormalization: {trainable: false}"),
    ],
    "CategoryEncoding": [
        (IDS, "CategoryEncoding: {num_tokens: 7}"),
        (IDS, "CategoryEncoding: {num_tokens: 7, output_mode: count}"),
        (ID, "CategoryEncoding: {num_tokens: 7, output_mode: one_hot}"),
    ],
    "Conv1D": [
        (SERIES, "Conv1D: {filters: 6, kernel_size: 2, groups: 2, dilation_rate: 2, padding: causal, " + RICH + "}"),
    ],
    "Conv2D": [
        (
            PICTURE,
            "Conv2D: {filters: 4, kernel_size: [3, 2], strides: 2, padding: same, activation: elu, " + RICH + "}",
        ),
        (PICTURE, "Conv2D: {filters: 2, kernel_size: 2, data_format: channels_first, use_bias: false}"),
    ],
    "Dense": [
        (VECTOR, "Dense: {units: 5, activation: tanh, " + RICH + "}"),
        (SERIES, "Dense: {units: 3, name: a-b_c, use_bias: false}"),
        (VECTOR, "Dense: {units: 4, trainable: false, kernel_regularizer: {L2: {l2: 0.5}}}"),
    ],
    "Discretization": [
        (VECTOR, "Discretization: {bin_boundaries: [0, 0.5, 2], output_mode: one_hot}"),
        (VECTOR, "Discretization: {bin_boundaries: [0, 0.5, 2], output_mode: count}"),
        (VECTOR, "Discretization: {bin_boundaries: [0, 1]}}, {Embedding: {input_dim: 3, output_dim: 2}"),
    ],
    "Dropout": [(VECTOR, "Dropout: {rate: 0.4, seed: 5}"), (SERIES, "Dropout: {rate: 0.4, noise_shape: [null, 1, 4]}")],
    "Embedding": [
        (IDS, "Embedding: {input_dim: 7, output_dim: 3, embeddings_regularizer: {L2: {l2: 0.01}}}"),
        (IDS, "Embedding: {input_dim: 7, output_dim: 3, mask_zero: true}}, {LSTM: {units: 3}"),
    ],
    "ReversibleEmbedding": [
        (IDS, "ReversibleEmbedding: {input_dim: 7, output_dim: 3, embeddings_regularizer: {L2: {l2: 0.01}}}"),
        (IDS, "ReversibleEmbedding: {input_dim: 7, output_dim: 3, mask_zero: true}}, {GRU: {units: 3}"),
    ],
    "Flatten": [(PICTURE, "Flatten: {data_format: channels_first}")],
    "GRU": [
        (SERIES, "GRU: {units: 3, " + LSTM_RICH + "}"),
        (SERIES, "GRU: {units: 3, reset_after: false, return_sequences: true, go_backwards: true, dropout: 0.2}"),
    ],
    "GlobalAveragePooling1D": [
        (SERIES, "GlobalAveragePooling1D: {keepdims: true}"),
        (SERIES, "Masking}, {GlobalAveragePooling1D: {}"),
    ],
    "GlobalAveragePooling2D": [(PICTURE, "GlobalAveragePooling2D: {data_format: channels_first}")],
    "GlobalMaxPooling1D": [(SERIES, "GlobalMaxPooling1D")],
    "GlobalMaxPooling2D": [(PICTURE, "GlobalMaxPooling2D: {keepdims: true}")],
    "Identity": [(VECTOR, "Identity")],
    "LSTM": [
        (SERIES, "LSTM: {units: 3, recurrent_activation: hard_sigmoid, unit_forget_bias: false, " + LSTM_RICH + "}"),
        (SERIES, "LSTM: {units: 3, return_sequences: true, recurrent_dropout: 0.3}}, {LSTM: {units: 2}"),
    ],
    "LayerNormalization": [
        (SERIES, "LayerNormalization: {axis: [1, 2], gamma_regularizer: {L1: {l1: 0.01}}}"),
        (SERIES, "LayerNormalization: {epsilon: 0.1, center: false}"),
    ],
    "Masking": [(SERIES, "Masking: {mask_value: 0.5}}, {SimpleRNN: {units: 3}")],
    "MaxPooling1D": [(SERIES, "MaxPooling1D: {pool_size: 2, padding: same}")],
    "MaxPooling2D": [(PICTURE, "MaxPooling2D: {pool_size: 3, strides: [1, 2]}")],
    "Normalization": [
        (VECTOR, "Normalization: {mean: 0.5, variance: 2.0}"),
        (VECTOR, "Normalization: {mean: [0, 1, 2, 3, 4, 5], variance: [1, 2, 3, 4, 5, 6]}"),
        (SERIES, "Normalization: {axis: null, mean: 0.5, variance: 4, invert: true}"),
    ],
    "Permute": [(SERIES, "Permute: {dims: [2, 1]}")],
    "RepeatVector": [(VECTOR, "RepeatVector: {n: 3}")],
    "Rescaling": [(SERIES, "Rescaling: {scale: 1/255, offset: -0.5}"), (SERIES, "Rescaling: {scale: [1, 2, 3, 4]}")],
    "Reshape": [(PICTURE, "Reshape: {target_shape: [-1, 6]}")],
    "SimpleRNN": [
        (SERIES, "SimpleRNN: {units: 3, return_sequences: true, " + LSTM_RICH.replace(ACTIVITY, "") + "}"),
    ],
    **OTHERS,
}
NOT_IN_KERAS = {"PadSequences"}
BEFORE_THE_MODEL = {"Hashing", "HashedCrossing", "StringLookup", "IntegerLookup", "TextVectorization", "Equalization"}
"Keras needs TensorFlow for these, and can't have Equalization in a model; here they are no part of one."
SEVERAL_INPUTS = {
    "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot",
    "Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention",
}  # fmt: skip
"Files of models that have them are opened in tests/parity/test_graphs.py."
MODELS = {"Sequential", "Model", "InputLayer"}
"So are files of these, which Keras describes by more than options."
CELLS = {"SimpleRNNCell", "LSTMCell", "GRUCell", "StackedRNNCells"}
"They stand in RNN."
ANIMALS = [(name, number) for name, animals in ZOO.items() for number in range(len(animals))]


def test_the_zoo_is_complete() -> None:
    Layer.spellings()
    elsewhere = NOT_IN_KERAS | BEFORE_THE_MODEL | SEVERAL_INPUTS | MODELS | CELLS
    assert set(ZOO) | set(UNSAVED) | set(PIPELINES) | elsewhere == set(Layer.catalogue)


HOUSE = """
name: zoo
seed: 5
dataset:
  source: {{npz: {{path: {path}}}}}
  inputs: {{x: {{}}}}
  targets: {{y: {{}}}}
model:
  layers: [{{{layer}}}, Flatten, {{Dense: {{units: 1}}}}]
compile: {{optimizer: {{Adam: {{learning_rate: 0.01, clipnorm: 1.0}}}}, loss: mse, metrics: [mae]}}
fit: {{epochs: 1, batch_size: 32}}
"""


@pytest.mark.parametrize(("name", "number"), ANIMALS, ids=[f"{name}-{n}" for name, n in ANIMALS])
def test_every_layer(name: str, number: int, tmp_path: Path) -> None:
    shape, layer = ZOO[name][number]
    random = np.random.default_rng(2)
    if shape[-1] == "ids":
        x = random.integers(0, 7, (70, *shape[:-1]))
    else:
        x = random.normal(1, 1, (70, *shape)).astype("float32")
        x[:, -1:] = 0.0 if "Masking}" in layer else x[:, -1:]
        x[::3, 0] = 0.5
    np.savez(tmp_path / "rows.npz", x=x, y=random.normal(3, 1, 70).astype("float32"))
    text = HOUSE.format(path=tmp_path / "rows.npz", layer=layer)
    made = opened(trained(tmp_path, text))
    assert name in [type(layer).__name__ for layer in made.run.built.graph.layers.values()]
    hold(made, tmp_path)


@pytest.mark.parametrize(("shape", "layer"), PIPELINES["Pipeline"])
def test_pipelines(shape: tuple[int, ...], layer: str, tmp_path: Path) -> None:
    """All but equal configs: those of a Pipeline's layers tell in Keras whether each is built."""
    random = np.random.default_rng(2)
    x = random.normal(1, 1, (70, *shape)).astype("float32")
    np.savez(tmp_path / "rows.npz", x=x, y=random.normal(3, 1, 70).astype("float32"))
    made = opened(trained(tmp_path, HOUSE.format(path=tmp_path / "rows.npz", layer=layer)))
    hold_weights(made.outcome.directory / "model.h5", made.keras)
    close(predict(made.run.built.network, made.feed.xs)[0], made.keras.predict(made.x, verbose=0), "predictions")
    hold_figures(made)
    saved = tmp_path / "by_keras.h5"
    made.keras.save(saved)
    hold_weights(saved, made.keras)
    if "MixUp" not in layer:
        hold_training(made)


@pytest.mark.parametrize("name", UNSAVED)
def test_opens_what_keras_can_not_save_again(name: str, tmp_path: Path) -> None:
    """Keras 3.15 can't copy these when their value_range is a list, as it is in every file."""
    ((shape, layer),) = UNSAVED[name]
    x = np.random.default_rng(2).random((70, *shape)).astype("float32")
    np.savez(tmp_path / "rows.npz", x=x, y=x.mean((1, 2, 3)))
    made = opened(trained(tmp_path, HOUSE.format(path=tmp_path / "rows.npz", layer=layer)))
    hold_layers(made)
    hold_weights(made.outcome.directory / "model.h5", made.keras)
    close(predict(made.run.built.network, made.feed.xs)[0], made.keras.predict(made.x, verbose=0), "predictions")
    with pytest.raises(TypeError, match="cannot pickle 'module' object"):
        made.keras.save(tmp_path / "by_keras.h5")


@pytest.mark.parametrize(
    "layer", ["LSTM: {units: 3, stateful: true}", "RNN: {cell: [{GRUCell: {units: 2}}], stateful: true}"]
)
def test_stateful_layers(layer: str, tmp_path: Path) -> None:
    """Their model has a batch size; a loaded one begins from states of zeros on both sides."""
    random = np.random.default_rng(2)
    x = random.normal(1, 1, (64, *SERIES)).astype("float32")
    np.savez(tmp_path / "rows.npz", x=x, y=x.sum((1, 2)))
    text = HOUSE.format(path=tmp_path / "rows.npz", layer=layer).replace("epochs: 1", "epochs: 1, shuffle: false")
    made = opened(trained(tmp_path, text))
    assert made.keras.input_shape == (32, *SERIES)
    ours = predict(made.run.built.network, made.feed.xs)[0]
    close(ours, made.keras.predict(made.x, batch_size=BATCH, verbose=0), "predictions")
    again = made.keras.predict(made.x, batch_size=BATCH, verbose=0)
    close(predict(made.run.built.network, made.feed.xs)[0], again, "predictions that go on")
    assert not np.allclose(ours, again)


def test_keras_forgets_the_activity_regularizer_of_a_simple_rnn() -> None:
    """It takes the option and passes it to nobody (3.15.1): a file's loss there lacks a penalty that ours has."""
    layer = keras.layers.SimpleRNN(2, activity_regularizer="l2")
    assert layer.activity_regularizer is None
    assert keras.layers.LSTM(2, activity_regularizer="l2").activity_regularizer is not None


def test_adapted_layers_keep_what_they_learned(tmp_path: Path) -> None:
    """Preprocessing is no part of the model: the file in Keras takes preprocessed rows, ours raw ones."""
    x = np.random.default_rng(0).normal(9, 4, (70, 6)).astype("float32")
    np.savez(tmp_path / "rows.npz", x=x, y=x.sum(1))
    text = HOUSE.format(path=tmp_path / "rows.npz", layer="Dense: {units: 3}")
    made = opened(trained(tmp_path, text.replace("inputs: {x: {}}", "inputs: {x: {preprocess: [Normalization]}}")))
    np.testing.assert_allclose(made.x, (x - x.mean(0)) / x.std(0), atol=1e-5)
    close(output(made.run, x), made.keras.predict(made.x, verbose=0), "raw rows")


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam"])
def test_what_keras_does_with_optimizer_weights(tmp_path: Path, optimizer: str) -> None:
    """Why our file has no group `optimizer_weights`: with Keras's own, 3.15 loads and then can't train."""
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer, loss="mean_squared_error")
    x, y = np.ones((8, 3), "float32"), np.zeros((8, 2), "float32")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "own.h5")
    own = keras.models.load_model(tmp_path / "own.h5")
    assert len(own.optimizer.variables) == 2, "iterations and learning rate; no slots"
    with pytest.raises(ValueError, match="Unknown variable"):
        own.fit(x, y, verbose=0)
    with h5py.File(tmp_path / "own.h5", "r+") as file:
        del file["optimizer_weights"]
    fresh = keras.models.load_model(tmp_path / "own.h5")
    assert int(fresh.optimizer.iterations.value) == 0
    fresh.fit(x, y, verbose=0)
    assert int(fresh.optimizer.iterations.value) == 1


def test_the_learning_rate_that_training_came_to(tmp_path: Path) -> None:
    """Keras begins with the recipe's rate, as its own file would with the rate that `compile` was given."""
    text = HOUSE.format(path=tmp_path / "rows.npz", layer="Dense: {units: 3}")
    text += "callbacks: [{LearningRateScheduler: {schedule: {0: 0.5}}}]\n"
    np.savez(tmp_path / "rows.npz", x=np.ones((40, 6), "float32"), y=np.ones(40, "float32"))
    made = opened(trained(tmp_path, text))
    assert float(torch.as_tensor(made.keras.optimizer.learning_rate.value)) == pytest.approx(0.01)
