"""Folds side by side: the histories and figures of one fold after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import loaded
from trainer.runs.directory import RunDirectory
from trainer.train import folds
from trainer.train.job import Options, Outcome, fit, resume
from trainer.train.progress import Stopped
from trainer.train.together import Together

RECIPE = """
name: folds
seed: 3
dataset:
  source: {SOURCE}
  inputs: {INPUTS}
  split: {test: {last: 50}}
  limit: {LIMIT}
model:
  layers: {LAYERS}
compile: {COMPILE}
fit: {epochs: 6, batch_size: 16, kfold: {folds: 4, final: false}}
callbacks: {CALLBACKS}
"""
PARTS = {
    "SOURCE": "digits",
    "INPUTS": "{image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}",
    "LIMIT": "250",
    "LAYERS": "[{Dense: {units: 12, activation: relu}}, {Dense: {units: 10, activation: softmax}}]",
    "COMPILE": "{optimizer: {adam: {learning_rate: 0.01}}, loss: sparse_categorical_crossentropy, metrics: [accuracy]}",
    "CALLBACKS": "[]",
}
NUMBERS = {
    "SOURCE": "diabetes",
    "INPUTS": "{features: {preprocess: [Normalization]}}",
    "LAYERS": "[{Dense: {units: 12, activation: tanh}}, {Dense: {units: 1, use_bias: false}}]",
    "COMPILE": "{optimizer: rmsprop, loss: mse, metrics: [mae]}",
}
DROPOUT = (
    "[{Dense: {units: 12}}, {Activation: {activation: relu}}, {Dropout: {rate: 0.3}}, "
    "{Dense: {units: 10, activation: softmax}}]"
)
CASES: dict[str, dict[str, str]] = {
    "classes": {},
    "numbers": NUMBERS,
    "unequal folds": {"LIMIT": "252"},
    "draws": {"LAYERS": DROPOUT},
    "early stops": {"CALLBACKS": "[{EarlyStopping: {monitor: val_accuracy, patience: 0, min_delta: 0.05}}]"},
    "best weights": {
        "CALLBACKS": "[{EarlyStopping: {monitor: val_accuracy, patience: 1, restore_best_weights: true}}]"
    },
    "rates of their own": {
        "CALLBACKS": "[{ReduceLROnPlateau: {monitor: val_loss, patience: 0, factor: 0.3, min_delta: 0.12}}]"
    },
    "a schedule": {
        "COMPILE": PARTS["COMPILE"].replace(
            "0.01", "{ExponentialDecay: {initial_learning_rate: 0.02, decay_steps: 5, decay_rate: 0.9}}"
        )
    },
    "momentum": {
        "COMPILE": PARTS["COMPILE"].replace("adam: {learning_rate: 0.01}", "SGD: {momentum: 0.9, nesterov: true}")
    },
    "clipped values": {"COMPILE": PARTS["COMPILE"].replace("0.01", "0.01, clipvalue: 0.001")},
}
APART = {
    "norms": {"COMPILE": PARTS["COMPILE"].replace("0.01", "0.01, clipnorm: 1.0")},
    "averages": {"COMPILE": PARTS["COMPILE"].replace("0.01", "0.01, use_ema: true")},
    "other layers": {"LAYERS": PARTS["LAYERS"].replace("}}, {", "}}, BatchNormalization, {")},
    "penalties": {"LAYERS": PARTS["LAYERS"].replace("relu", "relu, kernel_regularizer: l2")},
    "constraints": {"LAYERS": PARTS["LAYERS"].replace("relu", "relu, kernel_constraint: non_neg")},
    "frozen": {"LAYERS": PARTS["LAYERS"].replace("relu", "relu, trainable: false")},
    "each batch": {"CALLBACKS": "[TerminateOnNaN]"},
    "steps that differ": {"LIMIT": "257"},
}


def recipe(changes: dict[str, str]) -> str:
    text = RECIPE
    for name, part in {**PARTS, **changes}.items():
        text = text.replace(f"{{{name}}}", part)
    return text


def run(tmp_path: Path, changes: dict[str, str]) -> Outcome:
    text = recipe(changes)
    return fit(loaded(text), Options(runs=tmp_path, device="cpu"), text.encode())


def one_by_one(tmp_path: Path, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Outcome:
    with monkeypatch.context() as patched:
        patched.setenv("TRAINER_WITHOUT", "together")
        return run(tmp_path / "one", changes)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Together]:
    """What went side by side."""
    found: list[Together] = []

    class Noted(Together):
        def __init__(self, *given: Any):
            super().__init__(*given)
            found.append(self)

    monkeypatch.setattr(folds, "Together", Noted)
    return found


@pytest.mark.parametrize("case", CASES)
def test_side_by_side_as_one_by_one(
    tmp_path: Path, case: str, taken: list[Together], monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = one_by_one(tmp_path, CASES[case], monkeypatch)
    assert not taken
    beside = run(tmp_path, CASES[case])
    assert taken
    assert any(made is not None for made in taken[0].passes.values())
    assert [len(fold["loss"]) for fold in beside.folds] == [len(fold["loss"]) for fold in apart.folds]
    for ours, theirs in zip(beside.folds, apart.folds, strict=True):
        assert list(ours) == list(theirs)
        for name, values in theirs.items():
            np.testing.assert_allclose(ours[name], values, rtol=2e-5, atol=1e-7, err_msg=name)
    for name, value in apart.figures.items():
        np.testing.assert_allclose(beside.figures[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
    for number in range(4):
        assert (beside.directory / f"folds/{number + 1}/history.csv").exists()


def test_folds_stop_at_epochs_of_their_own(tmp_path: Path, taken: list[Together]) -> None:
    """Otherwise the case of early stops above would show nothing."""
    outcome = run(tmp_path, CASES["early stops"])
    assert taken
    assert len({len(fold["loss"]) for fold in outcome.folds}) > 1


@pytest.mark.parametrize("case", APART)
def test_what_must_go_one_by_one(tmp_path: Path, case: str, taken: list[Together]) -> None:
    assert len(run(tmp_path, APART[case]).folds) == 4
    assert not taken


def test_a_stopped_run_ends_as_one_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", {})
    real, done = Together.step, {"steps": 0}

    def counted(self: Together, batches: Any) -> bool:
        made = real(self, batches)
        done["steps"] += 1
        if done["steps"] == 25:
            self.trainings[0].signalled.got = 2  # pyright: ignore[reportFunctionMemberAccess]
        return made

    text = recipe({})
    with monkeypatch.context() as patched:
        patched.setattr(Together, "step", counted)
        with pytest.raises(Stopped):
            fit(loaded(text), Options(runs=tmp_path / "stopped", device="cpu"), text.encode())
    (directory,) = (path for path in (tmp_path / "stopped" / "folds").iterdir() if path.is_dir())
    resumed = resume(RunDirectory(directory), Options(runs=tmp_path, device="cpu"))
    assert resumed.folds == whole.folds
    assert resumed.figures == whole.figures


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    from trainer.errors import EnvironmentFault

    with pytest.raises(EnvironmentFault, match="in epoch"):
        run(tmp_path, {**NUMBERS, "COMPILE": "{optimizer: {sgd: {learning_rate: 1.0e+6}}, loss: mse}"})
