"""Models of every layer and many graphs through Keras's files: opened there, equal, and trained on in both directions.

A fixed sample runs always; all of them with `pytest -m long`.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.keras_files import trips
from tests.parity.test_drawn_graphs import Drawn
from tests.parity.test_graphs import GRAPHS, HEAD
from tests.runs.test_keras_opens import ZOO
from tests.runs.zoo import PIPELINES, UNSAVED
from tests.train.recipes import loaded
from trainer.recipe.document import dump
from trainer.recipe.load import Loaded

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # Keras's layers that count dropped steps, skipped because nothing stands there.
    pytest.mark.filterwarnings("ignore:Skipping nested container"),
]

HOUSE = """
name: zoo
seed: 5
dataset:
  source: {{npz: {{path: {path}}}}}
  inputs: {{x: {{}}}}
  targets: {{y: {{}}}}
model:
  layers: [{{{layer}}}, Flatten, {{Dense: {{units: 1}}}}]
compile: {{optimizer: {{{optimizer}}}, loss: mse, metrics: [mae]}}
fit: {{epochs: 1, batch_size: 4, shuffle: false}}
"""
OPTIMIZERS = (
    "Adam: {learning_rate: 0.01, clipnorm: 1.0}",
    "SGD: {learning_rate: 0.01, momentum: 0.5, clipnorm: 1.0}",
    "RMSprop: {learning_rate: 0.002, clipnorm: 1.0}",
)
RULES = (
    {"SGD": {"learning_rate": 1e-3, "momentum": 0.5, "clipnorm": 1.0}},
    {"Adam": {"learning_rate": 1e-4}},
    {"RMSprop": {"learning_rate": 1e-4, "clipnorm": 1.0}},
)
ANIMALS = [
    (name, number, shape, layer)
    for name, animals in {**ZOO, **PIPELINES}.items()
    for number, (shape, layer) in enumerate(animals)
]
SAMPLE = 24
DRAWN = [seed for seed in range(160) if Drawn(seed).layers]
"Those with a layer that can be trained."


def sampled(cases: list[Any], count: int = SAMPLE) -> list[Any]:
    """All cases, those that are not drawn into the sample marked as long."""
    chosen = set(random.Random(6).sample(range(len(cases)), count))
    marks = [() if i in chosen else (pytest.mark.long,) for i in range(len(cases))]
    return [pytest.param(*case, marks=mark, id=f"{case[0]}-{case[1]}") for case, mark in zip(cases, marks, strict=True)]


def recipe(folder: Path, shape: Any, layer: str, optimizer: str) -> Loaded:
    draws = np.random.default_rng(2)
    if shape[-1] == "ids":
        x = draws.integers(0, 7, (40, *shape[:-1]))
    else:
        x = draws.normal(1, 1, (40, *shape)).astype("float32")
        x[:, -1:] = 0.0 if "Masking}" in layer else x[:, -1:]
        x[::3, 0] = 0.5
    np.savez(folder / "rows.npz", x=x, y=draws.normal(3, 1, 40).astype("float32"))
    return loaded(HOUSE.format(path=folder / "rows.npz", layer=layer, optimizer=optimizer))


def hold(made: Loaded, folder: Path) -> None:
    """Every file of a model, then ten steps on, in both directions where no random numbers are drawn."""
    trip = trips.begun(made)
    model = trips.hold_archive(trip, folder)
    trips.hold_others(trip, folder)
    if not trip.is_random():
        trips.hold_next_steps(trip, model)
        trips.hold_from_keras(made, folder)


@pytest.mark.parametrize(("name", "number", "shape", "layer"), sampled(ANIMALS))
def test_every_layer(name: str, number: int, shape: Any, layer: str, tmp_path: Path) -> None:
    # A bias before a BatchNormalization has no gradient but roundings.
    layer = layer.replace("{Dense: {units: 4}}, BatchN", "{Dense: {units: 4, use_bias: false}}, BatchN")
    hold(recipe(tmp_path, shape, layer, OPTIMIZERS[number % len(OPTIMIZERS)]), tmp_path)


@pytest.mark.parametrize("name", UNSAVED)
def test_what_keras_can_not_save_again(name: str, tmp_path: Path) -> None:
    """Keras 3.15 can't copy these when their value_range is a list, as it is in every file; ours it opens."""
    ((shape, layer),) = UNSAVED[name]
    trip = trips.begun(recipe(tmp_path, shape, layer, OPTIMIZERS[0]))
    trips.hold_archive(trip, tmp_path)
    trips.hold_others(trip, tmp_path)


@pytest.mark.parametrize(("name", "part"), sampled([(name, "graph") for name in GRAPHS], 8))
def test_wirings(name: str, part: str, tmp_path: Path) -> None:
    inputs, targets, model, compiled = GRAPHS[name]
    text = HEAD.format(inputs=inputs, targets=targets).replace("limit: 96", "limit: 160") + model.strip("\n") + "\n"
    fit = "fit: {epochs: 1, batch_size: 16, shuffle: false}"
    hold(loaded(f"{text}{compiled}\n{fit}\n"), tmp_path)


@pytest.mark.parametrize(("name", "seed"), sampled([("drawn", seed) for seed in DRAWN], 12))
def test_drawn_graphs(name: str, seed: int, tmp_path: Path) -> None:
    """Graphs drawn at random, with shared layers and up to three inputs and many outputs."""
    said = Drawn(seed).recipe()
    said["dataset"]["limit"] = 40
    said["compile"]["optimizer"] = RULES[seed % len(RULES)]
    for feature in (*said["dataset"]["inputs"].values(), *said["dataset"]["targets"].values()):
        feature["preprocess"].append({"Rescaling": {"scale": 1 / 64}})
    said["fit"] = {"epochs": 1, "batch_size": 4, "shuffle": False}
    hold(loaded(dump(said)), tmp_path)


def test_the_sample_is_one_of_hundreds() -> None:
    assert len(ANIMALS) + len(UNSAVED) + len(GRAPHS) + len(DRAWN) > 300
