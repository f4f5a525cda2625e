"""What a model is judged by: weighted metrics and a weighed loss, from the recipe to the run's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.train.recipes import DIGITS, directory_of, loaded, trained
from trainer.errors import RecipeError

WEIGHED = DIGITS.replace("metrics: [accuracy]", "metrics: [accuracy], weighted_metrics: [accuracy], loss_weights: 0.5")


def test_names_in_logs_are_keras(tmp_path: Path) -> None:
    callbacks = "callbacks=[{EarlyStopping: {monitor: val_weighted_accuracy, patience: 9}}]"
    sets = ("fit.epochs=2", "fit.class_weight={0: 5.0}", callbacks, "expect={test.weighted_accuracy: {min: 0}}")
    outcome = trained(tmp_path, WEIGHED, *sets)
    names = ["loss", "accuracy", "weighted_accuracy"]
    assert list(outcome.history) == [*names, *(f"val_{n}" for n in names), "learning_rate"]
    assert outcome.history["accuracy"] != outcome.history["weighted_accuracy"]
    # Weights of classes are for training alone.
    assert outcome.history["val_accuracy"] == outcome.history["val_weighted_accuracy"]
    assert outcome.verdicts["test.weighted_accuracy"][0]
    assert outcome.figures["history.weighted_accuracy.best"] == max(outcome.history["weighted_accuracy"])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_opens_the_run_with_both_kinds_of_metrics(tmp_path: Path) -> None:
    outcome = trained(tmp_path, WEIGHED, "fit.epochs=1")
    model: Any = keras.models.load_model(directory_of(outcome).path / "model.h5")
    random = np.random.default_rng(0)
    x, y, weight = random.random((40, 64)), random.integers(0, 10, 40), random.random(40)
    found = model.evaluate(x, y, sample_weight=weight, batch_size=40, verbose=0, return_dict=True)
    p = model.predict(x, verbose=0)
    hits = p.argmax(1) == y
    assert found["accuracy"] == pytest.approx(hits.mean())
    assert found["weighted_accuracy"] == pytest.approx(np.average(hits, weights=weight))
    assert found["loss"] == pytest.approx(0.5 * np.mean(-np.log(p[np.arange(40), y]) * weight), rel=1e-5)


@pytest.mark.parametrize(
    ("sets", "path", "words"),
    [
        (
            "compile.weighted_metrics=[sparse_categorical_accuracy, sparse_categorical_accuracy]",
            "weighted_metrics",
            'two metrics are called "sparse_categorical_accuracy"',
        ),
        (
            "compile.metrics=[sparse_categorical_accuracy, "
            "{SparseCategoricalCrossentropy: {name: weighted_sparse_categorical_accuracy}}]",
            "weighted_metrics",
            'two metrics are called "weighted_sparse_categorical_accuracy"',
        ),
        ("compile.loss_weights=[1, 2]", "loss_weights", "expected a number, a list of one number, or a mapping"),
        ("compile.loss_weights={a: 1}", "loss_weights", 'no output of the model is called "a"'),
        ("compile.loss_weights=true", "loss_weights", "expected a number, a list of one number, or a mapping"),
        ("callbacks=[{EarlyStopping: {monitor: weighted_acuracy}}]", "monitor", "weighted_sparse_categorical_accuracy"),
        ("fit.sample_weight=weigt", "sample_weight", 'the source has no field "weigt"'),
    ],
)
def test_mistakes_are_found_in_the_recipe(sets: str, path: str, words: str) -> None:
    text = DIGITS.replace(
        "[accuracy]", "[sparse_categorical_accuracy], weighted_metrics: [sparse_categorical_accuracy]"
    )
    with pytest.raises(RecipeError) as raised:
        loaded(text, sets)
    (problem,) = raised.value.problems
    assert path in problem.path
    assert words in problem.message
