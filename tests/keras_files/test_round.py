"""Keras's files imported as runs and exported again: what real Keras opens at the end is what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.keras_files import trips
from tests.keras_files.test_model_trips import ANIMALS, OPTIMIZERS, recipe, sampled
from tests.keras_files.test_optimizer_trips import RULES
from tests.keras_files.test_optimizer_trips import recipe as ruled
from tests.parity.fitting import model_weights, twin
from tests.parity.harness import close
from trainer.keras_files.exporting import FORMS, Asked, export, write
from trainer.keras_files.importing import Asked as Importing
from trainer.keras_files.importing import import_file
from trainer.recipe.load import Loaded
from trainer.runs.directory import RunDirectory
from trainer.train.job import Options
from trainer.train.use import OpenRun

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # Keras's layers that count dropped steps, skipped because nothing stands there.
    pytest.mark.filterwarnings("ignore:Skipping nested container"),
]


def hold(made: Loaded, folder: Path, ending: str = ".keras") -> tuple[Any, Any]:
    """A model of Keras after an epoch, through its file, our run and our archive; (before, after)."""
    trip = trips.Trip(made, *trips.ours(made))
    before = twin(trip.built)
    trips.fit_there(trip, before)
    before.save(folder / f"theirs{ending}")
    options = Options(runs=folder / "runs", device="cpu")
    imported = import_file(Importing(folder / f"theirs{ending}"), options)
    run = OpenRun(RunDirectory(imported.directory), options)
    for word in ("keras", "weights", "json", "h5"):
        write(export(run, word, Asked(folder / f"ours{FORMS[word].suffix}")))
    after = keras.models.load_model(folder / "ours.keras")
    told = keras.models.model_from_json((folder / "ours.json").read_text())
    told.load_weights(folder / "ours.weights.h5")
    for other in (after, told, keras.models.load_model(folder / "ours.h5", compile=False)):
        for a, b in zip(model_weights(other), model_weights(before), strict=True):
            np.testing.assert_array_equal(a, b)
        close(other.predict(trip.x, verbose=0), before.predict(trip.x, verbose=0), "predictions")
    return before, after


def same_state(before: Any, after: Any) -> None:
    """The optimizers' variables are equal."""
    assert type(after.optimizer) is type(before.optimizer)
    assert len(after.optimizer.variables) == len(before.optimizer.variables)
    for mine, theirs in zip(after.optimizer.variables, before.optimizer.variables, strict=True):
        a, b = (v.value.detach().numpy() for v in (mine, theirs))
        close(a, b, theirs.path, 1e-6)


@pytest.mark.parametrize(("name", "number", "shape", "layer"), sampled(ANIMALS, 4))
def test_every_layer(name: str, number: int, shape: Any, layer: str, tmp_path: Path) -> None:
    made = recipe(tmp_path, shape, layer, OPTIMIZERS[number % len(OPTIMIZERS)])
    same_state(*hold(made, tmp_path))


READ = [(name, i, options) for i, (name, options) in enumerate(RULES)]


@pytest.mark.parametrize(("name", "number", "options"), sampled(READ, 6))
def test_every_optimizer(name: str, number: int, options: Any, tmp_path: Path) -> None:
    same_state(*hold(ruled(name, options), tmp_path))


@pytest.mark.parametrize(("name", "number", "shape", "layer"), sampled(ANIMALS, 3))
def test_from_hdf5(name: str, number: int, shape: Any, layer: str, tmp_path: Path) -> None:
    made = recipe(tmp_path, shape, layer, OPTIMIZERS[number % len(OPTIMIZERS)])
    same_state(*hold(made, tmp_path, ".h5"))
