"""Masks through a whole `fit`: from Embedding and Masking to losses and metrics a time step, against real Keras."""

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
  inputs: {INPUT: {}}
  targets: {TARGET: {}}
model: {layers: [LAYERS, LAST]}
compile: {optimizer: {SGD: {learning_rate: 0.1, momentum: 0.5}}, loss: LOSS, MORE}
fit: {epochs: 3, batch_size: 16, validation_split: 0.25, shuffle: false, FIT}
"""
WORDS = ("ids", "{Embedding: {input_dim: 9, output_dim: 4, mask_zero: true}}")
STEPS = ("series", "{Masking: {mask_value: 0.0}}")
GRU = "{GRU: {units: 5, return_sequences: true}}"
LSTM = "{LSTM: {units: 4, return_sequences: true, activity_regularizer: {L2: {l2: 0.01}}}}"
BOTH_WAYS = "{Bidirectional: {layer: {SimpleRNN: {units: 3, return_sequences: true}}}}"
SPREAD = "{TimeDistributed: {layer: {Dense: {units: 6, activation: tanh}}}}, LayerNormalization"
BATCHED = "BatchNormalization"
SOFTMAX, RAW = "{Dense: {units: 3, activation: softmax}}", "{Dense: {units: 3}}"
SIGMOID, ONE = "{Dense: {units: 1, activation: sigmoid}}", "{Dense: {units: 1}}"
SPARSE = "sparse_categorical_crossentropy"
HITS = "metrics: [accuracy], weighted_metrics: [accuracy]"
CASES = {
    "kinds": (WORDS, GRU, SOFTMAX, "kinds", SPARSE, HITS, ""),
    "kinds-of-steps": (STEPS, LSTM, SOFTMAX, "kinds", SPARSE, HITS, ""),
    "kinds-logits": (WORDS, LSTM, RAW, "kinds", "{SparseCategoricalCrossentropy: {from_logits: true}}", HITS, ""),
    "kinds-rows": (WORDS, GRU, SOFTMAX, "kinds", SPARSE, HITS, "sample_weight: each"),
    "kinds-steps": (WORDS, BOTH_WAYS, SOFTMAX, "kinds", SPARSE, HITS, "sample_weight: w"),
    "kinds-ignored": (
        WORDS,
        GRU,
        SOFTMAX,
        "kinds",
        "{SparseCategoricalCrossentropy: {ignore_class: 1}}",
        "metrics: [accuracy]",
        "sample_weight: w",
    ),
    "one-hot-smooth": (
        WORDS,
        SPREAD,
        SOFTMAX,
        "one_hot",
        "{CategoricalCrossentropy: {label_smoothing: 0.1}}",
        "metrics: [accuracy, categorical_crossentropy], weighted_metrics: [accuracy]",
        "sample_weight: w",
    ),
    "one-hot-logits": (
        STEPS,
        BATCHED,
        RAW,
        "one_hot",
        "{CategoricalFocalCrossentropy: {from_logits: true, label_smoothing: 0.2}}",
        "metrics: [{TopKCategoricalAccuracy: {k: 2}}]",
        "",
    ),
    "flags": (WORDS, GRU, SIGMOID, "flags", "binary_crossentropy", "metrics: [accuracy, binary_crossentropy]", ""),
    "flags-smooth": (
        STEPS,
        GRU,
        ONE,
        "flags",
        "{BinaryCrossentropy: {from_logits: true, label_smoothing: 0.2}}",
        "metrics: [{BinaryAccuracy: {threshold: 0.0}}]",
        "sample_weight: w",
    ),
    "last-step": (WORDS, "{GRU: {units: 5}}", SOFTMAX, "kind", SPARSE, HITS, "class_weight: {1: 3.0}"),
    "pooled": (STEPS, f"{SPREAD}, GlobalAveragePooling1D", SOFTMAX, "kind", SPARSE, HITS, "sample_weight: row"),
    **{
        f"values-{reduction}-{weight}": (
            STEPS,
            LSTM,
            ONE,
            "values",
            f"{{{name}: {{reduction: {reduction}}}}}",
            "loss_weights: 0.05, metrics: [mae], weighted_metrics: [mse, mae]",
            f"sample_weight: {weight}" if weight else "",
        )
        for name, reduction in (
            ("MeanSquaredError", "sum_over_batch_size"),
            ("MeanAbsoluteError", "mean"),
            ("Huber", "mean_with_sample_weight"),
            ("LogCosh", "sum"),
        )
        for weight in ("", "w", "each")
    },
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
    """Rows of 6 steps, zeros from some step on, with a target for each step and weights of rows and of steps."""
    random = np.random.default_rng(4)
    ends = random.integers(1, 7, 100)
    there = np.arange(6) < ends[:, None]
    kinds, weight = random.integers(0, 3, (100, 6)), random.choice([0.0, 0.5, 2.0], 100)
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    arrays = {
        "ids": random.integers(1, 9, (100, 6)) * there,
        "series": random.normal(size=(100, 6, 3)) * there[:, :, None],
        "kinds": kinds,
        "kind": kinds[:, 0],
        "one_hot": np.eye(3)[kinds],
        "flags": (kinds == 1)[:, :, None].astype("float32"),
        "values": random.normal(size=(100, 6, 1)),
        "row": weight,
        "each": np.repeat(weight[:, None], 6, 1),
        "w": random.choice([0.0, 1.0, 3.0], (100, 6)),
    }
    np.savez(path, **{k: a.astype("float32") if a.dtype == "float64" else a for k, a in arrays.items()})
    return path


@pytest.mark.parametrize("case", CASES)
def test_masked_fit_equals_keras(case: str, rows: Path) -> None:
    (given, reads), layers, last, target, judged, more, fit = CASES[case]
    words = {"ROWS": rows, "INPUT": given, "TARGET": target, "LAYERS": f"{reads}, {layers}", "LAST": last}
    words |= {"LOSS": judged, "MORE": more, "FIT": fit}
    text = TEXT
    for word, value in words.items():
        text = text.replace(word, str(value))
    hold_history(loaded(text))
