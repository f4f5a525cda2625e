"""An imported model trains on as Keras's own would have: the same steps from the same state of the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.keras_files.importing_by import call
from tests.parity.harness import close
from trainer.runs.directory import RunDirectory
from trainer.runs.model_file import read_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
L, optimizers = keras.layers, keras.optimizers
OPTIMIZERS: dict[str, Any] = {
    "adam": lambda: optimizers.Adam(0.01),
    "adam_amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True, clipnorm=1.0),
    "adamw": lambda: optimizers.AdamW(optimizers.schedules.ExponentialDecay(0.02, 5, 0.8)),
    "nadam": lambda: optimizers.Nadam(0.01),
    "sgd": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: optimizers.RMSprop(0.005, momentum=0.5, centered=True),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "ema": lambda: optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9),
}


def model_of(optimizer: Any) -> keras.Model:
    a, b = keras.Input((5,), name="a"), keras.Input((4, 3), name="b")
    shared = L.Dense(6, activation="tanh", name="shared")
    left = L.BatchNormalization(name="norm")(shared(a))
    right = L.GRU(6, name="reads")(b)
    both = L.Add(name="both")([left, right, shared(L.Dense(5, name="first")(right))])
    model = keras.Model([a, b], [L.Dense(1, name="one")(both), L.Dense(3, activation="softmax", name="two")(both)])
    losses = {"one": "mean_squared_error", "two": "sparse_categorical_crossentropy"}
    model.compile(optimizer, loss=losses, loss_weights={"one": 0.3, "two": 1.0})
    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_the_next_ten_steps(name: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(4)
    model, random = model_of(OPTIMIZERS[name]()), np.random.default_rng(5)
    x = [random.normal(size=(40, 5)).astype("float32"), random.normal(size=(40, 4, 3)).astype("float32")]
    y = [random.normal(size=(40, 1)).astype("float32"), random.integers(0, 3, 40)]
    model.fit(x, y, batch_size=4, shuffle=False, epochs=1, verbose=0)
    model.save(f"model.{ending}")
    assert call("import", f"model.{ending}").code == 0
    recipe = next(Path("runs/model").glob("*/recipe.yaml"))
    np.savez(recipe.parent / "model-rows.npz", a=x[0], b=x[1], one=y[0], two=y[1])
    sets = ["--set", "fit.epochs=1", "--set", "fit.batch_size=4", "--set", "fit.shuffle=false"]
    done = call("fit", str(recipe), *sets, "--name", "on")
    assert done.code == 0, done.err
    assert "goes on from step 10" in done.err
    model.fit(x, y, batch_size=4, shuffle=False, epochs=1, verbose=0)
    found = read_model(RunDirectory.find(Path("runs"), "on").path / "model.h5").weights
    for layer in model.layers:
        wanted = [v.numpy() for v in (*layer.trainable_weights, *layer.non_trainable_weights)]
        for ours, theirs in zip(found.get(layer.name, []), wanted, strict=True):
            close(ours, theirs, f"{layer.name} after ten more steps", 2e-5)


def test_without_a_state_the_recipe_does_not_ask_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential([L.Input((2,), name="x"), L.Dense(1, name="y")])
    model.save("plain.keras")
    assert call("import", "plain.keras").code == 0
    recipe = next(Path("runs/plain").glob("*/recipe.yaml"))
    assert "optimizer: true" not in recipe.read_text()
    np.savez(recipe.parent / "plain-rows.npz", x=np.ones((8, 2)), y=np.ones(8))
    recipe.write_text(recipe.read_text().replace("weights: {from:", "weights: {optimizer: true, from:"))
    refused = call("fit", str(recipe))
    assert refused.code == 2
    assert "keeps no state of an optimizer" in refused.err
