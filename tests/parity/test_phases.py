"""Fine-tuning in two phases, as Keras users write it: freeze, compile, fit, unfreeze, compile again, fit again."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import torch

from tests.parity.fitting import arrays, model_weights, ours, twin
from tests.parity.harness import close
from tests.parity.optimizers import twin as optimizer_twin
from tests.train.recipes import loaded
from trainer.recipe.load import Loaded
from trainer.runs.model_file import read_model
from trainer.train.job import Options, fit

# Without biases before normalizations: their gradient is noise around 0, which Adam makes steps of its rate of.
DENSE = """
name: tuned
seed: 5
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}
  targets: {label: {}}
  split: {test: {last: 100}}
  limit: 300
model:
  layers:
    - Dense: {units: 16, name: body, use_bias: false, kernel_regularizer: {L2: {l2: 0.01}}}
    - BatchNormalization: {name: norm, momentum: 0.9}
    - Activation: {activation: relu}
    - Dense: {units: 10, activation: softmax, name: head}
compile:
  optimizer: {SGD: {learning_rate: 0.1, momentum: 0.9}}
  loss: sparse_categorical_crossentropy
  metrics: [accuracy]
fit: {epochs: 3, batch_size: 32, validation_split: 0.25, shuffle: false}
"""
CONV = (
    DENSE.replace("{target_shape: [64]}", "{target_shape: [8, 8, 1]}")
    .replace(
        "    - Dense: {units: 16, name: body, use_bias: false, kernel_regularizer: {L2: {l2: 0.01}}}\n",
        "    - Conv2D: {filters: 4, kernel_size: 3, name: body, use_bias: false}\n",
    )
    .replace("    - Dense: {units: 10", "    - Flatten\n    - Dense: {units: 10")
)
RECURRENT = DENSE.replace("{target_shape: [64]}", "{target_shape: [8, 8]}").replace(
    "    - Dense: {units: 16, name: body, use_bias: false, kernel_regularizer: {L2: {l2: 0.01}}}\n",
    "    - GRU: {units: 8, name: body}\n",
)
TUNED = """
phases:
  - {frozen: [body, norm], fit: {epochs: 3}}
  - compile: {optimizer: {Adam: {learning_rate: 0.001}}, metrics: [sparse_top_k_categorical_accuracy]}
    fit: {epochs: 2, batch_size: 16}
"""
STATISTICS = """
phases:
  - {frozen: norm, compile: {optimizer: {Adam: {learning_rate: 0.01}}}, fit: {epochs: 2, class_weight: {3: 2.0}}}
  - {frozen: [body], compile: {optimizer: {RMSprop: {learning_rate: 0.001}}}, fit: {epochs: 2}}
  - {compile: {optimizer: {AdamW: {learning_rate: 0.0005}}}, fit: {epochs: 2}}
"""


def in_keras(made: Loaded) -> tuple[list[dict[str, list[float]]], list[np.ndarray]]:
    """(the history of each phase, the weights in the end) of the same training in real Keras."""
    built, training = ours(made)
    assert training.validation is not None
    model, histories = twin(built), []
    x, y = arrays(training.train, weighed=False)
    for stage in made.recipe.stages():
        for name in built.graph.layers:
            model.get_layer(name).trainable = name not in (stage.model.frozen or ())
        (goal,) = stage.compile.goals(list(built.graph.outputs)).values()
        metrics = [m if isinstance(m, str) else keras.metrics.deserialize(m.to_keras()) for m in goal.metrics]
        assert goal.loss is not None
        loss = keras.saving.deserialize_keras_object(goal.loss.to_keras())
        model.compile(optimizer_twin(stage.compile.optimizer), loss, metrics=metrics)
        found = model.fit(
            x,
            y,
            epochs=stage.fit.epochs,
            initial_epoch=stage.fit.initial_epoch,
            batch_size=stage.fit.batch_size,
            validation_data=arrays(training.validation, weighed=False),
            validation_batch_size=stage.fit.batch_size,
            class_weight=stage.fit.class_weight,
            shuffle=False,
            verbose=0,
        )
        histories.append(found.history)
    return histories, model_weights(model)


@pytest.mark.parametrize("phases", [TUNED, STATISTICS], ids=["tuned", "statistics"])
@pytest.mark.parametrize("model", [DENSE, CONV, RECURRENT], ids=["dense", "conv", "recurrent"])
def test_fine_tuning_equals_keras(tmp_path: Path, model: str, phases: str) -> None:
    """Every number of every phase's history, and the weights in the end."""
    made = loaded(model + phases)
    histories, weights = in_keras(made)
    done = fit(made, Options(runs=tmp_path, device="cpu"), b"")
    first = 0
    for history in histories:
        rows = slice(first, first + len(history["loss"]))
        first = rows.stop
        reported = {n for n, v in done.history.items() if not np.isnan(v[rows]).any()} - {"learning_rate"}
        assert reported == set(history)
        for name, values in history.items():
            np.testing.assert_allclose(done.history[name][rows], values, rtol=1e-5, atol=1e-7, err_msg=name)
    assert done.epochs == list(range(first))
    kept = read_model(done.directory / "model.h5").weights
    for ours_, theirs in zip((a for arrays_ in kept.values() for a in arrays_), weights, strict=True):
        close(torch.from_numpy(ours_), theirs, "weights in the end", 1e-4)


def test_frozen_statistics_are_no_trifle() -> None:
    """The yardstick measures: with the statistics of the frozen normalization moving, Keras gives other numbers."""
    made = loaded(DENSE + TUNED)
    right, _ = in_keras(made)
    wrong, _ = in_keras(loaded(DENSE + TUNED.replace("[body, norm]", "[body]")))
    assert abs(right[0]["loss"][-1] - wrong[0]["loss"][-1]) > 1e-3
