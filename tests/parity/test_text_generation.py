"""Text generation beside Keras: the stacked LSTM of the recipe built by hand, and the example's way to draw."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import Input, layers

from tests.parity.fitting import arrays, ours
from tests.parity.harness import close
from tests.parity.test_graph_recipes import equalled
from tests.train.recipes import directory_of
from trainer.recipe.load import Loaded, load_recipe
from trainer.train.devices import settings_kept
from trainer.train.generating import Writer, chosen
from trainer.train.job import Options, fit
from trainer.train.use import OpenRun

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "republic_lstm.yaml"
SHORT = ["dataset.limit=512", "dataset.split.test={last: 200}", "fit.epochs=1", "fit.shuffle=false", "expect={}"]


def short() -> Loaded:
    """The recipe over a few rows in their order."""
    return load_recipe(RECIPE, SHORT)


def by_hand() -> Any:
    """The model and what it learns with, in Keras; no config of ours is read."""
    model = keras.Sequential(
        [
            Input((32,), dtype="int32"),
            layers.Embedding(51, 32, name="embedding"),
            layers.LSTM(128, return_sequences=True, name="lstm"),
            layers.LSTM(128, name="lstm_1"),
            layers.Dense(51, activation="softmax", name="dense"),
        ]
    )
    rate: Any = keras.optimizers.schedules.CosineDecay(0.005, 2324)
    model.compile(
        keras.optimizers.Adam(rate, global_clipnorm=0.5), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def test_forward_and_gradients_are_those_of_keras(data_folder: Path) -> None:
    built, training = ours(short(), Options(data=data_folder))
    model = by_hand()
    pairs = equalled(built, model)
    (x,) = next(training.train.batches(64)).xs
    made, theirs = built.network.train().run(x).output, model(x, training=True)
    close(made, theirs, "outputs")
    up = torch.randn(made.shape, generator=torch.Generator().manual_seed(0))
    (made * up).sum().backward()
    (theirs * up).sum().backward()
    assert len(pairs) == len(model.trainable_weights) == 9
    for path, tensor, variable, _ in pairs:
        assert tensor.grad is not None
        assert float(tensor.grad.abs().max()) > 0, path
        close(tensor.grad, variable.value.grad, f"gradient of {path}")


def test_an_epoch_is_that_of_keras(data_folder: Path) -> None:
    built, training = ours(short(), Options(data=data_folder))
    model = by_hand()
    pairs = equalled(built, model)
    assert training.validation is not None
    (x, y), held = (arrays(feed, weighed=False) for feed in (training.train, training.validation))
    size = built.recipe.fit.batch_size
    theirs = model.fit(x, y, size, validation_data=held, shuffle=False, verbose=0).history
    with settings_kept():
        history = training.run()
    history.pop("learning_rate")
    assert set(history) == set(theirs) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for figure, values in theirs.items():
        np.testing.assert_allclose(history[figure], values, rtol=1e-5, atol=1e-7, err_msg=figure)
    for path, tensor, variable, _ in pairs:
        close(tensor, variable, f"{path} after training", 1e-4)


def drawn_in_keras(preds: Any, temperature: float, random: np.random.RandomState, count: int) -> np.ndarray:
    """How often the example's draw takes each symbol of `count` times.

    https://keras.io/examples/generative/lstm_character_level_text_generation/
    """
    logs = np.log(np.asarray(preds).astype("float64")) / temperature
    chances = np.exp(logs) / np.sum(np.exp(logs))
    return random.multinomial(count, chances)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Writer, Any]:
    """(a run of the recipe over a few rows, put to writing; its file, opened by Keras)."""
    if not (folder := os.environ["TRAINER_DATA"]):
        pytest.skip("needs the folder of large data sets: set TRAINER_DATA")
    options = Options(runs=tmp_path_factory.mktemp("runs"), data=Path(folder), device="cpu")
    with settings_kept():
        directory = directory_of(fit(short(), options, RECIPE.read_bytes(), RECIPE.parent))
        writer = Writer(OpenRun(directory, options))
    return writer, keras.models.load_model(directory.path / "model.h5")


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 1.2])
def test_draws_fall_as_those_of_the_example(written: tuple[Writer, Any], temperature: float) -> None:
    writer, model = written
    window = writer.begin("justice is")
    chances, preds = writer.chances(window), model.predict(window[None], verbose=0)[0]
    close(torch.from_numpy(chances), preds, "probabilities")
    count = 20_000
    points = np.random.default_rng(5).random(count).tolist()
    drawn = np.bincount([chosen(chances, temperature, p) for p in points], minlength=51)
    theirs = drawn_in_keras(preds, temperature, np.random.RandomState(7), count)
    spread = np.sqrt(2 * np.maximum(drawn, theirs))
    assert (np.abs(drawn - theirs) <= 5 * np.maximum(spread, 1)).all()


def test_the_likeliest_characters_are_those_of_keras(written: tuple[Writer, Any]) -> None:
    writer, model = written
    window, expected = writer.begin("justice is"), []
    for _ in range(20):
        number = int(model.predict(window[None], verbose=0)[0].argmax())
        expected.append(writer.words[number])
        window = np.append(window[1:], number)
    assert list(writer.write("justice is", 20, 0.0)) == expected
