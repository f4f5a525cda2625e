"""A run put to use: probabilities at a temperature, and what classes are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.train.recipes import directory_of, trained
from trainer.train.job import Options
from trainer.train.use import OpenRun, tempered


@pytest.mark.parametrize("temperature", [1e-2, 1e-300, 1e-307, 5e-324])
def test_next_to_no_temperature_leaves_the_likeliest(temperature: float) -> None:
    chances = np.asarray([[0.2, 0.5, 0.3], [0.0, 0.0, 1.0]], "float32")
    np.testing.assert_allclose(tempered(chances, temperature), [[0, 1, 0], [0, 0, 1]], atol=1e-7)


def test_equal_chances_stay_equal() -> None:
    np.testing.assert_array_equal(tempered(np.asarray([0.4, 0.4, 0.2]), 5e-324), [0.5, 0.5, 0.0])


def test_at_a_temperature_of_one_nothing_changes() -> None:
    chances = np.asarray([[0.25, 0.5, 0.25]])
    np.testing.assert_allclose(tempered(chances, 1.0), chances)
    np.testing.assert_allclose(tempered(chances, 0.5), [[1 / 6, 4 / 6, 1 / 6]])


IRIS = """
name: iris
dataset:
  source: iris
  inputs: {{features: {{}}}}
  targets: {{label: {{preprocess: {steps}}}}}
  split: {{test: 30}}
model: {{layers: [{{Dense: {{units: {units}, activation: softmax}}}}]}}
compile: {{loss: {loss}}}
fit: {{epochs: 1}}
"""


@pytest.mark.parametrize(
    ("steps", "units", "loss", "names"),
    [
        ("[]", 3, "sparse_categorical_crossentropy", ["setosa", "versicolor", "virginica"]),
        (
            "[{CategoryEncoding: {num_tokens: 3, output_mode: one_hot}}]",
            3,
            "categorical_crossentropy",
            ["setosa", "versicolor", "virginica"],
        ),
        (
            "[{Discretization: {bin_boundaries: [1]}}]",
            2,
            "sparse_categorical_crossentropy",
            ["setosa", "versicolor / virginica"],
        ),
        ("[{Rescaling: {scale: -1, offset: 2}}]", 3, "sparse_categorical_crossentropy", ["0", "1", "2"]),
        ("[{IntegerLookup: {vocabulary: [2, 1, 0], num_oov_indices: 0}}]", 3, "sparse_categorical_crossentropy", None),
    ],
)
def test_names_are_those_of_the_classes_that_the_model_learned(
    tmp_path: Path, steps: str, units: int, loss: str, names: list[str] | None
) -> None:
    done = trained(tmp_path, IRIS.format(steps=steps, units=units, loss=loss))
    opened = OpenRun(directory_of(done), Options(device="cpu"))
    assert opened.class_names(units) == (names or ["2", "1", "0"])
