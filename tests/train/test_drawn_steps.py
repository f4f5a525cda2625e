"""Random layers under `preprocess`: each batch anew, in training alone, and no part of the model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.recipes import loaded, output, trained
from tests.train.test_direct import record
from trainer.errors import RecipeError
from trainer.model.network import Network
from trainer.runs.directory import RunDirectory
from trainer.runs.model_file import read_model
from trainer.train import direct
from trainer.train.build import Built, build, real_outlines
from trainer.train.job import Options
from trainer.train.rows import divide
from trainer.train.terms import open_table
from trainer.train.use import OpenRun

PICTURES = """
name: pictures
seed: 2
dataset:
  source: digits
  inputs:
    image:
      preprocess: [{Reshape: {target_shape: [8, 8, 1]}}, {Rescaling: {scale: 1/16}}, STEPS]
  targets: {label: {preprocess: [{CategoryEncoding: {num_tokens: 10, output_mode: one_hot}}]}}
  split: {test: {last: 100}}
  limit: 300
model: {layers: [Flatten, {Dense: {units: 10, activation: softmax}}]}
compile: {optimizer: adam, loss: categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 2, batch_size: 50, validation_split: 0.2}
"""
STEPS = "{RandomTranslation: {height_factor: 0.2, width_factor: 0.2, fill_mode: constant}}, {MixUp: {alpha: 0.4}}"


def recipe(steps: str) -> str:
    return PICTURES.replace("STEPS", steps)


def built(steps: str) -> tuple[Built, Any]:
    found = loaded(recipe(steps)).recipe
    table = open_table(found, None, Options())
    rows = divide(found, table).train
    return build(found, real_outlines(found, table)[0], rows, torch.device("cpu")), rows


def test_they_act_on_each_batch_in_training_alone() -> None:
    made, rows = built(STEPS)
    x = made.feed(rows).xs[0].rows(slice(0, 50))
    y = made.feed(rows).ys[0].rows(slice(0, 50))
    assert x.shape == (50, 8, 8, 1)
    network = made.network
    plain = network.eval()(x)
    first, again = (network.train().run(x) for _ in range(2))
    assert len(first.mixings) == 1
    assert not torch.equal(first.output, again.output)
    assert not torch.equal(first.mixings[0](y), y)
    network.clock.step = 0
    assert torch.equal(network.eval()(x), plain)
    assert torch.equal(built("{Rescaling: {scale: 1.0}}")[0].network.eval()(x), plain)


def test_steps_behind_a_random_one_follow_it_on_each_batch() -> None:
    made, rows = built("{RandomCrop: {height: 6, width: 4}}, {Reshape: {target_shape: [24]}}")
    assert next(iter(made.inputs.values())).shape == (None, 8, 8, 1)
    assert made.graph.shapes[0] == (None, 24)
    x = made.feed(rows).xs[0].rows(slice(0, 5))
    assert made.network.train()(x).shape == (5, 10)
    assert made.network.eval()(x).shape == (5, 10)


def test_a_run_trains_with_them_and_is_used_without(tmp_path: Path) -> None:
    outcome = trained(tmp_path, recipe(STEPS))
    plain = trained(tmp_path, recipe("{Rescaling: {scale: 1.0}}"))
    assert outcome.history["loss"] != plain.history["loss"]
    assert trained(tmp_path, recipe(STEPS)).history == outcome.history
    directory = RunDirectory(outcome.directory)
    assert list(read_model(directory.path / "model.h5").weights) == ["flatten", "dense"]
    opened = OpenRun(directory, Options())
    column = np.asarray(opened.rows("test").columns["image"])
    predicted = output(opened, column)
    np.testing.assert_array_equal(predicted, output(opened, column))
    share = float((predicted.argmax(1) == np.asarray(opened.rows("test").columns["label"])).mean())
    assert share == pytest.approx(outcome.figures["test.accuracy"])


TRANSLATED = STEPS.split("}}, ")[0] + "}}"
CONV = (
    "model.layers=[{Conv2D: {filters: 16, kernel_size: 3, activation: relu}}, MaxPooling2D, Flatten, "
    "{Dropout: {rate: 0.2}}, {Dense: {units: 10, activation: softmax}}]"
)


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize(
    ("steps", "sets", "by"),
    [
        (TRANSLATED, (), "operations in a row"),
        (TRANSLATED, (CONV, "compile.jit_compile=true"), "operations in a row, some layers compiled"),
        ("RandomFlip, {RandomRotation: {factor: 0.1, seed: 5}}", (), "operations in a row"),
        ("{RandomCrop: {height: 6, width: 4}}, {Reshape: {target_shape: [24]}}", (), "operations in a row"),
        (STEPS, (), "autograd, since rows are mixed"),
    ],
)
def test_steps_without_autograd_are_given_what_was_drawn(
    tmp_path: Path, steps: str, sets: tuple[str, ...], by: str, folds: bool
) -> None:
    """The first 240 rows of 300 train, in batches of 50 and one of 40: each shape has a program of its own."""
    if folds:
        sets = (*sets, "fit.validation_split=0", "fit.kfold={folds: 3, final: false}")
    plain, ours = (trained(tmp_path, recipe(steps), *sets, engine=engine) for engine in ("plain", "auto"))
    assert record(ours)["steps_by"] == by
    for one, other in zip([plain.history, *plain.folds], [ours.history, *ours.folds], strict=True):
        for name, values in one.items():
            np.testing.assert_allclose(other[name], values, rtol=1e-5, err_msg=name)


def test_a_step_that_autograd_takes_after_all_draws_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trained(tmp_path, recipe(TRANSLATED), engine="plain")
    monkeypatch.setattr(direct, "MOST_PROGRAMS", 0)
    drawn: list[bool] = []
    before = Network.through_fronts
    monkeypatch.setattr(Network, "through_fronts", lambda self, xs: (drawn.append(self.training), before(self, xs))[1])
    ours = trained(tmp_path, recipe(TRANSLATED))
    # Two epochs of five batches: once for each.
    assert sum(drawn) == 10
    assert record(ours)["steps_by"] == "operations in a row"
    assert ours.history == plain.history


@pytest.mark.parametrize(
    ("steps", "path", "said"),
    [
        ("RandomFlip, Normalization", "inputs.image.preprocess[3]", "put RandomFlip behind it"),
        ("{Dense: {units: 3}}", "inputs.image.preprocess[2]", "is a layer of the model"),
        ("{RandomCrop: {height: 9, width: 4}}, {Reshape: {target_shape: [7]}}", "preprocess[3]", "Reshape"),
    ],
)
def test_what_can_not_stand_there(steps: str, path: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        built(steps)
    assert path in str(caught.value)
    assert said in str(caught.value)


def test_targets_are_not_drawn() -> None:
    text = recipe("{Rescaling: {scale: 1}}").replace(
        "targets: {label: {preprocess: [", "targets: {label: {preprocess: [RandomFlip, "
    )
    with pytest.raises(RecipeError, match=r"targets.label.preprocess\[0\].RandomFlip.*changes inputs by chance"):
        real_outlines(loaded(text).recipe, open_table(loaded(text).recipe, None, Options()))


def test_mixed_class_numbers_are_refused() -> None:
    text = recipe("{MixUp: {alpha: 0.4}}").replace("loss: categorical", "loss: sparse_categorical")
    text = text.replace("{preprocess: [{CategoryEncoding: {num_tokens: 10, output_mode: one_hot}}]}", "{}")
    with pytest.raises(RecipeError, match=r"dataset.inputs.image.preprocess\[2\].MixUp: MixUp mixes targets"):
        loaded(text)
