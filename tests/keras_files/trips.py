"""A model of ours trained a few steps, its files in real Keras, and Keras's file of it back here."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import torch

from tests.parity.fitting import arrays, model_weights, ours, twin
from tests.parity.harness import close
from trainer.keras_files.keras_forms import NOT_IN_HDF5
from trainer.keras_files.state import Named, slots_of, variables
from trainer.keras_files.writing import Compiled, archive_bytes, hdf5_bytes, json_bytes, weights_image
from trainer.recipe.load import Loaded
from trainer.runs.transfer import load_weights_of
from trainer.runs.weights_file import read_weights
from trainer.train.build import Built
from trainer.train.devices import settings_kept
from trainer.train.feed import Feed
from trainer.train.loop import Training
from trainer.train.scoring import as_array

STEPS = 10
"Of each training: a recipe of these tests has that many batches an epoch, and one epoch."


@dataclass
class Trip:
    """A built model and its training."""

    made: Loaded
    built: Built
    training: Training

    @property
    def feed(self) -> Feed:
        return self.training.train

    @property
    def x(self) -> Any:
        return arrays(self.feed, weighed=False)[0]

    @property
    def state(self) -> dict[str, np.ndarray]:
        return self.training.updater.state()

    def compiled(self, *, state: bool = True) -> Compiled:
        goals = list(self.built.objective.goals.values())
        rate = self.state.get("learning_rate")
        return Compiled(
            self.built.optimizer, goals, self.state if state else None, None if rate is None else float(rate)
        )

    def train(self) -> None:
        """An epoch on, with the optimizer as it stands."""
        before = self.training
        fit, seed = self.made.recipe.fit, self.made.recipe.seed
        self.training = Training(
            self.built.network, self.built.objective, before.updater, (), fit, seed, before.train, None, Path()
        )
        with settings_kept():
            self.training.run()

    def predictions(self) -> list[np.ndarray]:
        network = self.built.network.eval()
        xs = self.x if isinstance(self.x, list) else [self.x]
        with torch.no_grad():
            return [as_array(made) for made in network.run(*(torch.from_numpy(x) for x in xs)).outputs]

    def is_random(self) -> bool:
        """Whether training draws random numbers, of which Keras draws others."""
        network = self.built.network
        kept = [tensor.clone() for _, _, tensor, _ in network.rows()]
        xs = [torch.from_numpy(x) for x in (self.x if isinstance(self.x, list) else [self.x])]
        found = []
        network.train()
        for step in range(2):
            network.clock.step = step
            with torch.no_grad():
                found.append([as_array(made) for made in network.run(*xs).outputs])
        with torch.no_grad():
            for (_, _, tensor, _), value in zip(network.rows(), kept, strict=True):
                tensor.copy_(value)
        network.reset_states()
        return not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*found, strict=True))


def begun(made: Loaded) -> Trip:
    """A model of ours after an epoch."""
    trip = Trip(made, *ours(made))
    with settings_kept():
        trip.training.run()
    return trip


def hold_predictions(trip: Trip, model: Any, what: str, tolerance: float = 1e-5) -> None:
    found = model.predict(trip.x, batch_size=len(trip.feed), verbose=0)
    for mine, there in zip(trip.predictions(), found if isinstance(found, list) else [found], strict=True):
        close(mine, np.asarray(there, mine.dtype), f"predictions of {what}", tolerance)


def hold_weights(trip: Trip, model: Any, tolerance: float = 0.0) -> None:
    for (_, path, tensor, _), value in zip(trip.built.network.rows(), model_weights(model), strict=True):
        if tolerance:
            close(tensor, value, path, tolerance)
        else:
            np.testing.assert_array_equal(as_array(tensor.detach()), value, err_msg=path)


def hold_state(trip: Trip, model: Any, tolerance: float = 0.0) -> None:
    """Every variable of the optimizer there is ours, in our order."""
    mine, theirs = variables(trip.built.optimizer, trip.state), model.optimizer.variables
    assert len(mine) == len(theirs)
    for (name, value), variable in zip(mine, theirs, strict=True):
        there = variable.value.detach().cpu().numpy()
        if tolerance:
            close(value, np.asarray(there, value.dtype), f"{name} ({variable.path})", tolerance)
        else:
            np.testing.assert_array_equal(np.asarray(value, there.dtype), there, err_msg=f"{name} ({variable.path})")


def hold_archive(trip: Trip, folder: Path) -> Any:
    """The `.keras` file opens in Keras with equal predictions, weights, and optimizer's state."""
    path = folder / "ours.keras"
    path.write_bytes(archive_bytes(trip.built.network, trip.compiled()))
    model = keras.models.load_model(path)
    hold_weights(trip, model)
    hold_state(trip, model)
    hold_predictions(trip, model, ".keras")
    hold_description(trip, model)
    return model


def hold_description(trip: Trip, model: Any) -> None:
    """What we write of the model around its layers' options is what Keras writes of it."""
    ours, theirs = (json.loads(text) for text in (json_bytes(trip.built.graph), model.to_json()))
    for described in (ours, theirs):
        described.pop("compile_config", None)
    assert around(ours) == around(theirs)
    there = {entry["config"]["name"]: entry for entry in theirs["config"]["layers"]}
    for entry in ours["config"]["layers"]:
        assert around(entry).items() <= around(there[entry["config"]["name"]]).items()


def around(described: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in described.items() if key not in ("config", "inbound_nodes")}


def hold_others(trip: Trip, folder: Path) -> None:
    """The HDF5 forms and the JSON open in Keras with equal predictions."""
    (folder / "ours.h5").write_bytes(hdf5_bytes(trip.built.network, trip.compiled(state=False)))
    whole = keras.models.load_model(folder / "ours.h5")
    hold_predictions(trip, whole, ".h5")
    (folder / "state.h5").write_bytes(hdf5_bytes(trip.built.network, trip.compiled()))
    if type(trip.built.optimizer).__name__ not in NOT_IN_HDF5:
        hold_predictions(trip, keras.models.load_model(folder / "state.h5"), ".h5 with the optimizer's state")
    told = keras.models.model_from_json(json_bytes(trip.built.graph).decode())
    (folder / "ours.weights.h5").write_bytes(weights_image(trip.built.network))
    told.load_weights(folder / "ours.weights.h5")
    hold_predictions(trip, told, ".json and .weights.h5")
    with h5py.File(folder / "state.h5") as file:
        names = file["optimizer_weights"].attrs["weight_names"]
        held = [(str(name), np.asarray(file["optimizer_weights"][name])) for name in names]
    same_state(trip, slots_of(trip.built.optimizer, trip.state, held, "3.15.1"))


def same_state(trip: Trip, found: dict[str, np.ndarray]) -> None:
    """A state that was read is ours."""
    assert list(found) == list(trip.state)
    for name, value in trip.state.items():
        if name.endswith(("learning_rate", "dynamic_scale")):
            assert float(found[name]) == np.float32(value), name
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def hold_next_steps(trip: Trip, model: Any, tolerance: float = 1e-4) -> None:
    """Ten more steps on both sides from the same state come to the same weights and the same state."""
    trip.train()
    fit_there(trip, model)
    hold_weights(trip, model, tolerance)
    hold_state(trip, model, tolerance)


def fit_there(trip: Trip, model: Any) -> None:
    x, y = arrays(trip.feed, weighed=False)
    model.fit(x, y, batch_size=trip.made.recipe.fit.batch_size, epochs=1, shuffle=False, verbose=0)


def hold_from_keras(made: Loaded, folder: Path, tolerance: float = 1e-4) -> None:
    """Keras trains ten steps from our first weights; from its file ours takes ten more, equal to Keras's own."""
    trip = Trip(made, *ours(made))
    model = twin(trip.built)
    fit_there(trip, model)
    model.save(folder / "theirs.keras")
    take_up(trip, folder / "theirs.keras")
    hold_weights(trip, model)
    hold_state(trip, model, 1e-6)
    hold_next_steps(trip, model, tolerance)


def take_up(trip: Trip, path: Path) -> None:
    """Weights and optimizer's state from a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        image = archive.read("model.weights.h5")
    load_weights_of(trip.built.network, read_weights(image))
    updater = trip.training.updater
    updater.load_state(slots_of(trip.built.optimizer, updater.state(), state_in(image), keras.__version__))


def state_in(image: bytes) -> list[Named]:
    """The optimizer's variables in a `.weights.h5` file."""
    with h5py.File(io.BytesIO(image)) as file:
        held = file["optimizer/vars"]
        return [(number, np.asarray(held[number])) for number in sorted(held, key=int)]
