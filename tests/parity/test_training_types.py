"""Trainings of models whose layers keep weights in different number types, beside real Keras."""

from __future__ import annotations

import keras
import pytest
import torch

from tests.parity.fitting import hold_history, ours
from tests.parity.test_training import LAST, PICTURE, SERIES, recipe
from tests.train.recipes import loaded
from trainer.optimizers.updaters import Updaters

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STACKS = {
    "dense": "{Dense: {units: 24, activation: gelu, dtype: float64, kernel_regularizer: {L2: {l2: 1e-3}}}}, "
    "{Dense: {units: 12, activation: tanh}}, {BatchNormalization: {dtype: float64}}",
    "recurrent": f"{SERIES}{{GRU: {{units: 8, return_sequences: true}}}}, {{LSTM: {{units: 6, dtype: float64}}}}",
}
OPTIMIZERS = {
    "momentum": "{SGD: {learning_rate: 0.05, momentum: 0.9}}",
    "adam": "{Adam: {learning_rate: 0.01, global_clipnorm: 0.5}}",
    "adamw": "{AdamW: {learning_rate: 0.01, weight_decay: 0.05, use_ema: true, ema_momentum: 0.9}}",
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stack", STACKS)
def test_fit_equals_keras(stack: str, optimizer: str) -> None:
    """50 steps."""
    made = loaded(recipe(f"{STACKS[stack]}, {LAST}", optimizer=OPTIMIZERS[optimizer]), "fit.epochs=5")
    built, _ = ours(made)
    assert {t.dtype for _, _, t, _ in built.network.rows()} == {torch.float32, torch.float64}
    hold_history(made)


HALF = {
    "dense": "{Dense: {units: 24, activation: gelu}}, {LayerNormalization: {}}, {Dense: {units: 12, activation: tanh}}",
    "conv": f"{PICTURE}{{Conv2D: {{filters: 6, kernel_size: 3, activation: tanh}}}}, BatchNormalization, "
    "{AveragePooling2D: {pool_size: 2}}, Flatten",
    "recurrent": f"{SERIES}{{LSTM: {{units: 8, return_sequences: true}}}}, {{GRU: {{units: 8}}}}",
    "einsum": f"{SERIES}{{EinsumDense: {{equation: 'abc,cd->abd', output_shape: [16, 3], bias_axes: d}}}}, Flatten",
    "one-in-full": "{Dense: {units: 24, activation: gelu}}, {Dense: {units: 9, activation: tanh, dtype: float32}}",
}
ROOM = {"float16": 0.01, "bfloat16": 0.05}
RAW = "{Dense: {units: 10}}"
LOGITS = "{SparseCategoricalCrossentropy: {from_logits: true}}"


@pytest.fixture
def no_orthogonal_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras makes first weights in the type of the weights, and torch has no QR in half precision on a processor."""
    start = keras.initializers.OrthogonalInitializer
    monkeypatch.setattr(start, "__call__", lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype))


@pytest.mark.usefixtures("no_orthogonal_start")
@pytest.mark.parametrize("dtype", ROOM)
@pytest.mark.parametrize("stack", HALF)
def test_ten_steps_in_half_precision(stack: str, dtype: str) -> None:
    made = loaded(recipe(f"{HALF[stack]}, {RAW}", LOGITS, LOGITS), f"model.dtype={dtype}", "fit.epochs=1")
    built, training = ours(made)
    kept = {t.dtype for _, _, t, _ in built.network.rows()}
    assert kept == {getattr(torch, dtype), *([torch.float32] if stack == "one-in-full" else [])}
    assert type(built.optimizer).__name__ == "SGD"
    assert training.steps == 10
    hold_history(made, ROOM[dtype], ROOM[dtype])


def test_several_optimizers_in_mixed_precision() -> None:
    """Keras puts one LossScaleOptimizer around them all; the paths of its Sequential begin with the model's name."""
    inner = (
        "default_optimizer: {SGD: {learning_rate: 0.05}}, optimizer_map: {'(.*/)?dense_1/.*': {SGD: {momentum: 0.9}}}"
    )
    optimizer = f"{{MultiOptimizer: {{optimizer_map: {{{inner}}}}}}}"
    made = loaded(
        recipe(f"{HALF['dense']}, {RAW}", LOGITS, LOGITS, optimizer), "model.dtype=mixed_float16", "fit.epochs=5"
    )
    _, training = ours(made)
    assert isinstance(training.updater, Updaters)
    assert training.updater.scale == 32768
    assert [len(places) for places in training.updater.places.values()] == [2, 6]
    hold_history(made, 0.01, 0.01)
