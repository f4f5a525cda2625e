"""Reports and pictures: numbers against scikit-learn and the textbook, pictures by what is drawn in them."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from sklearn.metrics import classification_report, confusion_matrix

from trainer.report import plots
from trainer.report.classes import class_report
from trainer.report.smoothing import exponential_moving_average, mean_over_folds, smooth

HISTORY = {
    "loss": [1.0, 0.5, 0.25, 0.2],
    "accuracy": [0.5, 0.7, 0.8, 0.9],
    "val_loss": [1.1, 0.6, 0.7, 0.9],
    "val_accuracy": [0.4, 0.6, 0.6, 0.5],
    "learning_rate": [0.1, 0.1, 0.1, 0.1],
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that a test draws, caught before they become bytes."""
    figures: list[Any] = []
    real = plots._bytes

    def keep(figure: Any, kind: str = "png") -> bytes:
        figures.append(figure)
        return real(figure, kind)

    monkeypatch.setattr(plots, "_bytes", keep)
    return figures


def test_smoothing_is_chollets() -> None:
    points = [float(n) for n in np.random.default_rng(0).normal(size=40)]
    by_hand = [points[10]]
    for point in points[11:]:
        by_hand.append(by_hand[-1] * 0.9 + point * (1 - 0.9))
    assert smooth(points) == by_hand
    assert exponential_moving_average([3.0], 0.5) == [3.0]
    assert smooth([1.0, 2.0], drop=5) == []


def test_mean_over_folds_takes_those_that_got_there() -> None:
    folds = [{"loss": [1.0, 2.0, 5.0]}, {"loss": [3.0, 4.0]}, {"loss": [5.0], "mae": [1.0]}]
    assert mean_over_folds(folds) == {"loss": [3.0, 3.0, 5.0], "mae": [1.0]}


def test_class_report_is_scikit_learns() -> None:
    random = np.random.default_rng(1)
    truth, said = random.integers(0, 4, 200), random.integers(0, 4, 200)
    said[said == 3] = 2
    report = class_report(truth, said, "abcd")
    theirs: Any = classification_report(truth, said, target_names=list("abcd"), output_dict=True, zero_division=0)
    rows = {name: values for name, *values in report.rows()}
    for name in "abcd":
        assert rows[name] == pytest.approx(list(theirs[name].values()))
    assert rows["macro average"] == pytest.approx(list(theirs["macro avg"].values()))
    assert rows["weighted average"] == pytest.approx(list(theirs["weighted avg"].values()))
    assert report.accuracy == pytest.approx(theirs["accuracy"])
    assert np.array_equal(report.matrix, confusion_matrix(truth, said))


def test_a_class_without_rows_has_a_line_of_zeros() -> None:
    report = class_report(np.array([0, 0]), np.array([0, 1]), ["yes", "no", "never"])
    assert report.rows()[2] == ("never", 0.0, 0.0, 0.0, 0)


def test_curves_show_training_as_dots_and_validation_as_a_line(drawn: list[Any]) -> None:
    data = plots.curves(HISTORY)
    (figure,) = drawn
    titles = [ax.get_title() for ax in figure.axes if ax.get_visible()]
    assert titles == ["loss", "accuracy"], "a learning rate that never moves has no panel"
    dots, line = figure.axes[1].lines
    assert (dots.get_marker(), dots.get_linestyle(), list(dots.get_ydata())) == ("o", "None", HISTORY["accuracy"])
    assert (line.get_linestyle(), list(line.get_ydata())) == ("-", HISTORY["val_accuracy"])
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()][-1] == "best: epoch 2"
    picture = matplotlib.image.imread(io.BytesIO(data))
    assert picture.shape == (420, 1200, 4)
    assert picture.std() > 0.05
    assert plots.curves(HISTORY) == data, "the same history gives the same bytes"


def test_gaps_in_validation_are_passed_over(drawn: list[Any]) -> None:
    plots.curves({"loss": [3.0, 2.0, 1.0], "val_loss": [float("nan"), 2.0, float("nan")]})
    assert list(drawn[0].axes[0].lines[1].get_xdata()) == [2]


def test_fold_curves_raw_and_smoothed(drawn: list[Any]) -> None:
    random = np.random.default_rng(2)
    folds = [{"loss": list(random.random(30)), "val_loss": list(random.random(30))} for _ in range(3)]
    plots.fold_curves(folds)
    plots.fold_curves(folds, smoothed=True)
    raw, smoothed = (figure.axes[0] for figure in drawn)
    assert raw.get_title() == "val_loss, mean of 3 folds"
    assert len(raw.lines) == 4
    mean = mean_over_folds(folds)["val_loss"]
    assert list(raw.lines[-1].get_ydata()) == mean
    assert list(smoothed.lines[0].get_ydata()) == smooth(mean)
    assert smoothed.lines[0].get_xdata()[0] == 11


@pytest.mark.parametrize("classes", [2, 10, 46])
def test_confusion_shows_counts_while_they_fit(drawn: list[Any], classes: int) -> None:
    random = np.random.default_rng(3)
    matrix = random.integers(1, 9, (classes, classes))
    plots.confusion(matrix, [f"class {i}" for i in range(classes)])
    texts = [t.get_text() for t in drawn[0].axes[0].texts]
    assert texts == ([str(n) for n in matrix.ravel()] if classes <= 20 else [])


def test_labels_from_data_are_only_text(drawn: list[Any]) -> None:
    assert plots.label("$\\frac{1}{2}$\x1b[31m\u202e") == r"\$\frac{1}{2}\$ [31m"
    plots.confusion(np.eye(2), ["$x$", "a" * 100])
    assert len(drawn) == 1


def test_distributions_count_every_finite_weight(drawn: list[Any]) -> None:
    values = np.append(np.random.default_rng(4).normal(size=99), np.nan)
    plots.distributions({"dense/kernel": values, "dense/bias": np.zeros(3)})
    assert sum(patch.get_height() for patch in drawn[0].axes[0].patches) == 99
    assert drawn[0].axes[0].get_title() == "dense/kernel (100)"
