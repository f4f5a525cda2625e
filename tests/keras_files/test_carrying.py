"""The optimizer's state of files whose layers stand in another order, or whose arrays have another layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.keras_files import trips
from tests.keras_files.test_state import filled, keras_2, same
from tests.train.recipes import loaded
from trainer.errors import FileError
from trainer.keras_files.carrying import carried
from trainer.keras_files.current import current
from trainer.keras_files.opening import WHOLE, Opened
from trainer.keras_files.state import COUNTERS, variables
from trainer.runs.keras_config import model_config
from trainer.runs.weights_file import ByLayer, Saved

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEXT = """
name: net
seed: 4
dataset:
  source: digits
  inputs: {{image: {{preprocess: [{{Reshape: {{target_shape: {shape}}}}}]}}}}
  targets: {{label: {{}}}}
  limit: 40
model: {{layers: [{layers}]}}
compile: {{optimizer: {optimizer}, loss: sparse_categorical_crossentropy}}
fit: {{epochs: 1, batch_size: 4, shuffle: false}}
"""
PICTURE = (
    "{Conv2D: {name: conv, filters: 3, kernel_size: [3, 2]}}, {BatchNormalization: {name: bn}}, Flatten, "
    "{Dense: {name: out, units: 10, activation: softmax}}"
)
SERIES = "{LSTM: {name: lstm, units: 3}}, {Dense: {name: out, units: 10, activation: softmax}}"


def begun(layers: str, shape: list[int], optimizer: str) -> tuple[trips.Trip, dict[str, np.ndarray]]:
    """A model, and a state of its optimizer in which all numbers differ."""
    made = loaded(TEXT.format(layers=layers, shape=shape, optimizer=optimizer))
    trip = trips.Trip(made, *trips.ours(made))
    random = np.random.default_rng(3)
    state = {
        key: value if key in COUNTERS else random.random(value.shape).astype("float32")
        for key, value in trip.state.items()
    }
    return trip, {**state, "iteration": np.array(1234, "int64")}


def file_of(trip: trips.Trip, state: dict[str, np.ndarray], version: str, change: Any, **more: Any) -> Opened:
    """A file of an older Keras; `change` brings the arrays of a layer into its layout."""
    described = model_config(trip.built.graph)
    layers, slots = [], {}
    for name in trip.built.graph.layers:
        rows = list(trip.built.network.cell(name).rows())
        arrays = change(name, [t.detach().numpy() for _, _, t, _ in rows])
        layers.append(Saved(name, (), tuple(arrays)))
        for slot in dict.fromkeys(key.partition("/")[0] for key in state if key not in COUNTERS):
            mine = [state[f"{slot}/{path}"] for _, path, _, trains in rows if trains]
            slots.setdefault(slot, []).extend(change(name, mine))
    listed = {f"{slot}/{i}": a for slot, column in slots.items() for i, a in enumerate(column)}
    return Opened(
        WHOLE,
        version,
        architecture={
            "class_name": "Sequential",
            "config": described["config"]["layers"][1:] if more.pop("old", 0) else described["config"],
        },
        weights=ByLayer(tuple(layers)),
        optimizer=tuple(keras_2(listed)),
        **more,
    )


def turned(name: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [arrays[0][::-1, ::-1], *arrays[1:]] if name == "conv" and arrays else arrays


def gates(name: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Keras 1: each gate's kernel, recurrent kernel and bias, in the order i, c, f, o."""
    if name != "lstm" or not arrays:
        return arrays
    i, f, c, o = zip(*(np.split(a, 4, axis=-1) for a in arrays), strict=True)
    return [*i, *c, *f, *o]


def read(trip: trips.Trip, opened: Opened) -> dict[str, np.ndarray]:
    called = {name: name for name in trip.built.graph.layers}
    return carried(opened, current(opened), trip.built.optimizer, trip.state, called)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "{SGD: {momentum: 0.9}}", "adadelta"])
def test_slots_of_theano_are_turned_as_its_kernels_are(optimizer: str) -> None:
    trip, state = begun(PICTURE, [8, 8, 1], optimizer)
    opened = file_of(trip, state, "2.2.4", turned, weights_version="2.2.4", backend="theano")
    same(read(trip, opened), state)
    plain = file_of(trip, state, "2.2.4", lambda _, a: a, weights_version="2.2.4", backend="tensorflow")
    same(read(trip, plain), state)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "{SGD: {momentum: 0.9}}"])
def test_slots_of_keras_1_are_joined_as_its_gates_are(optimizer: str) -> None:
    trip, state = begun(SERIES, [8, 8], optimizer)
    opened = file_of(trip, state, "1.2.2", gates, backend="tensorflow")
    assert len(opened.optimizer or ()) > 12
    same(read(trip, opened), state)


def test_layers_in_another_order() -> None:
    """The state follows the layers by name where our model has them in another order than the file."""
    trip, state = filled("Adam", {"amsgrad": True, "use_ema": True})
    described = model_config(trip.built.graph)
    layers = described["config"]["layers"]
    order = [layers[0], layers[3], layers[1], layers[4], layers[2]]
    paths = [path for _, path, _, trains in trip.built.network.rows() if trains]
    tops = [entry["config"]["name"] for entry in order]
    moved = sorted(paths, key=lambda path: tops.index(path.partition("/")[0]))
    assert moved != paths
    rows = {key: value for key, value in state.items() if key in COUNTERS}
    rows |= {f"average/{path}": state[f"average/{path}"] for path in moved}
    rows |= {f"{slot}/{path}": state[f"{slot}/{path}"] for path in moved for slot in ("momentum", "velocity")}
    rows |= {f"velocity_hat/{path}": state[f"velocity_hat/{path}"] for path in moved}
    described["config"]["layers"] = order
    opened = Opened(WHOLE, "3.15.1", architecture=described, optimizer=tuple(variables(trip.built.optimizer, rows)))
    same(read(trip, opened), state)


def test_several_optimizers_in_another_order() -> None:
    trip, state = filled(
        "MultiOptimizer",
        {"optimizer_map": {"default_optimizer": "adam", "optimizer_map": {".*bias": {"SGD": {"momentum": 0.9}}}}},
    )
    state = {**trip.state, **{k: v for k, v in state.items() if k != "iteration"}}
    described = model_config(trip.built.graph)
    opened = Opened(WHOLE, "3.15.1", architecture=described, optimizer=tuple(variables(trip.built.optimizer, state)))
    same(read(trip, opened), state)


def test_a_state_that_does_not_fit_is_refused() -> None:
    trip, state = begun(PICTURE, [8, 8, 1], "adam")
    opened = file_of(trip, state, "2.2.4", turned, weights_version="2.2.4", backend="theano")
    names = opened.optimizer or ()
    for saved in (names[:-1], (names[0], names[3], *names[2:]), ()):
        with pytest.raises(FileError, match="optimizer's state does not"):
            read(trip, Opened(**{**vars(opened), "optimizer": tuple(saved)}))
