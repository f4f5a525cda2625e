"""A hundred training steps of every layer, loss, metric and optimizer beside real Keras, from equal weights."""

from __future__ import annotations

import json

import pytest

from tests.parity.fitting import hold_history
from tests.parity.optimizers import WRAPPERS
from tests.parity.pictures import DRAWN as PICTURES_DRAWN
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
VOLUME = "{Reshape: {target_shape: [4, 4, 4, 1]}}, "
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
    "Conv3D": VOLUME + "{Conv3D: {filters: 4, kernel_size: 2, padding: same, activation: relu}}, Flatten",
    "Conv1DTranspose": SERIES
    + "{Conv1DTranspose: {filters: 3, kernel_size: 3, strides: 2, padding: same, activation: tanh}}, Flatten",
    "Conv2DTranspose": PICTURE
    + "{Conv2DTranspose: {filters: 2, kernel_size: 3, strides: 2, output_padding: 1, activation: relu}}, Flatten",
    "Conv3DTranspose": VOLUME
    + "{Conv3DTranspose: {filters: 2, kernel_size: 2, dilation_rate: 2, activation: tanh}}, Flatten",
    "DepthwiseConv1D": SERIES + "{DepthwiseConv1D: {kernel_size: 3, depth_multiplier: 2, activation: relu, "
    "depthwise_regularizer: {L2: {l2: 1e-3}}}}, Flatten",
    "DepthwiseConv2D": PICTURE
    + "{Conv2D: {filters: 4, kernel_size: 2}}, {DepthwiseConv2D: {kernel_size: 3, strides: 2, padding: same}}, Flatten",
    "SeparableConv1D": SERIES + "{SeparableConv1D: {filters: 6, kernel_size: 3, dilation_rate: 2}}, Flatten",
    "SeparableConv2D": PICTURE
    + "{SeparableConv2D: {filters: 6, kernel_size: 3, depth_multiplier: 4, activation: relu, "
    "pointwise_constraint: MaxNorm}}, Flatten",
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
    "MaxPooling3D": VOLUME
    + "{Conv3D: {filters: 4, kernel_size: 2}}, {MaxPooling3D: {pool_size: 2, padding: same}}, Flatten",
    "AveragePooling3D": VOLUME
    + "{Conv3D: {filters: 4, kernel_size: 2}}, {AveragePooling3D: {pool_size: 2, strides: 1}}, Flatten",
    "GlobalMaxPooling3D": VOLUME + "{Conv3D: {filters: 8, kernel_size: 2}}, GlobalMaxPooling3D",
    "GlobalAveragePooling3D": VOLUME + "{Conv3D: {filters: 8, kernel_size: 2}}, GlobalAveragePooling3D",
    **{
        f"Adaptive{kind}Pooling{rank}D": f"{shaped}{{Conv{rank}D: {{filters: 4, kernel_size: 2}}}}, "
        f"{{Adaptive{kind}Pooling{rank}D: {{output_size: 2}}}}, Flatten"
        for kind in ("Average", "Max")
        for rank, shaped in ((1, SERIES), (2, PICTURE), (3, VOLUME))
    },
    "UpSampling1D": SERIES + "{Conv1D: {filters: 4, kernel_size: 3}}, {UpSampling1D: {size: 3}}, Flatten",
    "UpSampling2D": PICTURE
    + "{Conv2D: {filters: 2, kernel_size: 3}}, {UpSampling2D: {size: [2, 3], interpolation: bilinear}}, Flatten",
    "UpSampling3D": VOLUME + "{Conv3D: {filters: 2, kernel_size: 2}}, UpSampling3D, Flatten",
    "ZeroPadding1D": SERIES + "{ZeroPadding1D: {padding: [2, 0]}}, {Conv1D: {filters: 4, kernel_size: 3}}, Flatten",
    "ZeroPadding2D": PICTURE
    + "{ZeroPadding2D: {padding: [1, [0, 2]]}}, {Conv2D: {filters: 3, kernel_size: 3}}, Flatten",
    "ZeroPadding3D": VOLUME + "ZeroPadding3D, {Conv3D: {filters: 2, kernel_size: 2}}, Flatten",
    "Cropping1D": SERIES + "{Conv1D: {filters: 4, kernel_size: 3}}, {Cropping1D: {cropping: [2, 1]}}, Flatten",
    "Cropping2D": PICTURE + "{Conv2D: {filters: 3, kernel_size: 3}}, {Cropping2D: {cropping: [1, [0, 2]]}}, Flatten",
    "Cropping3D": VOLUME + "{Conv3D: {filters: 4, kernel_size: 2}}, {Cropping3D: {cropping: [1, 0, 1]}}, Flatten",
    "BatchNormalization": "{Dense: {units: 12, use_bias: false}}, {BatchNormalization: {momentum: 0.8}}, "
    "{Activation: {activation: relu}}",
    "LayerNormalization": "{Dense: {units: 12}}, LayerNormalization",
    "GroupNormalization": PICTURE
    + "{Conv2D: {filters: 6, kernel_size: 3}}, {GroupNormalization: {groups: 3}}, Flatten",
    "RMSNormalization": "{Dense: {units: 12, activation: tanh}}, RMSNormalization",
    "UnitNormalization": "{Dense: {units: 12}}, UnitNormalization",
    "SpectralNormalization": "{SpectralNormalization: {layer: {Dense: {units: 12, activation: tanh, "
    "activity_regularizer: {L2: {l2: 1e-3}}}}, power_iterations: 2}}",
    "ActivityRegularization": "{Dense: {units: 12, activation: tanh}}, {ActivityRegularization: {l1: 1e-3, l2: 1e-2}}",
    **{
        name: f"{{Dense: {{units: 12, activation: selu}}}}, {{{name}: {{rate: 0.0}}}}"
        for name in ("AlphaDropout", "GaussianDropout")
    },
    "GaussianNoise": "{Dense: {units: 12, activation: tanh}}, {GaussianNoise: {stddev: 0.0}}",
    **{
        f"SpatialDropout{rank}D": f"{shaped}{{SpatialDropout{rank}D: {{rate: 0.0}}}}, Flatten, {{Dense: {{units: 12}}}}"
        for rank, shaped in ((1, SERIES), (2, PICTURE), (3, VOLUME))
    },
    "ReLU": "{Dense: {units: 12}}, {ReLU: {max_value: 2, negative_slope: 0.1, threshold: 0.2}}",
    "LeakyReLU": "{Dense: {units: 12}}, LeakyReLU",
    "PReLU": "{Dense: {units: 12}}, {PReLU: {alpha_initializer: {Constant: {value: 0.2}}, "
    "alpha_regularizer: {L2: {l2: 1e-3}}, alpha_constraint: NonNeg}}",
    "ELU": "{Dense: {units: 12}}, {ELU: {alpha: 0.5}}",
    "Softmax": "{Dense: {units: 12}}, Softmax",
    "EinsumDense": SERIES + "{EinsumDense: {equation: 'abc,cd->abd', output_shape: [16, 3], bias_axes: bd, "
    "activation: tanh}}, Flatten",
    "STFTSpectrogram": "{Reshape: {target_shape: [64, 1]}}, "
    "{STFTSpectrogram: {mode: magnitude, frame_length: 16, window: hamming}}, Flatten",
    "MelSpectrogram": "{Dense: {units: 80, activation: tanh}}, "
    "{MelSpectrogram: {fft_length: 16, sequence_stride: 8, num_mel_bins: 3, power_to_db: false}}, "
    "{Rescaling: {scale: 0.02}}, Flatten",
    "Pipeline": "{Pipeline: {layers: [{Dense: {units: 12, activity_regularizer: {L2: {l2: 1e-3}}}}, "
    "BatchNormalization, {Activation: {activation: tanh}}, "
    "{Dense: {units: 6, kernel_regularizer: {L2: {l2: 1e-2}}}}]}}",
    "Embedding": "{Embedding: {input_dim: 17, output_dim: 3, embeddings_regularizer: {L2: {l2: 1e-3}}}}, Flatten",
    "ReversibleEmbedding": "{ReversibleEmbedding: {input_dim: 17, output_dim: 3, mask_zero: true, "
    "embeddings_constraint: UnitNorm}}, {SimpleRNN: {units: 4}}",
    "Masking": SERIES + "{Masking: {mask_value: 0.0}}, {SimpleRNN: {units: 6}}",
    "SimpleRNN": SERIES + "{SimpleRNN: {units: 6}}",
    "LSTM": SERIES + "{LSTM: {units: 6, return_sequences: true}}, {LSTM: {units: 5}}",
    "GRU": SERIES + "{GRU: {units: 6}}",
    "RNN": SERIES + "{RNN: {cell: [{GRUCell: {units: 6}}, {LSTMCell: {units: 5}}]}}",
    "Bidirectional": SERIES + "{Bidirectional: {layer: {GRU: {units: 4, return_sequences: true}}, merge_mode: ave}}, "
    "{Bidirectional: {layer: {LSTM: {units: 4, activity_regularizer: {L2: {l2: 1e-3}}}}}}",
    "TimeDistributed": SERIES + "{TimeDistributed: {layer: {Dense: {units: 3, activation: tanh}}}}, Flatten",
    "ConvLSTM1D": "{Reshape: {target_shape: [4, 4, 4]}}, {ConvLSTM1D: {filters: 3, kernel_size: 2}}, Flatten",
    "ConvLSTM2D": VOLUME + "{ConvLSTM2D: {filters: 3, kernel_size: 2, padding: same}}, Flatten",
    "ConvLSTM3D": "{Reshape: {target_shape: [4, 4, 2, 2, 1]}}, {ConvLSTM3D: {filters: 3, kernel_size: [2, 1, 2]}}, "
    "Flatten",
    "Resizing": PICTURE + "{Resizing: {height: 5, width: 6, interpolation: bicubic, antialias: true}}, Flatten",
    "CenterCrop": PICTURE + "{CenterCrop: {height: 5, width: 6}}, Flatten",
    "AutoContrast": PICTURE + "{AutoContrast: {value_range: [0, 1]}}, Flatten",
    "ContrastLimitedAdaptiveHistogramEqualization": PICTURE
    + "{ContrastLimitedAdaptiveHistogramEqualization: {value_range: [0, 1], tile_grid_size: 2, clip_limit: 60}}, "
    "Flatten",
    "Rescaling": "{Rescaling: {scale: 2, offset: -1}}, {Dense: {units: 12, activation: relu}}",
}
PREPROCESSING = {
    "Equalization": "can't stand in Keras's models: tests/parity/test_image_layers.py",
    **dict.fromkeys(PICTURES_DRAWN, "is random: tests/parity/test_image_random.py, test_image_draws.py"),
    **dict.fromkeys(("MixUp", "CutMix"), "is random: tests/parity/test_image_mix.py, tests/train/test_mixing.py"),
    **dict.fromkeys(("RandAugment", "AugMix"), "is random: tests/parity/test_image_augment.py"),
    "Normalization": "is adapted to data: tests/parity/test_preprocessing.py and the recipe of boston",
    "CategoryEncoding": "stands before the model: the one-hot cases here, imdb and reuters",
    "PadSequences": "is ours",
    "Discretization": "has no gradient: tests/parity/test_vocabularies.py, the zoo of tests/runs/test_keras_opens.py",
    **dict.fromkeys(
        ("Hashing", "HashedCrossing", "StringLookup", "IntegerLookup", "TextVectorization"),
        "needs TensorFlow in Keras and stands before the model: tests/parity/test_vocabularies.py",
    ),
}
GRAPHS = {
    **dict.fromkeys(("Sequential", "Model"), "are models in a model: tests/parity/test_graphs.py"),
    "InputLayer": "computes nothing: tests/parity/test_graphs.py",
}
SEVERAL_INPUTS = {
    **dict.fromkeys(
        ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot"),
        "needs a graph of several inputs: tests/parity/test_merging.py",
    ),
    **dict.fromkeys(
        ("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"),
        "needs a graph of several inputs: tests/parity/test_attention.py",
    ),
    **dict.fromkeys(
        ("SimpleRNNCell", "LSTMCell", "GRUCell", "StackedRNNCells"),
        "stands in RNN here: tests/parity/test_recurrent_cells.py",
    ),
}


def test_no_layer_is_left_out() -> None:
    assert set(STACKS) | set(PREPROCESSING) | set(GRAPHS) | set(SEVERAL_INPUTS) == set(names_of(Layer))


@pytest.mark.parametrize("name", STACKS)
def test_layers(name: str) -> None:
    scale = "1" if name.endswith("Embedding") else "1/16"
    hold_history(loaded(recipe(f"{STACKS[name]}, {LAST}", scale=scale)), weights=1e-5)


SMALL = "{Dense: {units: 12, activation: tanh}}, "
POSITIVE = SMALL + "{Dense: {units: 10, activation: softplus}}"


def last_for(loss: type[Loss]) -> tuple[str, str]:
    """(layers, target) that a loss is made for."""
    if loss.fits == ("softmax",):
        return SMALL + LAST, "" if loss.targets == "integer" else ONE_HOT
    if loss.__name__ == "CTC":  # sixteen steps, one symbol
        return SERIES + "{Dense: {units: 10}}", "preprocess: [{Reshape: {target_shape: [1]}}]"
    if loss.targets == "groups":
        return SMALL + "UnitNormalization", ""
    if "sigmoid" in loss.fits:
        return SMALL + "{Dense: {units: 10, activation: sigmoid}}", ONE_HOT
    return POSITIVE, ONE_HOT


@pytest.mark.parametrize("name", names_of(Loss))
def test_losses(name: str) -> None:
    layers, target = last_for(Loss.catalogue[name])
    metric = "mae" if target == ONE_HOT else ""
    # Circle's own gamma, 80, makes of rounding another training.
    loss = "{Circle: {gamma: 2.0}}" if name == "Circle" else name
    hold_history(loaded(recipe(layers, loss, metric, target=target)), weights=1e-5)


@pytest.mark.parametrize("name", names_of(Optimizer))
def test_optimizers(name: str) -> None:
    given = json.dumps({name: WRAPPERS[name]}) if name in WRAPPERS else name
    hold_history(loaded(recipe(SMALL + LAST, optimizer=given)), weights=2e-5)


@pytest.mark.parametrize("name", [name for name in names_of(Metric) if Metric.catalogue[name].keras])
def test_metrics(name: str) -> None:
    """Values of every epoch, over streamed batches."""
    sparse = "Sparse" in name
    options = {
        "F1Score": "{average: macro}", "FBetaScore": "{average: weighted, beta: 2.0}",
        "MeanIoU": "{num_classes: 10, sparse_y_true: false, sparse_y_pred: false}", "BinaryIoU": "{}",
        "IoU": "{num_classes: 10, target_class_ids: [0, 3], sparse_y_true: false, sparse_y_pred: false}",
        "OneHotIoU": "{num_classes: 10, target_class_ids: [1, 2]}", "OneHotMeanIoU": "{num_classes: 10}",
        "PrecisionAtRecall": "{recall: 0.5}", "RecallAtPrecision": "{precision: 0.5}",
        "SensitivityAtSpecificity": "{specificity: 0.5}", "SpecificityAtSensitivity": "{sensitivity: 0.5}",
    }.get(name, "{}")  # fmt: skip
    metric = f"{{{name}: {options}}}"
    if sparse:
        hold_history(loaded(recipe(SMALL + LAST, metrics=metric)))
    else:
        hold_history(loaded(recipe(SMALL + LAST, "categorical_crossentropy", metric, target=ONE_HOT)))
