"""A hundred training steps of every layer, loss, metric and optimizer beside real Keras, from equal weights."""

from __future__ import annotations

import pytest

from tests.parity.fitting import hold_history
from tests.train.recipes import loaded
from trainer.declare import Declared
from trainer.layers.base import Layer
from trainer.losses.base import Loss
from trainer.metrics.base import Metric
from trainer.optimizers.base import Optimizer

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEXT = """
seed: 11
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: SCALE}}]}}
  targets: {label: {TARGET}}
  limit: 160
model: {layers: [LAYERS]}
compile: {optimizer: OPTIMIZER, loss: LOSS, metrics: [METRICS]}
fit: {epochs: 10, batch_size: 16, shuffle: false}
"""
"Ten epochs of ten batches."
ONE_HOT = "preprocess: [{CategoryEncoding: {num_tokens: 10, output_mode: one_hot}}]"
LAST = "{Dense: {units: 10, activation: softmax}}"
SPARSE = "sparse_categorical_crossentropy"
MILD = "{SGD: {learning_rate: 0.05, momentum: 0.5}}"


def names_of(kind: type[Declared]) -> list[str]:
    """The finals of a kind."""
    return sorted({final.__name__ for final in kind.spellings().values()})


def recipe(
    layers: str,
    loss: str = SPARSE,
    metrics: str = "accuracy",
    optimizer: str = MILD,
    target: str = "",
    scale: str = "1/16",
) -> str:
    text = TEXT.replace("LAYERS", layers).replace("LOSS", loss).replace("METRICS", metrics).replace("SCALE", scale)
    return text.replace("OPTIMIZER", optimizer).replace("TARGET", target)


PICTURE, SERIES, IDS = (f"{{Reshape: {{target_shape: {s}}}}}, " for s in ("[8, 8, 1]", "[16, 4]", "[64]"))
STACKS = {
    "Dense": "{Dense: {units: 12, activation: tanh, kernel_regularizer: {L1L2: {l1: 1e-3, l2: 1e-2}}, "
    "bias_regularizer: {L2: {l2: 1e-2}}, activity_regularizer: {L2: {l2: 1e-3}}, kernel_constraint: {MaxNorm: {}}}}",
    "Activation": "{Dense: {units: 12}}, {Activation: {activation: gelu}}",
    "Identity": "Identity, {Dense: {units: 12, activation: relu}}",
    "Dropout": "{Dense: {units: 12, activation: relu}}, {Dropout: {rate: 0.0}}",
    "Flatten": PICTURE + "Flatten",
    "Reshape": "{Reshape: {target_shape: [4, -1]}}, {Dense: {units: 3}}, Flatten",
    "Permute": "{Reshape: {target_shape: [4, 16]}}, {Permute: {dims: [2, 1]}}, {Dense: {units: 3}}, Flatten",
    "RepeatVector": "{Dense: {units: 5, activation: tanh}}, {RepeatVector: {n: 3}}, Flatten",
    "Conv1D": SERIES
    + "{Conv1D: {filters: 6, kernel_size: 3, padding: causal, dilation_rate: 2, activation: relu}}, Flatten",
    "Conv2D": PICTURE
    + "{Conv2D: {filters: 4, kernel_size: [3, 2], strides: 2, padding: same, activation: elu}}, Flatten",
    "MaxPooling1D": SERIES
    + "{Conv1D: {filters: 4, kernel_size: 2}}, {MaxPooling1D: {pool_size: 3, padding: same}}, Flatten",
    "AveragePooling1D": SERIES + "{Conv1D: {filters: 4, kernel_size: 2}}, {AveragePooling1D: {pool_size: 3}}, Flatten",
    "MaxPooling2D": PICTURE + "{Conv2D: {filters: 4, kernel_size: 2}}, {MaxPooling2D: {pool_size: [2, 3]}}, Flatten",
    "AveragePooling2D": PICTURE
    + "{Conv2D: {filters: 4, kernel_size: 2}}, {AveragePooling2D: {pool_size: 2, strides: 1}}, Flatten",
    "GlobalMaxPooling1D": SERIES + "{Conv1D: {filters: 8, kernel_size: 2}}, GlobalMaxPooling1D",
    "GlobalAveragePooling1D": SERIES + "{Conv1D: {filters: 8, kernel_size: 2}}, GlobalAveragePooling1D",
    "GlobalMaxPooling2D": PICTURE + "{Conv2D: {filters: 8, kernel_size: 2}}, GlobalMaxPooling2D",
    "GlobalAveragePooling2D": PICTURE + "{Conv2D: {filters: 8, kernel_size: 2}}, GlobalAveragePooling2D",
    "BatchNormalization": "{Dense: {units: 12, use_bias: false}}, {BatchNormalization: {momentum: 0.8}}, "
    "{Activation: {activation: relu}}",
    "LayerNormalization": "{Dense: {units: 12}}, LayerNormalization",
    "Embedding": "{Embedding: {input_dim: 17, output_dim: 3, embeddings_regularizer: {L2: {l2: 1e-3}}}}, Flatten",
    "Masking": SERIES + "{Masking: {mask_value: 0.0}}, {SimpleRNN: {units: 6}}",
    "SimpleRNN": SERIES + "{SimpleRNN: {units: 6}}",
    "LSTM": SERIES + "{LSTM: {units: 6, return_sequences: true}}, {LSTM: {units: 5}}",
    "GRU": SERIES + "{GRU: {units: 6}}",
    "Rescaling": "{Rescaling: {scale: 2, offset: -1}}, {Dense: {units: 12, activation: relu}}",
}
PREPROCESSING = {
    "Normalization": "is adapted to data: tests/parity/test_preprocessing.py and the recipe of boston",
    "CategoryEncoding": "stands before the model: the one-hot cases here, imdb and reuters",
    "PadSequences": "is ours",
}


def test_no_layer_is_left_out() -> None:
    assert set(STACKS) | set(PREPROCESSING) == set(names_of(Layer))


@pytest.mark.parametrize("name", STACKS)
def test_layers(name: str) -> None:
    scale = "1" if name == "Embedding" else "1/16"
    hold_history(loaded(recipe(f"{STACKS[name]}, {LAST}", scale=scale)), weights=1e-5)


SMALL = "{Dense: {units: 12, activation: tanh}}, "
POSITIVE = SMALL + "{Dense: {units: 10, activation: softplus}}"


def last_for(loss: type[Loss]) -> tuple[str, str]:
    """(layers, target) that a loss is made for."""
    if loss.fits == ("softmax",):
        return SMALL + LAST, "" if loss.targets == "integer" else ONE_HOT
    if loss.fits == ("sigmoid",):
        return SMALL + "{Dense: {units: 10, activation: sigmoid}}", ONE_HOT
    return POSITIVE, ONE_HOT


@pytest.mark.parametrize("name", names_of(Loss))
def test_losses(name: str) -> None:
    layers, target = last_for(Loss.catalogue[name])
    hold_history(loaded(recipe(layers, name, "mae" if target else "", target=target)), weights=1e-5)


@pytest.mark.parametrize("name", names_of(Optimizer))
def test_optimizers(name: str) -> None:
    hold_history(loaded(recipe(SMALL + LAST, optimizer=name)), weights=2e-5)


@pytest.mark.parametrize("name", names_of(Metric))
def test_metrics(name: str) -> None:
    """Values of every epoch, over streamed batches."""
    sparse = "Sparse" in name
    options = {
        "F1Score": "{average: macro}", "FBetaScore": "{average: weighted, beta: 2.0}",
        "MeanIoU": "{num_classes: 10}", "BinaryIoU": "{}", "IoU": "{num_classes: 10, target_class_ids: [0]}",
        "OneHotIoU": "{num_classes: 10, target_class_ids: [1, 2]}", "OneHotMeanIoU": "{num_classes: 10}",
        "PrecisionAtRecall": "{recall: 0.5}", "RecallAtPrecision": "{precision: 0.5}",
        "SensitivityAtSpecificity": "{specificity: 0.5}", "SpecificityAtSensitivity": "{sensitivity: 0.5}",
    }.get(name, "{}")  # fmt: skip
    metric = f"{{{name}: {options}}}"
    if sparse:
        hold_history(loaded(recipe(SMALL + LAST, metrics=metric)))
    else:
        hold_history(loaded(recipe(SMALL + LAST, "categorical_crossentropy", metric, target=ONE_HOT)))
