"""Metrics that can't judge class numbers are found before a row is read."""

from __future__ import annotations

import pytest

from tests.train.recipes import DIGITS, loaded
from trainer.errors import RecipeError


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("AUC", "compares 0/1 flags.*num_tokens: 10, output_mode: one_hot"),
        ("Precision", "compares 0/1 flags"),
        ("{RecallAtPrecision: {precision: 0.5}}", "compares 0/1 flags"),
        ("F1Score", "compares 0/1 flags"),
        (
            "{MeanIoU: {num_classes: 10}}",
            "reads class numbers, but the model makes 10 scores.*sparse_y_pred: false",
        ),
        ("{MeanIoU: {num_classes: 5, sparse_y_pred: false}}", "tells 5 classes apart, but the model 10"),
        ("{MeanIoU: {num_classes: 10, sparse_y_true: false}}", "reads one-hot targets"),
        ("{OneHotMeanIoU: {num_classes: 10}}", "reads one-hot targets"),
    ],
)
@pytest.mark.parametrize("key", ["metrics", "weighted_metrics"])
def test_class_numbers(metric: str, said: str, key: str) -> None:
    text = DIGITS.replace("metrics: [accuracy]", f"{key}: [accuracy, {metric}]")
    with pytest.raises(RecipeError, match=rf"(?s)compile.{key}\[1\]: \w+ {said}"):
        loaded(text)


def test_metrics_that_can_judge_them() -> None:
    fits = "{MeanIoU: {num_classes: 10, sparse_y_pred: false}}, SparseTopKCategoricalAccuracy"
    loaded(DIGITS.replace("metrics: [accuracy]", f"metrics: [accuracy, {fits}]"))
    one = DIGITS.replace("units: 10, activation: softmax", "units: 1, activation: sigmoid")
    loaded(one.replace("sparse_categorical", "binary").replace("[accuracy]", "[AUC, Precision]"))
