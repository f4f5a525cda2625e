"""`trainable: false` through a whole `fit`, against real Keras: still weights, still statistics, still penalties."""

from __future__ import annotations

import pytest
import torch

from tests.parity.fitting import hold_history, ours
from tests.parity.test_training import LAST, PICTURE, SERIES, recipe
from tests.train.recipes import loaded
from trainer.errors import RecipeError

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STATISTICS = "moving_mean_initializer: {Constant: {value: 0.3}}, moving_variance_initializer: {Constant: {value: 1.7}}"
HIDDEN = "{Dense: {units: 12, activation: relu}}"
IDS = "{Embedding: {input_dim: 17, output_dim: 4, mask_zero: true, trainable: false}}"
STACKS = {
    "dense": f"{HIDDEN}, {{Dense: {{units: 8, activation: tanh, trainable: false, kernel_regularizer: "
    "{L2: {l2: 0.1}}, bias_constraint: NonNeg, activity_regularizer: {L2: {l2: 0.01}}}}",
    "first-layers": "{Dense: {units: 12, activation: relu, trainable: false}}, "
    "{Dense: {units: 8, activation: relu, trainable: false}}, {Dense: {units: 6}}",
    "batch-normalization": f"{HIDDEN}, {{BatchNormalization: {{trainable: false, {STATISTICS}}}}}",
    "batch-normalization-beside-a-moving-one": f"BatchNormalization, {HIDDEN}, "
    f"{{BatchNormalization: {{trainable: false, momentum: 0.5, {STATISTICS}}}}}, BatchNormalization",
    "batch-normalization-of-pictures": f"{PICTURE}{{Conv2D: {{filters: 4, kernel_size: 3, trainable: false}}}}, "
    f"{{BatchNormalization: {{trainable: false, {STATISTICS}}}}}, Flatten",
    "layer-normalization": f"{HIDDEN}, {{LayerNormalization: {{trainable: false}}}}",
    "lstm": f"{SERIES}{{LSTM: {{units: 6, trainable: false, return_sequences: true}}}}, {{LSTM: {{units: 5}}}}",
    "bidirectional": f"{SERIES}{{Bidirectional: {{layer: {{GRU: {{units: 4}}}}, trainable: false}}}}",
    "part-of-time-distributed": f"{SERIES}{{TimeDistributed: {{layer: {{BatchNormalization: {{trainable: false, "
    f"{STATISTICS}}}}}}}}}, Flatten",
    "time-distributed": f"{SERIES}{{TimeDistributed: {{trainable: false, layer: {{BatchNormalization: "
    f"{{{STATISTICS}}}}}}}}}, Flatten, {{Dense: {{units: 6}}}}",
    "spectral": "{SpectralNormalization: {layer: {Dense: {units: 8}}, trainable: false}}, {Dense: {units: 6}}",
    "pipeline": "{Pipeline: {trainable: false, layers: [{Dense: {units: 9}}, {BatchNormalization: {"
    + STATISTICS
    + "}}]}}, {Dense: {units: 6}}",
    "embedding": f"{IDS}, {{LSTM: {{units: 6}}}}",
    "dropout": f"{HIDDEN}, {{Dropout: {{rate: 0.0, trainable: false}}}}, {{PReLU: {{trainable: false}}}}",
}


@pytest.mark.parametrize("case", STACKS)
def test_fit_with_frozen_layers_equals_keras(case: str) -> None:
    scale = "1" if case == "embedding" else "1/16"
    made = loaded(recipe(f"{STACKS[case]}, {LAST}", scale=scale), "fit.validation_split=0.2")
    hold_history(made)


@pytest.mark.parametrize("case", STACKS)
def test_frozen_weights_and_statistics_stay_to_the_bit(case: str) -> None:
    scale = "1" if case == "embedding" else "1/16"
    built, training = ours(loaded(recipe(f"{STACKS[case]}, {LAST}", scale=scale), "fit.epochs=1"))
    frozen = {n for n, layer in built.graph.layers.items() if not layer.trainable}
    before = {path: t.clone() for n in frozen for _, path, t, _ in built.network.cell(n).rows()}
    every = {path: t.clone() for _, path, t, _ in built.network.rows()}
    training.run()
    if case == "spectral":
        # The division by the largest singular value is no training; Keras does it to frozen kernels too.
        before = {path: t for path, t in before.items() if path.endswith("bias")}
    moved = {path for path, t in training.named_weights().items() if not torch.equal(torch.as_tensor(t), every[path])}
    assert moved
    assert not moved & set(before)


def test_nothing_to_train_is_refused() -> None:
    text = recipe(LAST.replace("units: 10", "units: 10, trainable: false"))
    with pytest.raises(RecipeError, match="no layer has weights to train"):
        ours(loaded(text))
