"""Thirty steps with frozen parts everywhere: what moves by a bit is what moves in real Keras, under every optimizer."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.fitting import ours
from tests.parity.harness import close
from tests.parity.optimizers import twin
from tests.parity.test_training import LAST, recipe
from tests.parity.test_transfer import network, twin_of
from tests.train.recipes import loaded
from trainer.callbacks.base import Callback

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

REGULARIZED = (
    "kernel_regularizer: {L2: {l2: 0.1}}, bias_regularizer: {L1: {l1: 0.1}}, kernel_constraint: NonNeg, "
    "activity_regularizer: {L2: {l2: 0.01}}"
)
STATISTICS = "moving_mean_initializer: {Constant: {value: 0.3}}, moving_variance_initializer: {Constant: {value: 1.7}}"
STILL = f"BatchNormalization: {{trainable: false, momentum: 0.5, {STATISTICS}}}"
MOVING = f"BatchNormalization: {{momentum: 0.5, {STATISTICS}}}"
PARTS = [
    f"Dense: {{name: still_dense, units: 4, trainable: false, {REGULARIZED}}}",
    f"Dense: {{name: first, units: 4, {REGULARIZED}}}",
    STILL,
    f"TimeDistributed: {{layer: {{{STILL}}}}}",
    f"TimeDistributed: {{name: still_steps, trainable: false, layer: {{{MOVING}}}}}",
    f"TimeDistributed: {{layer: {{{MOVING}}}}}",
    "LayerNormalization: {trainable: false, gamma_regularizer: {L2: {l2: 0.1}}}",
    "GroupNormalization: {groups: 2, trainable: false}",
    "RMSNormalization: {trainable: false}",
    "PReLU: {trainable: false, alpha_initializer: {Constant: {value: 0.2}}}",
    "Conv1D: {filters: 4, kernel_size: 2, trainable: false, kernel_constraint: {MaxNorm: {max_value: 0.1}}}",
    "SpectralNormalization: {layer: {Dense: {units: 4}}, trainable: false}",
    f"Pipeline: {{name: mixed, layers: [{{Dense: {{units: 4, trainable: false}}}}, {{{MOVING}}}, {{{STILL}}}]}}",
    f"Pipeline: {{name: still_pipeline, trainable: false, layers: [{{Dense: {{units: 4}}}}, {{{MOVING}}}]}}",
    "Bidirectional: {layer: {GRU: {units: 2, trainable: false, return_sequences: true}}}",
    "Bidirectional: {layer: {GRU: {name: half, units: 2, trainable: false, return_sequences: true}}, backward_layer: "
    "{GRU: {units: 2, return_sequences: true, go_backwards: true}}}",
    "Bidirectional: {name: still_both, trainable: false, layer: {LSTM: {units: 2, return_sequences: true}}}",
    "RNN: {cell: [{GRUCell: {units: 3, trainable: false}}, {LSTMCell: {units: 3}}], return_sequences: true}",
    "LSTM: {units: 3, trainable: false}",
    MOVING,
]
STACK = "{Reshape: {target_shape: [4, 16]}}, " + ", ".join(f"{{{part}}}" for part in PARTS)
EMA = "use_ema: true, ema_momentum: 0.9"
OPTIMIZERS = {
    "decay": "{SGD: {learning_rate: 0.05, momentum: 0.5, nesterov: true, weight_decay: 0.1}}",
    "adamw": "{AdamW: {learning_rate: 0.01, weight_decay: 0.3, global_clipnorm: 1.0}}",
    "average": f"{{Adam: {{learning_rate: 0.01, weight_decay: 0.1, {EMA}}}}}",
    "average-written": f"{{RMSprop: {{learning_rate: 0.01, {EMA}, ema_overwrite_frequency: 7}}}}",
    "accumulated": "{Adam: {learning_rate: 0.01, gradient_accumulation_steps: 3}}",
    "scaled": f"{{LossScaleOptimizer: {{inner_optimizer: {{Adam: {{learning_rate: 0.01, {EMA}}}}}, "
    "initial_scale: 64.0}}",
    "several": "{MultiOptimizer: {optimizer_map: {default_optimizer: {Adam: {weight_decay: 0.1}}, optimizer_map: "
    "{'.*first.*': {SGD: {learning_rate: 0.05, weight_decay: 0.1}}}}}}",
}


def moved(before: list[np.ndarray], after: list[np.ndarray]) -> list[bool]:
    return [a.tobytes() != b.tobytes() for a, b in zip(before, after, strict=True)]


def variables(model: Any) -> list[Any]:
    """Weights in the order of our rows."""
    return [v for layer in model.layers for v in (*layer.trainable_weights, *layer.non_trainable_weights)]


def arrays(model: Any) -> list[np.ndarray]:
    return [v.value.numpy(force=True).copy() for v in variables(model)]


def in_keras(built: Any, optimizer: Any, callbacks: list[Any]) -> list[bool]:
    """Which weights of the twin move in as many steps."""
    model = twin_of(built.network, (64,))
    model.compile(twin(optimizer), "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    x, y = random.random((160, 64), "float32"), random.integers(0, 10, 160)
    before = arrays(model)
    model.fit(
        x, y, batch_size=16, epochs=3, shuffle=False, verbose=0, validation_data=(x[:16], y[:16]), callbacks=callbacks
    )
    assert int(model.optimizer.iterations) in (30, 10)
    return moved(before, arrays(model))


CASES = [
    *((name, None) for name in OPTIMIZERS),
    *((name, swap_on_epoch) for name in ("average", "scaled") for swap_on_epoch in (False, True)),
]


@pytest.mark.parametrize(("name", "swaps"), CASES)
def test_what_moves_is_what_moves_in_keras(name: str, swaps: bool | None) -> None:
    made = loaded(
        recipe(f"{STACK}, {LAST}", optimizer=OPTIMIZERS[name], metrics=""),
        "fit.validation_split=0.1",
        "fit.epochs=3",
        "dataset.limit=178",
    )
    built, training = ours(made)
    theirs = []
    if swaps is not None:
        training = dataclasses.replace(
            training, callbacks=[Callback.parse({"SwapEMAWeights": {"swap_on_epoch": swaps}})]
        )
        theirs = [keras.callbacks.SwapEMAWeights(swaps)]
    there = in_keras(built, made.recipe.compile.optimizer, theirs)
    before = [t.numpy(force=True).copy() for _, _, t, _ in built.network.rows()]
    training.run()
    assert len(training.train) == 160
    here = moved(before, [t.numpy(force=True) for _, _, t, _ in built.network.rows()])
    paths = [path for _, path, _, _ in built.network.rows()]
    assert [p for p, m in zip(paths, here, strict=True) if m] == [p for p, m in zip(paths, there, strict=True) if m]
    still = {p for p, m in zip(paths, here, strict=True) if not m}
    frozen = {path for _, path, _, trains in built.network.rows() if not trains}
    statistics = {path for path in frozen if "moving_" in path}
    # Keras divides a frozen kernel by its largest singular value too.
    divided = {path for path in frozen if "spectral" in path and not path.endswith("bias")}
    assert still == frozen - divided - {p for p in statistics if p not in still}
    assert {p.split("/")[0] for p in statistics - still} == {"time_distributed_1", "mixed", "batch_normalization_1"}
    assert len(still) > 40


STEPS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "alone": ({"BatchNormalization": {"trainable": False}}, (6, 4)),
    "of-steps": ({"TimeDistributed": {"layer": {"BatchNormalization": {"trainable": False}}}}, (6, 3, 4)),
    "steps": ({"TimeDistributed": {"layer": "BatchNormalization", "trainable": False}}, (6, 3, 4)),
    "in-a-pipeline": (
        {"Pipeline": {"layers": [{"Dense": {"units": 3}}, {"BatchNormalization": {"trainable": False}}]}},
        (6, 4),
    ),
    "pipeline": ({"Pipeline": {"layers": ["BatchNormalization", {"Dense": {"units": 3}}], "trainable": False}}, (6, 4)),
    "nothing-frozen": ({"Pipeline": {"layers": ["BatchNormalization"]}}, (6, 4)),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_frozen_normalization_infers_in_training(name: str) -> None:
    """Output and statistics of one training call, in whatever the layer stands."""
    (kind, options), (batch, *shape) = next(iter(STEPS[name][0].items())), STEPS[name][1]
    here = network([(kind, options)], tuple(shape), 3)
    with torch.no_grad():
        for spec, _, tensor, _ in here.rows():
            if "variance" in spec.name:
                tensor.abs_()
    model = twin_of(here, tuple(shape))
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(batch, *shape)).astype("float32"))
    here.train()
    before = here.get_weights()
    close(here(x), model(x, training=True), "output")
    for (_, path, tensor, _), value in zip(here.rows(), arrays(model), strict=True):
        close(tensor, value, path)
    assert any(moved(before, here.get_weights())) == (name == "nothing-frozen")
