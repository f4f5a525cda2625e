"""Weights of rows and classes, weighted metrics and weighed losses through a whole `fit`, against real Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras.src.losses import loss

from tests.parity.fitting import hold_history
from tests.train.recipes import loaded

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEXT = """
seed: 8
dataset:
  source: {npz: {path: ROWS}}
  inputs: {x: {}}
  targets: {TARGET: {}}
model: {layers: [{Dense: {units: 8, activation: tanh, kernel_regularizer: {L2: {l2: 1e-2}}}}, LAST]}
compile: {optimizer: OPTIMIZER, loss: LOSS, COMPILE}
fit: {epochs: 3, batch_size: 16, validation_split: 0.25, shuffle: false, FIT}
"""
SPARSE = ("kind", "{Dense: {units: 3, activation: softmax}}", "sparse_categorical_crossentropy")
LOGITS = ("kind", "{Dense: {units: 3}}", "{SparseCategoricalCrossentropy: {from_logits: true}}")
IGNORING = ("kind", SPARSE[1], "{SparseCategoricalCrossentropy: {ignore_class: 2}}")
SMOOTH = ("one_hot", SPARSE[1], "{CategoricalCrossentropy: {label_smoothing: 0.1}}")
FLAG = ("flag", "{Dense: {units: 1, activation: sigmoid}}", "binary_crossentropy")
FLAG_SMOOTH = ("flag", "{Dense: {units: 1}}", "{BinaryCrossentropy: {from_logits: true, label_smoothing: 0.2}}")
VALUE = ("value", "{Dense: {units: 1}}", "mse")
SERIES = ("series", "{RepeatVector: {n: 4}}, {SimpleRNN: {units: 2, return_sequences: true}}", "mae")
BOTH = "metrics: [accuracy], weighted_metrics: [accuracy]"
ROWS, CLASSES = "sample_weight: w", "class_weight: {0: 2.0, 1: 0.5}"
CASES = {
    "sparse-rows": (SPARSE, BOTH, ROWS),
    "sparse-classes": (SPARSE, BOTH, CLASSES),
    "sparse-rows-and-classes": (SPARSE, BOTH, f"{ROWS}, {CLASSES}"),
    "no-weights": (SPARSE, "weighted_metrics: [accuracy, sparse_categorical_crossentropy]", ""),
    "only-weighted": (SPARSE, "weighted_metrics: [acc, {SparseTopKCategoricalAccuracy: {k: 2}}]", ROWS),
    "logits": (LOGITS, "metrics: [accuracy], weighted_metrics: [{SparseCategoricalAccuracy: {name: hits}}]", ROWS),
    "ignored-class": (IGNORING, BOTH, ROWS),
    "smooth": (
        SMOOTH,
        "metrics: [accuracy], weighted_metrics: [categorical_accuracy, cosine_similarity, kl_divergence]",
        ROWS,
    ),
    "flags": (FLAG, "metrics: [AUC, Precision], weighted_metrics: [AUC, Precision, Recall, accuracy]", ROWS),
    "flags-smooth": (FLAG_SMOOTH, "weighted_metrics: [{BinaryAccuracy: {threshold: 0.0}}]", f"{ROWS}, {CLASSES}"),
    "values": (VALUE, "metrics: [mae], weighted_metrics: [mae, mse, root_mean_squared_error, R2Score]", ROWS),
    "series": (SERIES, "metrics: [mse], weighted_metrics: [mse]", ROWS),
    "series-steps": (SERIES, "metrics: [mse], weighted_metrics: [mse, cosine_similarity]", "sample_weight: steps"),
    "series-steps-sum": (
        (*SERIES[:2], "{MeanAbsoluteError: {reduction: mean_with_sample_weight}}"),
        "weighted_metrics: [mae]",
        "sample_weight: steps",
    ),
    "sum": ((*VALUE[:2], "{MeanSquaredError: {reduction: sum}}"), "weighted_metrics: [mae]", ROWS),
    "mean-of-weights": (
        (*VALUE[:2], "{Huber: {reduction: mean_with_sample_weight}}"),
        "weighted_metrics: [mae]",
        ROWS,
    ),
    "loss-weight": (VALUE, "loss_weights: 0.25, metrics: [mae]", ""),
    "loss-weight-list": (SPARSE, "loss_weights: [1.5], metrics: [accuracy]", ""),
    "loss-weight-rows": (LOGITS, "loss_weights: 3, weighted_metrics: [accuracy]", f"{ROWS}, {CLASSES}"),
    "loss-weight-of-zero": (FLAG, "loss_weights: 0, metrics: [accuracy]", ""),
}


@pytest.fixture(autouse=True)
def weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras on torch multiplies a loss's mask into the batch's weights in place, which the metrics then see."""
    apply_mask = loss.apply_mask

    def kept(sample_weight: Any, *args: Any, **options: Any) -> Any:
        return apply_mask(None if sample_weight is None else sample_weight.clone(), *args, **options)

    monkeypatch.setattr(loss, "apply_mask", kept)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with targets of several kinds and a column of weights, some of them 0."""
    random = np.random.default_rng(2)
    x = random.normal(size=(120, 5)).astype("float32")
    kind = (x @ random.normal(size=(5, 3))).argmax(1)
    value = x[:, :1] - x[:, 1:2] ** 2
    weight = random.choice([0.0, 0.5, 1.0, 2.5], 120)
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    np.savez(
        path,
        x=x,
        kind=kind,
        one_hot=np.eye(3, dtype="float32")[kind],
        flag=(kind == 1).astype("float32")[:, None],
        value=value.astype("float32"),
        series=random.normal(size=(120, 4, 2)).astype("float32"),
        steps=random.choice([0.0, 1.0, 3.0], (120, 4)).astype("float32"),
        w=weight.astype("float32"),
    )
    return path


def recipe(rows: Path, case: str, optimizer: str = "{SGD: {learning_rate: 0.1, momentum: 0.5}}") -> str:
    (target, last, judged), compiled, fit = CASES[case]
    text = TEXT.replace("ROWS", str(rows)).replace("TARGET", target).replace("LAST", last).replace("LOSS", judged)
    return text.replace("OPTIMIZER", optimizer).replace("COMPILE", compiled).replace("FIT", fit)


@pytest.mark.parametrize("case", CASES)
def test_weighed_fit_equals_keras(case: str, rows: Path) -> None:
    hold_history(loaded(recipe(rows, case)))
