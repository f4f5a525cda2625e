"""What `compile` was given, as each generation wrote it, in today's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest

from tests.keras_files.importing_by import imported
from tests.keras_files.old_layouts import GENERATIONS, write
from trainer.keras_files.reading import Reading
from trainer.keras_files.training import training_today
from trainer.recipe.document import Document

CHAIN = {"class_name": "Sequential", "config": {"layers": []}}
TWO = {"class_name": "Functional", "config": {"output_layers": [["a", 0, 0], ["b", 0, 0]]}}
MSE = {"module": "keras.losses", "class_name": "MeanSquaredError", "config": {}, "registered_name": None}


def today(training: Any, architecture: Any = CHAIN, *, old: bool = True) -> tuple[Any, tuple[str, ...]]:
    reading = Reading(old)
    made = training_today(training, architecture, reading)
    reading.finish()
    return made, reading.notes()


def metric(kind: str, name: str) -> Any:
    return {"module": "keras.metrics", "class_name": kind, "config": {"name": name}, "registered_name": None}


def test_keras_2() -> None:
    options = {"lr": 0.01, "beta_1": 0.8, "beta_2": 0.9, "decay": 0.0, "epsilon": None, "amsgrad": True}
    optimizer = {"class_name": "Adam", "config": options}
    made, notes = today({"optimizer_config": optimizer, "loss": "mse", "metrics": ["acc", "mean_squared_error"]})
    wanted = {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-7, "amsgrad": True, "learning_rate": 0.01}
    assert made["optimizer_config"] == {"class_name": "Adam", "config": wanted}
    assert made["loss"] == MSE
    assert made["metrics"] == ["acc", metric("MeanSquaredError", "mean_squared_error")]
    assert made["loss_weights"] is None
    assert not notes


def test_decay_is_a_schedule() -> None:
    optimizer = {"class_name": "SGD", "config": {"lr": 0.1, "decay": 0.001, "momentum": 0.9, "nesterov": True}}
    made, _ = today({"optimizer_config": optimizer, "loss": "mse"})
    rate = made["optimizer_config"]["config"]["learning_rate"]
    assert rate["class_name"] == "InverseTimeDecay"
    assert rate["config"] == {
        "initial_learning_rate": 0.1,
        "decay_steps": 1,
        "decay_rate": 0.001,
        "staircase": False,
        "name": "InverseTimeDecay",
    }


def test_tf_keras() -> None:
    wrapped = {"class_name": "MeanMetricWrapper", "config": {"name": "accuracy", "dtype": "float32", "fn": None}}
    wrapped["config"]["fn"] = "sparse_categorical_accuracy"
    loss = {
        "class_name": "SparseCategoricalCrossentropy",
        "config": {"reduction": "auto", "name": "x", "from_logits": True},
    }
    schedule = {
        "class_name": "ExponentialDecay",
        "config": {"initial_learning_rate": 0.1, "decay_steps": 9, "decay_rate": 0.5},
    }
    options = {
        "learning_rate": schedule,
        "momentum": 0.0,
        "is_legacy_optimizer": False,
        "jit_compile": True,
        "name": "SGD",
    }
    optimizer = {"class_name": "Custom>SGD", "config": options}
    made, notes = today({"optimizer_config": optimizer, "loss": loss, "metrics": [[wrapped]]})
    assert made["metrics"] == [metric("SparseCategoricalAccuracy", "accuracy")]
    assert made["loss"]["config"] == {"name": "x", "from_logits": True}
    assert made["optimizer_config"]["class_name"] == "SGD"
    assert made["optimizer_config"]["config"]["learning_rate"]["module"] == "keras.optimizers.schedules"
    assert not notes


@pytest.mark.parametrize("loss", ["mse", ["mse", "mse"], {"a": "mse", "b": "mse"}])
def test_several_outputs(loss: Any) -> None:
    named = {"class_name": "MeanMetricWrapper", "config": {"name": "b_mae", "fn": "mean_absolute_error"}}
    training = {"optimizer_config": {"class_name": "Adam", "config": {}}, "loss": loss, "metrics": {"b": [named]}}
    made, _ = today({**training, "loss_weights": {"a": 2.0}}, TWO)
    assert made["loss"] == [MSE, MSE]
    assert made["loss_weights"] == [2.0, 1.0]
    assert made["metrics"] == [[], [metric("MeanAbsoluteError", "mae")]]


def test_flat_metrics_are_for_every_output_before_keras_3() -> None:
    training = {"optimizer_config": {"class_name": "Adam", "config": {}}, "loss": "mse", "metrics": ["mae"]}
    assert today(training, TWO)[0]["metrics"] == [[metric("MeanAbsoluteError", "mae")]] * 2
    training["metrics"] = ["mae", "mse"]
    one_each = [[metric("MeanAbsoluteError", "mae")], [metric("MeanSquaredError", "mse")]]
    assert today(training, TWO, old=False)[0]["metrics"] == one_each


def test_what_is_not_known_is_left_out_with_a_note() -> None:
    optimizer = {"class_name": "TFOptimizer", "config": {}}
    training = {"optimizer_config": optimizer, "loss": "contrastive_loss", "metrics": ["dice_coef", "mae"]}
    made, notes = today({**training, "sample_weight_mode": "temporal"})
    assert made["loss"] is None
    assert made["optimizer_config"] is None
    assert made["metrics"] == [metric("MeanAbsoluteError", "mae")]
    for word in ("contrastive_loss", "TFOptimizer", "dice_coef", "sample_weight_mode"):
        assert any(word in note for note in notes)


def test_nothing_said() -> None:
    assert today(None)[0] is None
    assert today({})[0] is None


def test_todays_form_stays() -> None:
    optimizer = {"class_name": "Adam", "config": {"learning_rate": 0.01, "name": "adam"}}
    training = {
        "loss": MSE,
        "loss_weights": None,
        "metrics": ["accuracy", metric("MeanAbsoluteError", "m")],
        "weighted_metrics": None,
        "run_eagerly": False,
        "steps_per_execution": 1,
        "jit_compile": False,
        "optimizer_config": optimizer,
    }
    assert today(training, old=False)[0] == training


def test_a_schedule_without_a_name(tmp_path: Path) -> None:
    """tf.keras writes `name: null`."""
    config = {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "staircase": False, "name": None}
    rate = {"class_name": "ExponentialDecay", "config": config}
    optimizer = {"class_name": "SGD", "config": {"learning_rate": rate, "momentum": 0.9, "name": "SGD"}}
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    training = {"optimizer_config": optimizer, "loss": "mse", "metrics": []}
    write(tmp_path / "old.h5", model, GENERATIONS["tf.keras 2.9"], training=training)
    made, _ = imported(tmp_path / "old.h5", tmp_path)
    assert made.notes == []
    said = Document.read(made.directory / "recipe.yaml").value["compile"]["optimizer"]["SGD"]["learning_rate"]
    assert said == {"ExponentialDecay": {"initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5}}
