"""Preprocessing that learns from data learns from the training rows alone, in every fold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import device

from tests.train.recipes import loaded
from trainer.recipe.load import Loaded
from trainer.sources.base import Places
from trainer.sources.columns import Rows
from trainer.sources.split import folds
from trainer.train.build import Built, build, real_outlines
from trainer.train.rows import divide

RECIPE = """
name: wine
seed: 2
dataset:
  source: wine
  inputs: {features: {preprocess: [Normalization]}}
  targets: {label: {}}
  split: {test: 0.2, validation: 0.25}
model: {layers: [{Dense: {units: 3, activation: softmax}}]}
compile: {optimizer: sgd, loss: sparse_categorical_crossentropy}
fit: {epochs: 1, batch_size: 16}
"""


def built(recipe: Loaded, rows: Rows, table: Any) -> Built:
    return build(recipe.recipe, real_outlines(recipe.recipe, table)[0], rows, device("cpu"))


def learned(made: Built) -> list[np.ndarray]:
    return [
        value for name, value in next(iter(made.inputs.values())).state().items() if name.endswith(("mean", "variance"))
    ]


def holds(made: Built, rows: Rows) -> None:
    x = rows.columns["features"].astype("float64")
    mean, variance = (v.reshape(-1) for v in learned(made))
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-4)


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("dataset.split={test: 0.2}", "fit.validation_split=0.25"),
        ("dataset.split={test: {first: 20}, validation: {last: 20}}",),
        ("dataset.split={test: 0.2, validation: 0.2, stratify: label}",),
        ("dataset.limit=60",),
    ],
    ids=["drawn", "tail", "first and last", "stratified", "limit"],
)
def test_only_the_training_rows_are_seen(sets: tuple[str, ...]) -> None:
    recipe = loaded(RECIPE, *sets)
    table = recipe.recipe.dataset.source.open(Places())
    parts = divide(recipe.recipe, table)
    made = built(recipe, parts.train, table)
    holds(made, parts.train)
    whole = table.train.columns["features"].mean(0)
    assert np.abs(learned(made)[0].reshape(-1) - whole).max() > 1e-3
    before = [v.copy() for v in learned(made)]
    for rows in (parts.validation, parts.test):
        assert rows is not None
        fed = made.feed(rows).xs[0].rows(slice(None)).numpy()
        x = rows.columns["features"]
        np.testing.assert_allclose(
            fed, (x - before[0].reshape(-1)) / np.sqrt(before[1].reshape(-1)), rtol=2e-3, atol=1e-4
        )
    assert all((a == b).all() for a, b in zip(before, learned(made), strict=True))


def test_other_values_in_rows_held_back_change_nothing() -> None:
    recipe = loaded(RECIPE)
    table = recipe.recipe.dataset.source.open(Places())
    parts = divide(recipe.recipe, table)
    for rows in (parts.validation, parts.test):
        assert rows is not None
        rows.columns["features"][:] = 1e9
    holds(built(recipe, parts.train, table), parts.train)


@pytest.mark.parametrize("options", [{}, {"shuffle": True, "seed": 4}], ids=["in order", "drawn"])
def test_each_fold_learns_from_its_own_training_rows(options: dict[str, Any]) -> None:
    recipe = loaded(RECIPE, "dataset.split={}")
    table = recipe.recipe.dataset.source.open(Places())
    seen = []
    for train, held in folds(len(table.train), 4, **options):
        made = built(recipe, table.train.take(train), table)
        holds(made, table.train.take(train))
        assert not set(train) & set(held)
        seen.append(learned(made)[0].tobytes())
    assert len(set(seen)) == 4


def test_a_run_with_folds_builds_each_on_its_own_rows(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.train.recipes import trained
    from trainer.train import folds, work

    samples: list[Rows] = []

    def noted(recipe: Any, outline: Any, sample: Rows, *rest: Any) -> Built:
        made = build(recipe, outline, sample, *rest)
        holds(made, sample)
        samples.append(sample)
        return made

    for module in (work, folds):
        monkeypatch.setattr(module, "build", noted)
    text = RECIPE.replace("split: {test: 0.2, validation: 0.25}", "split: {test: {last: 18}}")
    trained(tmp_path, text.replace("epochs: 1,", "epochs: 1, kfold: {folds: 4},"))
    assert [len(rows) for rows in samples] == [120, 120, 120, 120, 160]
