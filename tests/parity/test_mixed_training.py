"""Trainings in other number types than float32 beside real Keras: mixed precision, loss scaling, double precision."""

from __future__ import annotations

import keras
import pytest
import torch

from tests.parity.fitting import arrays, hold_history, model_weights, ours, twin
from tests.parity.harness import close
from tests.parity.test_training import LAST, PICTURE, SERIES, recipe
from tests.parity.test_training import STACKS as EVERY
from tests.train.recipes import loaded
from trainer.optimizers.updater import Updater

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RAW = "{Dense: {units: 10}}"
LOGITS = "{SparseCategoricalCrossentropy: {from_logits: true}}"
# No corners: a rounding that moves a value over one changes a gradient by a whole sample.
HIDDEN = "{Dense: {units: 24, activation: gelu, kernel_regularizer: {L2: {l2: 1e-3}}}}"
STACKS = {
    "dense": f"{HIDDEN}, {{Dense: {{units: 12, activation: tanh, activity_regularizer: {{L2: {{l2: 1e-3}}}}}}}}",
    "conv": f"{PICTURE}{{Conv2D: {{filters: 6, kernel_size: 3, activation: tanh}}}}, BatchNormalization, "
    "{AveragePooling2D: {pool_size: 2}}, Flatten",
    "recurrent": f"{SERIES}{{LSTM: {{units: 8, return_sequences: true}}}}, {{GRU: {{units: 8}}}}, LayerNormalization",
    "both-ways": f"{SERIES}{{Bidirectional: {{layer: {{SimpleRNN: {{units: 6}}}}}}}}",
    "one-layer-in-full": f"{HIDDEN}, {{Dense: {{units: 12, activation: tanh, dtype: float32}}}}",
    "frozen": f"{HIDDEN}, {{BatchNormalization: {{trainable: false}}}}, {{Dense: {{units: 9, trainable: false}}}}",
}
ROOM = {"mixed_bfloat16": 0.05, "mixed_float16": 0.01}


@pytest.mark.parametrize("dtype", ROOM)
@pytest.mark.parametrize("case", STACKS)
def test_fit_equals_keras(case: str, dtype: str) -> None:
    text = recipe(f"{STACKS[case]}, {RAW}", LOGITS, LOGITS)
    made = loaded(text, f"model.dtype={dtype}", "fit.epochs=5", "fit.validation_split=0.2")
    hold_history(made, ROOM[dtype], ROOM[dtype])


@pytest.mark.parametrize("dtype", ROOM)
@pytest.mark.parametrize("name", EVERY)
def test_every_layer_trains_in_half_precision(name: str, dtype: str) -> None:
    text = recipe(f"{EVERY[name]}, {LAST}", scale="1" if name == "Embedding" else "1/16")
    losses = []
    for given in ("float32", dtype):
        built, training = ours(loaded(text, f"model.dtype={given}", "fit.epochs=2"))
        assert built.graph.dtype == given
        losses.append(training.run()["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.parametrize("dtype", ROOM)
def test_probabilities_of_half_precision_are_judged_in_float32(dtype: str) -> None:
    made = loaded(recipe(f"{HIDDEN}, {LAST}"), f"model.dtype={dtype}", "fit.epochs=5", "compile.metrics=[]")
    hold_history(made, ROOM[dtype], ROOM[dtype])


@pytest.mark.parametrize("scale", [2.0**27, 1024.0])
def test_the_scale_follows_keras(scale: float) -> None:
    """50 steps: overflow halves the scale and leaves the step out, steps in a row without double it."""
    text = recipe(f"{HIDDEN}, {RAW}", LOGITS, "accuracy")
    asked = f"compile.optimizer={{LossScaleOptimizer: {{initial_scale: {scale}, dynamic_growth_steps: 4, "
    asked += "inner_optimizer: {SGD: {learning_rate: 0.05, momentum: 0.5}}}}"
    built, training = ours(loaded(text, "model.dtype=mixed_float16", "fit.epochs=1", asked))
    model = twin(built)
    x, y = arrays(training.train, weighed=False)
    assert isinstance(training.updater, Updater)
    scales: list[tuple[float, float]] = []
    for epoch in range(5):
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        training.epoch, training.batch, training.stop_reason = 0, 0, ""
        training.run()
        assert training.updater.dynamic is not None
        scales.append((training.updater.dynamic.scale, float(model.optimizer.dynamic_scale.value)))
        assert training.updater.dynamic.steps == int(model.optimizer.step_counter.value), epoch
        assert training.updater.iterations == int(model.optimizer.iterations.value), epoch
    assert all(a == b for a, b in scales), scales
    assert scales[0][0] < scale if scale > 1e6 else scales[0][0] > scale
    for (_, path, tensor, _), value in zip(built.network.rows(), model_weights(model), strict=True):
        close(tensor, value, path, 0.01)


def test_mixed_float16_scales_by_itself_as_keras_does() -> None:
    built, training = ours(loaded(recipe(f"{HIDDEN}, {LAST}"), "model.dtype=mixed_float16"))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        theirs = keras.Sequential([keras.layers.Dense(2)])
        theirs.compile("sgd", "mse")
    finally:
        keras.config.set_dtype_policy("float32")
    assert type(built.optimizer).__name__ == type(theirs.optimizer).__name__ == "LossScaleOptimizer"
    assert training.updater.scale == theirs.optimizer.initial_scale
    plain, _ = ours(loaded(recipe(f"{HIDDEN}, {LAST}"), "model.dtype=mixed_bfloat16"))
    assert type(plain.optimizer).__name__ == "SGD"


def test_double_trains_in_double() -> None:
    text = recipe(f"{HIDDEN}, {PICTURE[:-2].replace('8, 8, 1', '4, 6')}, {{LSTM: {{units: 5}}}}, {LAST}")
    histories = []
    for dtype in ("float32", "float64"):
        built, training = ours(loaded(text, f"model.dtype={dtype}", "fit.epochs=3"))
        assert {t.dtype for _, _, t, _ in built.network.rows()} == {getattr(torch, dtype)}
        assert training.updater.weight.dtype == getattr(torch, dtype)
        histories.append(training.run()["loss"])
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)
    assert histories[0] != histories[1]
