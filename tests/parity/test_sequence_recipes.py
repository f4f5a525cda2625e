"""The recipes of sequences and tables beside the same graphs written by hand in Keras's functional API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers

from tests.parity.fitting import arrays, hold_history, model_weights, ours
from tests.parity.harness import close
from tests.train.recipes import directory_of, loaded
from trainer.recipe.load import Loaded, load_recipe
from trainer.train.build import Built
from trainer.train.devices import settings_kept
from trainer.train.job import fit
from trainer.train.loop import Training
from trainer.train.rows import divide
from trainer.train.terms import Options, open_table
from trainer.train.use import OpenRun

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def babi_memory() -> Any:
    story, question = keras.Input((68,)), keras.Input((4,))
    memory, said, asked = (
        keras.Sequential([layers.Embedding(22, width), layers.Dropout(0.0)], name=name)(read)
        for name, read, width in (
            ("input_encoder_m", story, 64),
            ("input_encoder_c", story, 4),
            ("question_encoder", question, 64),
        )
    )
    match = layers.Softmax(name="match")(layers.Dot(axes=2, name="scores")([memory, asked]))
    response = layers.Permute((2, 1), name="response")(layers.Add(name="weighed")([match, said]))
    read = layers.LSTM(32, name="lstm")(layers.Concatenate(name="concatenate")([response, asked]))
    answer = layers.Dense(22, activation="softmax", name="dense")(layers.Dropout(0.0, name="dropout")(read))
    model: Any = keras.Model([story, question], answer)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def encoder_decoder() -> Any:
    source, shifted = keras.Input((5,)), keras.Input((4,))
    read = layers.Embedding(14, 32, mask_zero=True, name="read")(source)
    _, h, c = layers.LSTM(64, return_state=True, name="encoder")(read)
    told = layers.Embedding(14, 32, mask_zero=True, name="told")(shifted)
    steps = layers.LSTM(64, return_sequences=True, name="decoder")(told, initial_state=[h, c])
    model: Any = keras.Model([source, shifted], layers.Dense(14, activation="softmax", name="dense")(steps))
    rate = keras.optimizers.schedules.CosineDecay(0.01, 2760)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def transformer_imdb() -> Any:
    words = keras.Input((120,))
    x = layers.Embedding(10000, 32, name="words_embedded")(words)
    x = layers.EinsumDense("btd,d->btd", (120, 32), bias_axes="td", name="at_places")(x)
    looked = layers.MultiHeadAttention(2, 32, name="encoder_looked")(x, x)
    looked = layers.Dropout(0.0, name="encoder_looked_dropout")(looked)
    first = layers.LayerNormalization(epsilon=1e-6, name="encoder_first")(
        layers.Add(name="encoder_first_sum")([x, looked])
    )
    thought = layers.Dense(32, activation="relu", name="encoder_thought")(first)
    back = layers.Dropout(0.0, name="encoder_back_dropout")(layers.Dense(32, name="encoder_back")(thought))
    x = layers.LayerNormalization(epsilon=1e-6, name="encoder")(layers.Add(name="encoder_second_sum")([first, back]))
    x = layers.Dropout(0.0, name="dropout")(layers.GlobalAveragePooling1D(name="global_average_pooling1d")(x))
    x = layers.Dropout(0.0, name="dropout_1")(layers.Dense(20, activation="relu", name="dense")(x))
    model: Any = keras.Model(words, layers.Dense(1, activation="sigmoid", name="dense_1")(x))
    model.compile(keras.optimizers.Adam(), "binary_crossentropy", metrics=["accuracy"])
    return model


def temperatures() -> Any:
    window = keras.Input((30, 1))
    model: Any = keras.Model(window, layers.Dense(1, name="dense")(layers.GRU(16, name="gru")(window)))
    model.compile(keras.optimizers.Adam(0.003), "mse", metrics=["mae"])
    return model


def census() -> Any:
    numbers, words = keras.Input((5,)), keras.Input((8,))
    measured = layers.Dense(32, activation="relu", name="measured")(numbers)
    meanings = layers.Flatten(name="flatten")(layers.Embedding(101, 8, name="meanings")(words))
    told = layers.Dense(32, activation="relu", name="told")(meanings)
    both = layers.Dense(32, activation="relu", name="dense")(layers.Concatenate(name="concatenate")([measured, told]))
    model: Any = keras.Model([numbers, words], layers.Dense(1, activation="sigmoid", name="dense_1")(both))
    model.compile(keras.optimizers.Adam(), "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")])
    return model


BY_HAND: dict[str, Callable[[], Any]] = {
    m.__name__: m for m in (babi_memory, encoder_decoder, transformer_imdb, temperatures, census)
}


def short(name: str, *sets: str) -> Loaded:
    """A recipe over a few hundred rows, without what Keras draws otherwise: the order of rows and dropout."""
    text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    for rate in ("0.1", "0.3"):
        text = text.replace(f"rate: {rate}", "rate: 0.0").replace(f"{{rate: {rate}}}", "{rate: 0.0}")
    common = ("fit.epochs=1", "dataset.limit=320", "fit.shuffle=false", "fit.validation_split=0.2", "expect={}")
    return loaded(text, *common, *sets)


def pair(name: str, data: Path) -> tuple[Built, Training, Any]:
    """A training of ours, and the model by hand with our first weights."""
    built, training = ours(short(name), Options(data=data))
    model = BY_HAND[name]()
    theirs = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    assert sorted(theirs) == sorted(built.graph.layers)
    for layer in built.graph.layers:
        rows = [t.detach().numpy() for _, _, t, _ in built.network.cell(layer).rows()]
        held = model.get_layer(layer).weights
        assert [tuple(v.shape) for v in held] == [r.shape for r in rows]
        for variable, value in zip(held, rows, strict=True):
            variable.assign(value)
    return built, training, model


@pytest.mark.parametrize("name", BY_HAND)
def test_forward_and_gradients(name: str, data_folder: Path) -> None:
    built, training, model = pair(name, data_folder)
    batch = next(training.train.batches(32))
    (mine,) = built.network.train().run(*batch.xs).outputs
    xs = list(batch.xs)
    theirs = model(xs if len(xs) > 1 else xs[0], training=True)
    close(mine, theirs, "outputs")
    up = torch.randn(mine.shape, generator=torch.Generator().manual_seed(0))
    (mine * up).sum().backward()
    there = torch.autograd.grad((theirs * up).sum(), [v.value for v in model.trainable_weights])
    of_keras = {id(v): g for v, g in zip(model.trainable_weights, there, strict=True)}
    scale = max(float(g.abs().max()) for g in there)
    for layer in built.graph.layers:
        held = model.get_layer(layer).trainable_weights
        for (_, path, tensor, moves), variable in zip(built.network.cell(layer).rows(), held, strict=True):
            assert moves
            assert tensor.grad is not None
            expected = of_keras[id(variable)].numpy()
            np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-5, atol=1e-5 * scale, err_msg=path)


@pytest.mark.parametrize("name", BY_HAND)
def test_an_epoch_has_the_history_of_keras(name: str, data_folder: Path) -> None:
    built, training, model = pair(name, data_folder)
    assert training.validation is not None
    x, y = arrays(training.train, weighed=False)
    rows, size = len(y), built.recipe.fit.batch_size
    assert rows == 256
    held = arrays(training.validation, weighed=False)
    theirs = model.fit(
        x, y, size, 1, validation_data=held, validation_batch_size=size, shuffle=False, verbose=0
    ).history
    with settings_kept():
        history = training.run()
    history.pop("learning_rate")
    assert set(history) == set(theirs)
    assert len(theirs) > 2
    for key, values in theirs.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", BY_HAND)
def test_keras_opens_the_model_file(name: str, data_folder: Path, tmp_path: Path) -> None:
    made = short(name)
    text = (RECIPES / f"{name}.yaml").read_bytes()
    outcome = fit(made, Options(runs=tmp_path, data=data_folder, device="cpu"), text)
    model: Any = keras.models.load_model(directory_of(outcome).path / "model.h5")
    run = OpenRun(directory_of(outcome), Options(data=data_folder, device="cpu"))
    rows = run.sets.train.take(slice(0, 64))
    columns = run.built.columns(rows)
    x, _ = arrays(run.built.feed(rows), weighed=False)
    (mine,) = run.predict(columns).values()
    close(mine, model.predict(x, verbose=0), "predictions")
    by_name = {layer.name: layer for layer in model.layers}
    assert model.count_params() == sum(t.numel() for _, _, t, _ in run.built.network.rows())
    assert set(run.built.graph.layers) <= set(by_name)
    before = [w.copy() for w in model_weights(model)]
    again = arrays(run.built.feed(rows), weighed=False)
    model.fit(*again, epochs=1, verbose=0)
    assert any((a != b).any() for a, b in zip(before, model_weights(model), strict=True))


def test_the_temperatures_beat_the_forecast_that_nothing_changes(data_folder: Path) -> None:
    recipe = load_recipe(RECIPES / "temperatures.yaml").recipe
    test = divide(recipe, open_table(recipe, None, Options(data=data_folder))).test
    assert test is not None
    off = np.abs(test.column("window")[:, -1, 0] - test.column("next")).mean()
    assert off == pytest.approx(1.9527, abs=5e-5)
    assert recipe.expect["test.mae"].max < off - 0.15


WRITERS = {
    "LSTM": "{units: 5, return_sequences: true}",
    "GRU": "{units: 5, return_sequences: true}",
    "Bidirectional": "{layer: {LSTM: {units: 5, return_sequences: true}}}",
}


@pytest.mark.parametrize("kind", WRITERS)
def test_keras_hands_no_mask_to_a_layer_that_is_given_first_states(kind: str) -> None:
    """Most pictures begin with zeros, so that steps behind masked ones tell whether those were read."""
    states = ["reader/1"] if kind == "GRU" else ["reader/1", "reader/2"] * (1 + (kind == "Bidirectional"))
    reader = kind if kind == "GRU" else "LSTM"
    text = f"""
    name: masked
    seed: 5
    dataset:
      source: digits
      inputs: {{image: {{preprocess: [{{Reshape: {{target_shape: [64]}}}}]}}}}
      targets: {{label: {{}}}}
      limit: 64
    model:
      layers:
        - Embedding: {{name: words, input_dim: 17, output_dim: 4, mask_zero: true}}
        - {reader}: {{name: reader, units: 5, return_state: true}}
        - {kind}:
            {{name: writer, inputs: {{sequences: words, initial_state: [{", ".join(states)}]}}, {WRITERS[kind][1:]}
        - GlobalAveragePooling1D
        - Dense: {{units: 10, activation: softmax}}
    compile: {{optimizer: adam, loss: sparse_categorical_crossentropy, metrics: [accuracy]}}
    fit: {{epochs: 1, batch_size: 16, shuffle: false}}
    """
    hold_history(loaded(text))
