"""Optimizers' state as every generation of Keras listed it, read into ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.keras_files import trips
from tests.keras_files.test_optimizer_trips import DECAY, RATE, recipe
from trainer.errors import FileError
from trainer.keras_files.state import COUNTERS, Named, generation, slots_of, variables

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OLD_WORDS = {
    "momentum": "m",
    "velocity": "v",
    "velocity_hat": "vhat",
    "norm": "v",
    "accumulated_grad": "accum_grad",
    "accumulated_delta_var": "accum_var",
}
ITERATION = 1234


def filled(name: str, options: Any) -> tuple[trips.Trip, dict[str, np.ndarray]]:
    """A model and a state of its optimizer in which all numbers differ."""
    made = recipe(name, options)
    trip = trips.Trip(made, *trips.ours(made))
    random = np.random.default_rng(5)
    state = {}
    for key, value in trip.state.items():
        state[key] = value if key in COUNTERS else random.random(value.shape).astype(value.dtype)
    return trip, {**state, "iteration": np.array(ITERATION, "int64")}


def columns(state: dict[str, np.ndarray]) -> dict[str, list[Named]]:
    """Slot to its weights' names and arrays, in the order of weights."""
    found: dict[str, list[Named]] = {}
    for key, value in state.items():
        if key not in COUNTERS:
            slot, _, path = key.partition("/")
            found.setdefault(slot, []).append((path, value))
    return found


def keras_2(state: dict[str, np.ndarray], *, counter: bool = True, named: bool = True) -> list[Named]:
    """Keras 2 up to 2.3 (and 1): a counter, then each slot of all weights, `training/Adam/Variable_k:0`."""
    found = [("Adam/iterations:0", np.array(ITERATION, "int64"))] if counter else []
    for rows in columns(state).values():
        for _, value in rows:
            number = len(found)
            found.append((f"training/Adam/Variable_{number}:0" if named else f"Variable_{number}:0", value))
    return found


def optimizer_v2(state: dict[str, np.ndarray], kind: str) -> list[Named]:
    """tf.keras up to 2.10: `Adam/iter:0`, then `Adam/dense/kernel/m:0` of all weights, and so on."""
    found = [(f"{kind}/iter:0", np.array(ITERATION, "int64"))]
    slots = columns(state)
    if kind == "Ftrl":
        return found + [(f"Ftrl/{rows[i][0]}/{s}:0", rows[i][1]) for i in range(6) for s, rows in slots.items()]
    for slot, rows in slots.items():
        found += [(f"{kind}/{path}/{OLD_WORDS.get(slot, slot)}:0", value) for path, value in rows]
    return found


def keras_2_15(trip: trips.Trip, state: dict[str, np.ndarray], *, rate: bool, product: bool = True) -> list[Named]:
    """Keras 2.11 to 2.15: as Keras 3, mostly without the learning rate; `Adam/m/dense/kernel:0`."""
    found = []
    for name, value in variables(trip.built.optimizer, state):
        last = name.rpartition("/")[2]
        if last == "iteration":
            found.append(("iteration:0", value.astype("int64")))
        elif last == "learning_rate":
            found += [("learning_rate:0", value)] if rate else []
        elif last != "u_product" or product:
            found.append((f"{name}:0", value))
    return found


def same(found: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> None:
    assert list(found) == list(state)
    for key, value in state.items():
        assert found[key].dtype == value.dtype, key
        np.testing.assert_allclose(found[key], value, rtol=1e-6, err_msg=key)


ALL: list[tuple[str, Any]] = [
    ("SGD", {**RATE, "momentum": 0.9}),
    ("RMSprop", RATE),
    ("Adagrad", RATE),
    ("Adadelta", RATE),
    ("Adam", RATE),
    ("Adamax", RATE),
    ("Nadam", RATE),
]


@pytest.mark.parametrize(("name", "options"), ALL, ids=[name for name, _ in ALL])
@pytest.mark.parametrize("version", ["1.2.2", "2.0.8", "2.2.4", "2.3.1", None])
def test_keras_1_and_2(name: str, options: Any, version: str | None) -> None:
    trip, state = filled(name, options)
    saved = keras_2(state, named=version != "1.2.2")
    if version == "2.3.1":
        saved.insert(1, ("Nadam/m_schedule:0", np.array(0.5, "float32"))) if name == "Nadam" else None
        hats = [(f"Adam/vhat_{i}:0", np.zeros(1, "float32")) for i in range(6)]
        saved += hats if name == "Adam" else []
    same(slots_of(trip.built.optimizer, trip.state, saved, version), state)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adagrad", "Adadelta"])
def test_no_counter(name: str) -> None:
    """What older releases did not count begins at 0."""
    trip, state = filled(name, dict(ALL)[name])
    saved = keras_2(state, counter=False)
    same(slots_of(trip.built.optimizer, trip.state, saved, "2.1.6"), {**state, "iteration": np.array(0)})


@pytest.mark.parametrize("version", ["1.2.2", "2.2.4"])
def test_momenta_that_sgd_did_not_use(version: str) -> None:
    trip, _ = filled("SGD", RATE)
    _, other = filled("SGD", {**RATE, "momentum": 0.9})
    found = slots_of(trip.built.optimizer, trip.state, keras_2(other), version)
    assert set(found) == {"iteration", "learning_rate"}
    assert int(found["iteration"]) == ITERATION
    late = [("iteration:0", np.array(7)), *keras_2(other)[1:]]
    assert int(slots_of(trip.built.optimizer, trip.state, late, "2.11.0")["iteration"]) == 7


def test_amsgrad_of_keras_2() -> None:
    trip, state = filled("Adam", {**RATE, "amsgrad": True})
    same(slots_of(trip.built.optimizer, trip.state, keras_2(state), "2.2.4"), state)


V2: list[tuple[str, Any]] = [
    *ALL,
    ("RMSprop", {**RATE, "momentum": 0.5, "centered": True}),
    ("Adam", {**RATE, "amsgrad": True}),
    ("Adam", {"learning_rate": DECAY}),
    ("Ftrl", RATE),
    ("SGD", RATE),
]


@pytest.mark.parametrize(("name", "options"), V2, ids=[f"{name}-{i}" for i, (name, _) in enumerate(V2)])
def test_optimizer_v2(name: str, options: Any) -> None:
    trip, state = filled(name, options)
    saved = optimizer_v2(state, name)
    if name == "Nadam":
        saved.insert(1, ("Nadam/momentum_cache:0", np.array(0.25, "float32")))
    same(slots_of(trip.built.optimizer, trip.state, saved, "2.8.0"), state)


@pytest.mark.parametrize("rate", [False, True])
@pytest.mark.parametrize(("name", "options"), V2, ids=[f"{name}-{i}" for i, (name, _) in enumerate(V2)])
def test_keras_2_11_and_later(name: str, options: Any, rate: bool) -> None:
    trip, state = filled(name, options)
    saved = keras_2_15(trip, state, rate=rate)
    same(slots_of(trip.built.optimizer, trip.state, saved, "2.15.0"), state)
    numbered = [(str(i), value) for i, (_, value) in enumerate(saved)]
    same(slots_of(trip.built.optimizer, trip.state, numbered, "2.13.1"), state)
    if name == "Nadam":
        short = keras_2_15(trip, state, rate=rate, product=False)
        same(slots_of(trip.built.optimizer, trip.state, short, "2.15.0"), state)


def test_what_does_not_belong_is_refused() -> None:
    trip, state = filled("Adam", RATE)
    other, momenta = filled("SGD", {**RATE, "momentum": 0.9})
    now = variables(trip.built.optimizer, state)
    swapped = [now[0], now[1], now[4], *now[3:]]
    for saved, version in (
        (now[:-1], "3.15.1"),
        ([*now, now[-1]], "3.15.1"),
        (swapped, "3.15.1"),
        (variables(other.built.optimizer, momenta), "3.15.1"),
        (keras_2(momenta), "2.2.4"),
        (keras_2(state)[:-1], "2.2.4"),
        ([("Adam/iterations:0", np.array([1, 2])), *keras_2(state)[1:]], "2.2.4"),
        ([("Adam/iterations:0", np.array(np.nan)), *keras_2(state)[1:]], "2.2.4"),
        ([("Adam/iter:0", np.array(-3)), *optimizer_v2(state, "Adam")[1:]], "2.4.0"),
        ([], "3.15.1"),
        ([], "2.2.4"),
    ):
        with pytest.raises(FileError, match="does not belong to this model and optimizer"):
            slots_of(trip.built.optimizer, trip.state, saved, version)


def test_the_newest_names_are_those_of_keras() -> None:
    """As Keras 3 writes them into HDF5 files."""
    trip, state = filled("Adam", {**RATE, "use_ema": True})
    names = [name for name, _ in variables(trip.built.optimizer, state, "net")]
    model = trips.twin(trip.built)
    model.optimizer.build(model.trainable_variables)
    # Keras numbers its optimizers through the process.
    theirs = [v.path.partition("/") for v in model.optimizer.variables]
    assert names == [f"adam/{name}" for _, _, name in theirs]


def test_numbered_slots_of_a_file_that_names_no_release() -> None:
    """`.weights.h5` says no version; Keras 2.12 brought it, and lists slots weight by weight."""
    assert generation(["vars/0", "vars/1", "vars/2"], None) == "now"
    assert generation(["Variable:0", "Variable_1:0"], None) == "old"
