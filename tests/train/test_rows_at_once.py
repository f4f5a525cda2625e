"""Judging many rows at a time: the figures of batches as the recipe cuts them, and where they must stay so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import DIGITS, directory_of, output, trained
from trainer.layers.graph import row_numbers
from trainer.model.network import Network
from trainer.train import scoring
from trainer.train.feed import Feed
from trainer.train.job import Options
from trainer.train.use import OpenRun

LARGE = (
    "dataset.inputs={image: {preprocess: [{Reshape: {target_shape: [64]}}]}}",
    "model.layers=[{RepeatVector: {n: 2000}}, GlobalAveragePooling1D, {Dense: {units: 10, activation: softmax}}]",
)
WORDS = (
    "dataset.inputs={image: {preprocess: [{Reshape: {target_shape: [64]}}]}}",
    "model.layers=[{Embedding: {input_dim: 17, output_dim: 4, mask_zero: true}}, {LSTM: {units: 3}}, "
    "{Dense: {units: 10, activation: softmax}}]",
)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each batch that is judged or trained on."""
    found: list[int] = []
    real = Feed._rows

    def noted(self: Feed, index: Any) -> Any:
        batch = real(self, index)
        found.append(batch.size)
        return batch

    monkeypatch.setattr(Feed, "_rows", noted)
    return found


LOSSES = ["sparse_categorical_crossentropy", "{SparseCategoricalCrossentropy: {reduction: mean}}"]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_figures_stay(tmp_path: Path, loss: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """450 rows train in batches of 32; the 150 that validate, and the 300 of the test, are judged in one."""
    many = trained(
        tmp_path, DIGITS, f"compile.loss={loss}", "compile.metrics=[accuracy, SparseTopKCategoricalAccuracy]"
    )
    assert {150, 300} <= set(sizes)
    monkeypatch.setenv("TRAINER_WITHOUT", "evaluation")
    sizes.clear()
    few = trained(tmp_path, DIGITS, f"compile.loss={loss}", "compile.metrics=[accuracy, SparseTopKCategoricalAccuracy]")
    assert not {150, 300} & set(sizes)
    for name, values in few.history.items():
        np.testing.assert_allclose(many.history[name], values, rtol=1e-6, err_msg=name)
    for name, value in few.figures.items():
        np.testing.assert_allclose(many.figures[name], value, rtol=1e-6, err_msg=name)


NESTED = (
    "model.layers=[Flatten, {Sequential: {layers: [{Dense: {units: 8}}]}}, {Dense: {units: 10, activation: softmax}}]",
)
HELD = (
    "dataset.inputs={image: {}}",
    "model.layers=[{Bidirectional: {layer: {GRU: {units: 4}}}}, {Dense: {units: 10, activation: softmax}}]",
)
STEPS_OF_MUCH_WORK = (
    "dataset.inputs={image: {}}",
    "model.layers=[{GRU: {units: 100}}, {Dense: {units: 10, activation: softmax}}]",
)


@pytest.mark.parametrize(
    "sets",
    [
        ("compile.loss={SparseCategoricalCrossentropy: {reduction: sum}}",),
        ("compile.loss={SparseCategoricalCrossentropy: {ignore_class: 3}}",),
        WORDS,
        LARGE,
        NESTED,
        HELD,
        STEPS_OF_MUCH_WORK,
    ],
    ids=["sums", "left out", "masks", "large rows", "models in it", "layers in layers", "work in every step"],
)
def test_batches_stay(tmp_path: Path, sets: tuple[str, ...], sizes: list[int]) -> None:
    trained(tmp_path, DIGITS, *sets, "fit.epochs=1")
    assert 150 not in sizes


def test_so_many_steps_are_of_the_recipe_s_batches(tmp_path: Path, sizes: list[int]) -> None:
    trained(tmp_path, DIGITS, "fit.epochs=1", "fit.validation_steps=2")
    assert sizes[1:3] == [32, 32]


def test_as_many_as_memory_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []
    real = scoring.rows_at_once
    monkeypatch.setattr(scoring, "rows_at_once", lambda *given: asked.append(real(*given)) or asked[-1])
    monkeypatch.setattr(scoring, "MOST_NUMBERS", 138 * 100 - 1)
    # 64 pixels, 32 units, their dropout, and 10 classes.
    trained(tmp_path, DIGITS, "fit.epochs=1")
    assert set(asked) == {99}


def test_numbers_of_a_row_are_those_of_all_tensors() -> None:
    shapes: dict[int, Any] = {0: (None, 4), 1: [(None, 3, 2), (None, 5)], 2: (None,)}
    assert row_numbers(shapes) == 4 + 6 + 5 + 1
    assert row_numbers({**shapes, 3: (None, None, 2)}) is None


def test_predictions_are_made_many_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = trained(tmp_path, DIGITS, "fit.epochs=1")
    x = np.random.default_rng(0).random((1000, 8, 8), "float32")
    made, seen = [], []
    before = Network.run
    monkeypatch.setattr(
        Network, "run", lambda self, *xs, **more: (seen.append(len(xs[0])), before(self, *xs, **more))[1]
    )
    for without in ("", "evaluation"):
        monkeypatch.setenv("TRAINER_WITHOUT", without)
        made.append(output(OpenRun(directory_of(outcome), Options(runs=tmp_path, device="cpu")), x))
    assert seen == [1000, 256, 256, 256, 232]
    np.testing.assert_allclose(made[0], made[1], atol=1e-6)
    monkeypatch.setenv("TRAINER_WITHOUT", "")
    seen.clear()
    for sets in (NESTED, STEPS_OF_MUCH_WORK):
        outcome = trained(tmp_path, DIGITS, *sets, "fit.epochs=1")
        opened = OpenRun(directory_of(outcome), Options(runs=tmp_path, device="cpu"))
        seen.clear()
        output(opened, x)
        assert seen == [256, 256, 256, 232]


NUMBERS = """
name: numbers
seed: 2
dataset:
  source: diabetes
  inputs: {features: {preprocess: [Normalization]}}
  targets: {target: {}}
model: {layers: [{Dense: {units: 9, activation: relu}}, {Dense: {units: 1}}]}
compile: {optimizer: rmsprop, loss: mse, metrics: [mae]}
fit: {epochs: 2, batch_size: 10, validation_split: 0.2}
"""
FLAGS = (
    NUMBERS.replace("diabetes", "breast_cancer")
    .replace("target: {}", "label: {}")
    .replace("{Dense: {units: 1}}", "{Dense: {units: 1, activation: sigmoid}}")
)
ACROSS = [
    (NUMBERS, "compile.metrics=[{CosineSimilarity: {axis: 0}}]"),
    (NUMBERS, "compile.loss={CosineSimilarity: {axis: 0}}"),
    (FLAGS, "compile.loss=dice"),
    (FLAGS, "compile.loss=tversky"),
]


@pytest.mark.parametrize(("recipe", "across"), ACROSS)
def test_what_looks_across_rows_is_given_the_batches_of_the_recipe(
    tmp_path: Path, recipe: str, across: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = trained(tmp_path, recipe, across)
    assert max(sizes[1:9]) == 10
    monkeypatch.setenv("TRAINER_WITHOUT", "evaluation,sums,hand")
    few = trained(tmp_path, recipe, across)
    for name, values in few.history.items():
        np.testing.assert_allclose(many.history[name], values, rtol=1e-5, err_msg=name)


def test_groups_of_a_batch_are_those_of_the_recipe(tmp_path: Path, sizes: list[int]) -> None:
    circle = "compile={optimizer: adam, loss: circle}"
    trained(tmp_path, DIGITS, circle, "fit.epochs=1", "model.layers=[{Dense: {units: 4}}, UnitNormalization]")
    assert 150 not in sizes
